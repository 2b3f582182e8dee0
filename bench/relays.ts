import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { natsNodes } from "../test/nats/nodes.ts";
import { Addresses, type Process, startProcess } from "./servers.ts";

// Relays in processes of their own, alone with their files or as replicas on a NATS of this machine.

export type Relay = Process<{ readonly relayUrl: string; readonly registryUrl: string }>;

export interface Nats {
  /** `nats://…`, several with commas. */
  readonly servers: string;
  readonly nodes: 1 | 3;
  /** Bytes that its servers have resident. */
  resident(): number;
}

/** Whether this machine has a nats-server. */
export const hasNats = (): boolean => spawnSync("nats-server", ["--version"]).status === 0;

const residentOf = (pid: number | undefined): number =>
  Number(spawnSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" }).stdout) * 1_024;

/** Gives `work` a NATS with its files in a directory, which is gone afterwards. */
export async function withNats<T>(directory: string, count: 1 | 3, work: (nats: Nats) => Promise<T>): Promise<T> {
  await mkdir(directory, { recursive: true });
  const { nodes, close } = await natsNodes(count, directory);
  try {
    return await work({
      servers: nodes.map(({ url }) => url).join(","),
      nodes: count,
      resident: () => nodes.reduce((sum, { pid }) => sum + residentOf(pid), 0),
    });
  } finally {
    await close();
  }
}

/** How a relay is started: where its files lie, and the cluster of a NATS whose replica it is, if it is one. */
export interface Place {
  readonly directory: string;
  readonly nats?: Nats | undefined;
  readonly cluster?: string | undefined;
}

/** Starts a relay, on the port of one that has ended if one is named. */
export async function startRelay({ directory, nats, cluster = "bench" }: Place, port = "0"): Promise<Relay> {
  await mkdir(directory, { recursive: true });
  // What a replica keeps of its own is no other's.
  const own = nats ? await mkdtemp(join(directory, "replica-")) : directory;
  const more = nats ? ["--nats", nats.servers, "--cluster", cluster] : [];
  return startProcess("replica-process.ts", ["--directory", own, "--port", port, ...more], Addresses);
}

/** Gives `work` so many relays of one cluster, which end afterwards. */
export async function withRelays<T>(
  place: Place,
  count: number,
  work: (relays: readonly Relay[]) => Promise<T>,
): Promise<T> {
  const relays: Relay[] = [];
  try {
    while (relays.length < count) relays.push(await startRelay(place));
    return await work(relays);
  } finally {
    await Promise.all(relays.map((relay) => relay.end()));
  }
}
