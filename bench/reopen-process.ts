import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { MeshNode } from "../src/actors/node.ts";
import { type ParamsOf, runOperation } from "../src/actors/operation.ts";
import { type Operations, operations } from "../src/actors/operations.ts";
import { type Network, realPorts } from "../src/actors/ports.ts";

// One process that opens a home, or reads its journal: what it prints is how long that took and how much memory it had.

const nowhere: Network = {
  dial: (_, events) => {
    queueMicrotask(() => events.closed(1006, "no network"));
    return { send: () => undefined, ping: () => undefined, buffered: 0, close: () => undefined };
  },
  fetch: () => Promise.reject(new TypeError("fetch failed")),
};

const [role = "", home = ""] = process.argv.slice(2);

const call = <N extends keyof Operations>(node: MeshNode, name: N, params: ParamsOf<Operations, N>) =>
  runOperation(operations, name, params, { node, signal: AbortSignal.timeout(60_000), progress: () => undefined });

async function work(): Promise<{ readonly ms: number; readonly found?: unknown }> {
  const begin = performance.now();
  if (role === "read") {
    const directory = join(home, "journal");
    for (const name of (await readdir(directory)).sort()) await readFile(join(directory, name));
    return { ms: performance.now() - begin };
  }
  const node = await MeshNode.open({ home, ports: realPorts(nowhere) });
  const ms = performance.now() - begin;
  if (role === "open") return { ms };
  // Folded without snapshots: the clean stop writes them.
  if (role === "fold") {
    await node.close();
    return { ms };
  }
  const inbox = (await call(node, "inbox", { limit: 3 })) as { messages: { body: string }[]; unread: number };
  const { peers } = (await call(node, "peers", {})) as { peers: { did: string; sent: number }[] };
  const [peer] = peers;
  const sent = (await call(node, "send", { to: peer?.did ?? "", message: "still there?" })) as { state: string };
  await node.close();
  const bodies = inbox.messages.map(({ body }) => body.length);
  return { ms, found: { unread: inbox.unread, bodies, peers: peers.length, sent: sent.state } };
}

const result = await work();
process.stdout.write(JSON.stringify({ ...result, memory: process.resourceUsage().maxRSS * 1024 }));
// A node that was only opened has nothing to end.
process.exit(0);
