import { type Command, InvalidArgumentError, Option } from "commander";
import { readAuthorities } from "../actors/authorities.ts";
import type { WorkOptions } from "../cluster/controlling.ts";
import type { KubernetesChoice } from "../cluster/kubernetes/open.ts";
import { DEFAULT_LIMITS, JOB_LIMITS } from "../cluster/runner/rules.ts";
import { image, label } from "./arguments.ts";
import { addGovernance, type GovernanceOptions, governanceOf } from "./governance.ts";

// How a cluster runs tasks, as options of whatever runs a controller.

export interface WorkChoice extends GovernanceOptions {
  readonly runner?: string;
  readonly runnerBackend: string;
  readonly tlsCa?: string;
  readonly kubeImage?: string;
  readonly kubeNamespace?: string;
  readonly kubeContext?: string;
}

export function addWork(command: Command): Command {
  command
    .option("--runner <agent>", "openclaw, claude, codex or a command: what tasks are given to, on its standard input")
    .addOption(
      new Option(
        "--runner-backend <where>",
        "where sandboxes run: processes of this machine, or Jobs of a Kubernetes cluster",
      )
        .choices(["process", "kubernetes"])
        .default("process"),
    )
    .option("--tls-ca <file>", "the authority that signed the cluster's certificate, for its sandboxes to trust; PEM")
    .option("--kube-image <image>", "the image of the sandboxes", image)
    .option("--kube-namespace <namespace>", "the namespace of the sandboxes (default: kars-sandboxes)", label)
    .option("--kube-context <context>", "the kubeconfig's context (default: its current one)");
  return addGovernance(command);
}

/** What is said of Kubernetes; undefined when sandboxes are processes of this machine. */
function kubernetesOf(options: WorkChoice, publicUrl: string | undefined): KubernetesChoice | undefined {
  const { runnerBackend, kubeImage, kubeNamespace, kubeContext } = options;
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

/** @param directory the cluster's own */
export function workOf(directory: string, options: WorkChoice, publicUrl: string | undefined): WorkOptions {
  const { runner } = options;
  const kubernetes = kubernetesOf(options, publicUrl);
  const limits = kubernetes ? JOB_LIMITS : DEFAULT_LIMITS;
  return {
    kubernetes,
    governance: governanceOf(directory, runner ?? null, options, limits),
    ...(runner === undefined ? {} : { runner }),
    ...(options.tlsCa === undefined ? {} : { authorities: readAuthorities(options.tlsCa) }),
  };
}
