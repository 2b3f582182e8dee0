import { type Command, InvalidArgumentError } from "commander";
import type { Replica, ReplicaOptions } from "../cluster/replica.ts";
import { PORT_MAX } from "../limits.ts";
import { clusterName, integer, origin } from "./arguments.ts";
import { tellIsolation } from "./governance.ts";
import { interrupted, interruption } from "./interruption.ts";
import { addNatsBeginning, CLUSTER_DEFAULT, type NatsBeginning, natsOf, withNatsClients } from "./nats.ts";
import { json, line } from "./output.ts";
import { action, type Io } from "./program.ts";
import { addServing, type ServingOptions, servingOf } from "./serving.ts";
import { addWork, type WorkChoice, workOf } from "./work.ts";

// Clusters that stay: all of one on this machine, and replicas of one that keeps everything in NATS.

const PORT_DEFAULT = 7780;

interface ListeningOptions extends ServingOptions {
  readonly host: string;
  readonly port: number;
  readonly name?: string;
  readonly allowUnproven: boolean;
  readonly publicUrl?: string;
}

function addListening(command: Command): Command {
  command
    .option("--host <host>", "the address to listen at", "127.0.0.1")
    .option("--port <port>", "the port of it all; 0 picks a free one", integer(0, PORT_MAX), PORT_DEFAULT)
    .option("--name <cluster>", "the cluster's name (default: local)", clusterName)
    .option("--allow-unproven", "let in old clients too, which do not prove who they are", false)
    .option("--public-url <origin>", "where laptops and sandboxes reach it, when that is not where it listens", origin);
  return addServing(command);
}

export function addUp(program: Command): void {
  const up = program.command("up").description("start the cluster and stay: relay, registry, pairing and sandboxes");
  addNatsBeginning(addWork(addListening(up)))
    .addHelpText(
      "after",
      "\nPrints its addresses as one line of JSON on stdout when it is ready. Ctrl-C ends it and its sandboxes; Jobs go on, and " +
        "are taken up again when it starts again. The --kube options go with --runner-backend kubernetes, which needs " +
        "--kube-image and --public-url: see docs/kubernetes.md. With --nats it is one replica of many, and any of them may " +
        "end: see docs/scale.md.",
    )
    .action(action(start));
}

/** A replica is of the cluster that either option names, since operators name it by the other one. */
function nameOf(io: Io, { name }: ListeningOptions): string {
  const { cluster } = io.nats;
  if (name !== undefined && cluster !== undefined && name !== cluster)
    throw new InvalidArgumentError("--name and --cluster name two clusters: give one of them.");
  return name ?? cluster ?? CLUSTER_DEFAULT;
}

export function addReplicas(program: Command): void {
  const stays = (name: string, description: string) =>
    addListening(program.command(name).description(`${description} of a cluster on NATS, and stay`));
  addNatsBeginning(stays("relay", "start a replica of the relay (/ws)"))
    .addHelpText("after", replicaHelp("relay"))
    .action(action((io, options: ReplicaChoice) => stay(io, options, ["relay"])));
  addNatsBeginning(stays("registry", "start a replica of the registry (/v1)"))
    .addHelpText("after", replicaHelp("registry"))
    .action(action((io, options: ReplicaChoice) => stay(io, options, ["registry"])));
  addNatsBeginning(addWork(stays("controller", "be, or stand by as, the controller")))
    .option("--relay <url>", "where it reaches the relay itself: ws://… or wss://… (default: --public-url)")
    .option("--registry <url>", "where it reaches the registry itself (default: --public-url)")
    .addHelpText("after", replicaHelp("controller"))
    .action(action((io, options: ReplicaChoice & WorkChoice) => stay(io, options, ["controller"], options)));
}

const replicaHelp = (role: string) =>
  `\nIt keeps nothing of its own: start as many as are needed, and end any of them. All of a cluster take the same --nats, --name and --public-url. Prints its addresses as one line of JSON on stdout when it is ready: docs/scale.md.\n\nExample: kars-local ${role} --nats nats://nats-1:4222,nats://nats-2:4222 --name prod --public-url https://mesh.example.org`;

