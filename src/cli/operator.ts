import { type Command, Option } from "commander";
import { attach } from "../actors/caller.ts";
import type { Mesh } from "../actors/mesh.ts";
import { controllerHome } from "../cluster/directory.ts";
import type { ClusterOperations } from "../cluster/household.ts";
import { natsServers } from "../cluster/jetstream/servers.ts";
import { MeshError } from "../errors.ts";
import { SLOTS_MAX } from "../limits.ts";
import { duration, integer, list } from "./arguments.ts";
import { interruption } from "./interruption.ts";
import { CLUSTER_DEFAULT, natsOf, withNatsClients } from "./nats.ts";
import { age, count, facts, line, table, time } from "./output.ts";
import { action, type Io } from "./program.ts";

// The operator's side of a local cluster: whom it lets in, and what runs.

export function addPairings(program: Command): void {
  const pair = program.command("pair").description("who may join the cluster");
  pair
    .command("generate")
    .description("make a pairing token; it is shown once")
    .addOption(
      new Option(
        "--name <name>",
        "the name of the pairing, and of the laptop unless it takes another",
      ).makeOptionMandatory(),
    )
    .option("--slots <n>", "offloads that may run at once", integer(1, SLOTS_MAX), 1)
    .option("--capabilities <a,b>", "what it may ask for", list, ["offload"])
    .addOption(
      new Option("--expires <duration>", "how long the pairing is good, as 12h or 30d")
        .argParser(duration({ max: "365d" }))
        .default(30 * 86_400_000, "30d"),
    )
    .option(
      "--token-budget <n>",
      "LLM tokens that its offloads may use (default: no bound)",
      integer(0, Number.MAX_SAFE_INTEGER),
    )
    .action(action(generate));
  pair.command("list").description("show all pairings").action(action(listPairings));
  pair.command("inspect").description("show one pairing").argument("<name>", "its name").action(action(inspectPairing));
  pair
    .command("revoke")
    .description("end a pairing: what runs by it ends, and nothing new begins")
    .argument("<name>", "its name")
    .action(action(revoke));
}

export function addWhatRuns(program: Command): void {
  program.command("status").description("show the cluster").action(action(status));
  const sandboxes = program
    .command("sandboxes")
    .description("show the sandboxes, and start or stop those that stand")
    .action(action(listSandboxes));
  sandboxes
    .command("start")
    .description("start a sandbox that stays, and takes tasks by its name: kars-mesh offload --to <name>")
    .argument("<name>", "its name")
    .option("--capabilities <a,b>", "what it is for; a pairing must grant all of it", list, [])
    .action(action(startSandbox));
  sandboxes
    .command("stop")
    .description("end a sandbox that stands; a task that it has fails")
    .argument("<name>", "its name")
    .action(action(stopSandbox));
}

async function openCluster(io: Io): Promise<Mesh<ClusterOperations>> {
  const { openOperator } = await import("../cluster/local.ts");
  return openOperator(io.directory, (text) => io.note(line(text)));
}

/** A cluster as its operator reaches it. */
export type AtCluster = Pick<Mesh<ClusterOperations>, "call" | "close">;

/** The cluster of a directory, or one on NATS where that is named. */
async function reach(io: Io): Promise<AtCluster> {
  const nats = natsOf(io.nats, io.nats.cluster ?? CLUSTER_DEFAULT);
  if (!nats) return (await attach<ClusterOperations>(controllerHome(io.directory))) ?? openCluster(io);
  const { openOperatorOn } = await withNatsClients(() => import("../cluster/jetstream/operator.ts"));
  return openOperatorOn({ ...nats, log: (text) => io.note(line(text)) });
}

export async function atCluster(io: Io, work: (cluster: AtCluster) => Promise<void>): Promise<void> {
  const signal = interruption();
  const visit = async () => {
    const cluster = await reach(io);
    try {
      await work(cluster);
    } finally {
      await cluster.close();
    }
  };
  // What is begun in a directory is brought to its end; what is waited for elsewhere is left to whoever does it.
  await (io.nats.nats === undefined ? visit() : Promise.race([visit(), abortOf(signal)]));
}

const abortOf = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(new MeshError("aborted")), { once: true });
  });

// Pairings

interface GenerateOptions {
  readonly name: string;
  readonly slots: number;
  readonly capabilities: readonly string[];
  readonly expires: number;
  readonly tokenBudget?: number;
}

async function generate(io: Io, { name, slots, capabilities, expires, tokenBudget }: GenerateOptions): Promise<void> {
  await atCluster(io, async (cluster) => {
    const issued = await cluster.call("grant_issue", {
      name,
      slots,
      capabilities: [...capabilities],
      expires_ms: expires,
      token_budget: tokenBudget ?? null,
    });
    io.note(
      `A token for ${name} (${count(slots, "slot")}, ${capabilities.join(", ")}), good until ${time(issued.expires_at)}. It is shown only now; on the laptop: kars-mesh pair <token>`,
    );
    io.result(issued, issued.token);
  });
}

async function listPairings(io: Io): Promise<void> {
  await atCluster(io, async (cluster) => {
    const result = await cluster.call("grants", {});
    const text =
      result.grants.length === 0
        ? "No pairings. Make a token with kars-local pair generate --name <name>."
        : table(
            ["NAME", "PHASE", "SLOTS", "CAPABILITIES", "EXPIRES", "DONE", "FAILED", "DID"],
            result.grants.map((grant) => [
              grant.name,
              grant.phase,
              `${grant.slots_used}/${grant.slots}`,
              grant.capabilities.join(", "),
              age(grant.expires_at),
              String(grant.completed),
              String(grant.failed),
              grant.did ?? "",
            ]),
          );
    io.result(result, text);
  });
}

