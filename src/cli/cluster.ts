import type { Command } from "commander";
import { PORT_MAX } from "../limits.ts";
import { integer } from "./arguments.ts";
import { addGovernance, type GovernanceOptions, governanceOf, tellIsolation } from "./governance.ts";
import { interrupted, interruption } from "./interruption.ts";
import { json, line } from "./output.ts";
import { action, type Io } from "./program.ts";

const PORT_DEFAULT = 7780;

export function addUp(program: Command): void {
  const up = program
    .command("up")
    .description("start the cluster and stay: relay, registry, pairing and sandboxes")
    .option("--host <host>", "the address to listen at", "127.0.0.1")
    .option("--port <port>", "the port of it all; 0 picks a free one", integer(0, PORT_MAX), PORT_DEFAULT)
    .option("--runner <agent>", "openclaw, claude, codex or a command: what tasks are given to, on its standard input")
    .option("--name <cluster>", "the cluster's name", "local")
    .option("--allow-unproven", "let in old clients too, which do not prove who they are", false);
  addGovernance(up)
    .addHelpText(
      "after",
      "\nPrints its addresses as one line of JSON on stdout when it is ready. Ctrl-C ends it and its sandboxes.",
    )
    .action(action(start));
}

interface UpOptions extends GovernanceOptions {
  readonly host: string;
  readonly port: number;
  readonly name: string;
  readonly runner?: string;
  readonly allowUnproven: boolean;
}

const UNPROVEN =
  "WARNING: --allow-unproven is on. Clients that do not prove that they hold their key are let in: whoever reaches this " +
  "cluster can connect as any DID that was never registered with a proof, take its mail away and its one-time keys. What " +
  "is said stays sealed, and DIDs registered with a proof are as safe as ever.";

async function start(io: Io, { host, port, name, runner, allowUnproven, ...options }: UpOptions): Promise<void> {
  interruption();
  const { openCluster } = await import("../cluster/local.ts");
  const cluster = await openCluster({
    directory: io.directory,
    host,
    port,
    name,
    allowUnproven,
    governance: governanceOf(io.directory, runner ?? null, options),
    ...(runner === undefined ? {} : { runner }),
    onNote: (text) => io.note(line(text)),
  });
  try {
    const { relay_url, registry_url, pair_url } = cluster.urls;
    const urls = { relay_url, registry_url, pair_url };
    // Programs start clusters too: the addresses come in one form, whoever asks.
    io.result(urls, json(urls));
    io.note(`The cluster ${name} is up. Let a laptop in with kars-local pair generate --name <name>. Ctrl-C ends it.`);
    if (allowUnproven) io.note(UNPROVEN);
    await tellIsolation(io, cluster);
    await interrupted();
    io.note("Ending the cluster and its sandboxes.");
  } finally {
    await cluster.close();
  }
}
