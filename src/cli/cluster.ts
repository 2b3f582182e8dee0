import { type Command, InvalidArgumentError, Option } from "commander";
import type { KubernetesChoice } from "../cluster/kubernetes/open.ts";
import { DEFAULT_LIMITS, JOB_LIMITS } from "../cluster/runner/rules.ts";
import { PORT_MAX } from "../limits.ts";
import { image, integer, label, origin } from "./arguments.ts";
import { addGovernance, type GovernanceOptions, governanceOf, tellIsolation } from "./governance.ts";
import { interrupted, interruption } from "./interruption.ts";
import { json, line } from "./output.ts";
import { action, type Io } from "./program.ts";
import { addServing, type ServingOptions, servingOf } from "./serving.ts";

const PORT_DEFAULT = 7780;

export function addUp(program: Command): void {
  const up = program
    .command("up")
    .description("start the cluster and stay: relay, registry, pairing and sandboxes")
    .option("--host <host>", "the address to listen at", "127.0.0.1")
    .option("--port <port>", "the port of it all; 0 picks a free one", integer(0, PORT_MAX), PORT_DEFAULT)
    .option("--runner <agent>", "openclaw, claude, codex or a command: what tasks are given to, on its standard input")
    .option("--name <cluster>", "the cluster's name", "local")
    .option("--allow-unproven", "let in old clients too, which do not prove who they are", false)
    .option("--public-url <origin>", "where laptops and sandboxes reach it, when that is not where it listens", origin)
    .addOption(
      new Option(
        "--runner-backend <where>",
        "where sandboxes run: processes of this machine, or Jobs of a Kubernetes cluster",
      )
        .choices(["process", "kubernetes"])
        .default("process"),
    )
    .option("--kube-image <image>", "the image of the sandboxes", image)
    .option("--kube-namespace <namespace>", "the namespace of the sandboxes (default: kars-sandboxes)", label)
    .option("--kube-context <context>", "the kubeconfig's context (default: its current one)");
  addServing(up);
  addGovernance(up)
    .addHelpText(
      "after",
      "\nPrints its addresses as one line of JSON on stdout when it is ready. Ctrl-C ends it and its sandboxes; Jobs go on, and " +
        "are taken up again when it starts again. The --kube options go with --runner-backend kubernetes, which needs " +
        "--kube-image and --public-url: see docs/kubernetes.md.",
    )
    .action(action(start));
}

interface UpOptions extends GovernanceOptions, ServingOptions {
  readonly host: string;
  readonly port: number;
  readonly name: string;
  readonly runner?: string;
  readonly allowUnproven: boolean;
  readonly publicUrl?: string;
  readonly runnerBackend: string;
  readonly kubeImage?: string;
  readonly kubeNamespace?: string;
  readonly kubeContext?: string;
}

/** What is said of Kubernetes; undefined when sandboxes are processes of this machine. */
function kubernetesOf(options: UpOptions): KubernetesChoice | undefined {
  const { runnerBackend, publicUrl, kubeImage, kubeNamespace, kubeContext } = options;
  if (runnerBackend !== "kubernetes") {
    if (kubeImage !== undefined || kubeNamespace !== undefined || kubeContext !== undefined)
      throw new InvalidArgumentError("The --kube options go with --runner-backend kubernetes.");
    return undefined;
  }
  if (kubeImage === undefined)
    throw new InvalidArgumentError("Name the image of the sandboxes with --kube-image; deploy/Dockerfile makes one.");
  if (publicUrl === undefined)
    throw new InvalidArgumentError(
      "Pods do not reach this address: say with --public-url where they reach the cluster.",
    );
  return { image: kubeImage, namespace: kubeNamespace, context: kubeContext };
}

const UNPROVEN =
  "WARNING: --allow-unproven is on. Clients that do not prove that they hold their key are let in: whoever reaches this " +
  "cluster can connect as any DID that was never registered with a proof, take its mail away and its one-time keys. What " +
  "is said stays sealed, and DIDs registered with a proof are as safe as ever.";

async function start(io: Io, options: UpOptions): Promise<void> {
  const { host, port, name, runner, allowUnproven, publicUrl } = options;
  const kubernetes = kubernetesOf(options);
  const serving = servingOf(io, options);
  interruption(serving.certificate && "SIGHUP");
  // What a service says is for programs to read, all of it.
  const note = (text: string) => (serving.onEvent ? serving.onEvent("note", { detail: text }) : io.note(text));
  const { openCluster } = await import("../cluster/local.ts");
  const cluster = await openCluster({
    directory: io.directory,
    host,
    port,
    name,
    allowUnproven,
    publicUrl,
    kubernetes,
    governance: governanceOf(io.directory, runner ?? null, options, kubernetes ? JOB_LIMITS : DEFAULT_LIMITS),
    ...(runner === undefined ? {} : { runner }),
    serving,
    onNote: (text) => note(line(text)),
  });
  try {
    const { relay_url, registry_url, pair_url } = cluster.urls;
    const urls = { relay_url, registry_url, pair_url };
    // Programs start clusters too: the addresses come in one form, whoever asks.
    io.result(urls, json(urls));
    note(`The cluster ${name} is up. Let a laptop in with kars-local pair generate --name <name>. Ctrl-C ends it.`);
    if (allowUnproven) note(UNPROVEN);
    await tellIsolation({ ...io, note }, cluster);
    await interrupted();
    note(
      kubernetes
        ? "Ending the cluster. Its Jobs go on until it starts again."
        : "Ending the cluster and its sandboxes.",
    );
    await cluster.drain();
  } finally {
    await cluster.close();
  }
}