const showGrant = async (io: Io, cluster: AtCluster, call: "grant" | "grant_revoke", name: string) => {
  const grant = await cluster.call(call, { name });
  const { tokens_used, token_budget } = grant;
  io.result(
    grant,
    facts([
      ["name", grant.name],
      ["phase", grant.phase],
      ["did", grant.did],
      ["slots", `${grant.slots_used} of ${grant.slots} in use`],
      ["capabilities", grant.capabilities.join(", ")],
      ["paired", grant.paired_at === null ? null : `${time(grant.paired_at)} (${age(grant.paired_at)})`],
      ["expires", `${time(grant.expires_at)} (${age(grant.expires_at)})`],
      ["offloads", `${grant.completed} done, ${grant.failed} failed`],
      ["tokens", token_budget === null ? `${tokens_used} used, no bound` : `${tokens_used} of ${token_budget} used`],
    ]),
  );
};

const inspectPairing = (io: Io, name: string) => atCluster(io, (cluster) => showGrant(io, cluster, "grant", name));
const revoke = (io: Io, name: string) => atCluster(io, (cluster) => showGrant(io, cluster, "grant_revoke", name));

// What runs

async function status(io: Io): Promise<void> {
  await atCluster(io, async (cluster) => {
    const result = await cluster.call("cluster_status", {});
    io.result(
      result,
      facts([
        ["cluster", result.name],
        ["state", result.up ? "up" : "down: start it with kars-local up"],
        [
          "WARNING",
          result.allows_unproven ? "clients that do not prove who they are are let in (--allow-unproven)" : null,
        ],
        ["did", result.did],
        ["relay", result.relay_url],
        ["registry", result.registry_url],
        ["pairing", result.pair_url],
        ...tasksOf(result.tasks),
        ["online", result.up ? count(result.online.length, "agent") : null],
        ["pairings", String(result.grants)],
        ["offloads", `${result.running} running`],
        io.nats.nats === undefined
          ? ["directory", io.directory]
          : ["NATS", natsServers(io.nats.nats)?.addresses.join(", ")],
      ]),
    );
  });
}

type Tasks = Awaited<ReturnType<typeof statusOf>>["tasks"];
const statusOf = (cluster: Mesh<ClusterOperations>) => cluster.call("cluster_status", {});

function tasksOf(tasks: Tasks): [string, string | null][] {
  if (tasks === null) return [];
  const { runner, network, hidden, node_permission, policy, limits } = tasks;
  const some = (value: number | null, unit: string) => (value === null ? `any ${unit}` : `${value} ${unit}`);
  return [
    ["tasks", runner === null ? "scripts that are sent along" : `given to ${runner}`],
    ["network", network === "none" ? "none for tasks" : "tasks have that of this machine"],
    ["folders", hidden ? "those of the cluster are hidden from tasks" : "tasks see what this user sees"],
    ["Node", runner !== null ? null : node_permission ? "scripts run under its permission model" : "scripts are free"],
    ["policy", policy ? "asked for each task and each result" : null],
    [
      "limits",
      [
        some(limits.memory_mib, "MiB"),
        some(limits.cpu_minutes, "processor minutes"),
        some(limits.processes, "processes"),
        some(limits.output_mb, "MB written"),
        `${limits.max_minutes} minutes`,
        `${limits.max_file_mb} MB a file`,
      ].join(", "),
    ],
    ...tasks.warnings.map((warning): [string, string] => ["WARNING", warning]),
  ];
}

async function startSandbox(io: Io, name: string, { capabilities }: { capabilities: string[] }): Promise<void> {
  await atCluster(io, async (cluster) => {
    const result = await cluster.call("sandbox_start", { name, capabilities });
    const { state, did, failure } = result;
    const why = failure === null ? "" : `: ${line(failure)}`;
    io.result(
      result,
      state === "ready"
        ? `${name} stands as ${did}.`
        : `${name} is not up yet${why}. kars-local sandboxes shows how it is.`,
    );
  });
}

async function stopSandbox(io: Io, name: string): Promise<void> {
  await atCluster(io, async (cluster) => {
    const result = await cluster.call("sandbox_stop", { name });
    io.result(result, result.stopped ? `${name} is gone.` : `${name} will be gone when its cluster is up again.`);
  });
}

async function listSandboxes(io: Io): Promise<void> {
  await atCluster(io, async (cluster) => {
    const result = await cluster.call("sandboxes", {});
    const standing = table(
      ["STANDING", "STATE", "SINCE", "PID", "CAPABILITIES", "DID", "FAILURE"],
      result.standing.map((sandbox) => [
        sandbox.name,
        sandbox.state,
        age(sandbox.opened_at),
        String(sandbox.pid ?? ""),
        sandbox.capabilities.join(", "),
        sandbox.did ?? "",
        sandbox.failure ?? "",
      ]),
    );
    const tasks =
      result.sandboxes.length === 0
        ? "No sandboxes yet."
        : table(
            ["NAME", "PHASE", "GRANT", "STARTED", "ENDED", "PID", "RUN", "FAILURE"],
            result.sandboxes.map((sandbox) => [
              sandbox.name,
              sandbox.phase,
              sandbox.grant,
              age(sandbox.started_at),
              sandbox.ended_at === null ? "" : age(sandbox.ended_at),
              sandbox.ended_at === null ? String(sandbox.pid ?? "") : "",
              sandbox.run,
              sandbox.failure ?? "",
            ]),
          );
    io.result(result, result.standing.length === 0 ? tasks : `${standing}\n\n${tasks}`);
  });
}