type ReplicaChoice = ListeningOptions & NatsBeginning;

const UNPROVEN =
  "WARNING: --allow-unproven is on. Clients that do not prove that they hold their key are let in: whoever reaches this " +
  "cluster can connect as any DID that was never registered with a proof, take its mail away and its one-time keys. What " +
  "is said stays sealed, and DIDs registered with a proof are as safe as ever.";

const HERE_ALONE =
  "Without --public-url laptops that pair here come to this replica alone, and wait for it when it is gone.";

/** What a service says is for programs to read, all of it, when that was asked for. */
function noteOf(io: Io, { onEvent }: ReturnType<typeof servingOf>): (text: string) => void {
  return (text) => (onEvent ? onEvent("note", { detail: text }) : io.note(text));
}

async function start(io: Io, options: ReplicaChoice & WorkChoice): Promise<void> {
  const { host, port, allowUnproven, publicUrl } = options;
  const name = nameOf(io, options);
  if (natsOf({ ...io.nats, ...options }, name)) {
    await stay(io, options, ["relay", "registry", "controller"], options);
    return;
  }
  const work = workOf(io.directory, options, publicUrl);
  const serving = servingOf(io, options);
  interruption(serving.certificate && "SIGHUP");
  const note = noteOf(io, serving);
  const { openCluster } = await import("../cluster/local.ts");
  const cluster = await openCluster({
    directory: io.directory,
    host,
    port,
    name,
    allowUnproven,
    publicUrl,
    ...work,
    serving,
    onNote: (text) => note(line(text)),
  });
  try {
    tell(io, cluster.urls);
    note(`The cluster ${name} is up. Let a laptop in with kars-local pair generate --name <name>. Ctrl-C ends it.`);
    if (allowUnproven) note(UNPROVEN);
    await tellIsolation({ ...io, note }, cluster);
    await interrupted();
    note(
      work.kubernetes
        ? "Ending the cluster. Its Jobs go on until it starts again."
        : "Ending the cluster and its sandboxes.",
    );
    await cluster.drain();
  } finally {
    await cluster.close();
  }
}

/** Programs start clusters too: the addresses come in one form, whoever asks. */
function tell(io: Io, { relay_url, registry_url, pair_url }: Replica["urls"]): void {
  const urls = { relay_url, registry_url, pair_url };
  io.result(urls, json(urls));
}

/** Is a replica until it is to end. */
async function stay(io: Io, options: ReplicaChoice, roles: ReplicaOptions["roles"], choice?: WorkChoice) {
  const { host, port, allowUnproven, publicUrl } = options;
  const name = nameOf(io, options);
  const nats = natsOf({ ...io.nats, ...options }, name);
  if (!nats) throw new InvalidArgumentError("Say with --nats where NATS is: nats://host:4222.");
  if (publicUrl === undefined && roles.includes("controller") && !roles.includes("registry"))
    throw new InvalidArgumentError("Say with --public-url where laptops and sandboxes reach relays and registries.");
  const serving = servingOf(io, options);
  interruption(serving.certificate && "SIGHUP");
  const note = noteOf(io, serving);
  const { openReplica } = await withNatsClients(() => import("../cluster/replica.ts"));
  const replica = await openReplica({
    nats,
    roles,
    directory: io.directory,
    host,
    port,
    publicUrl,
    places: io.places,
    allowUnproven,
    ...(choice && workOf(io.directory, choice, publicUrl)),
    serving,
    onNote: (text) => note(line(text)),
  });
  try {
    tell(io, replica.urls);
    note(`A replica of the cluster ${name} is up: ${roles.join(", ")}. Ctrl-C ends it, and others go on.`);
    if (allowUnproven) note(UNPROVEN);
    if (publicUrl === undefined && roles.includes("controller")) note(HERE_ALONE);
    await interrupted();
    note("Handing over what it has.");
    await replica.drain();
  } finally {
    await replica.close();
  }
}
