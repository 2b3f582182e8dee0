import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openBalancer } from "./balancer.ts";
import { ourPair, type Pair, publishedPair, SDK_FOLDER } from "./load.ts";
import { type Namespace, openNamespace } from "./namespace.ts";
import { freePort, natsNodes } from "./nodes.ts";
import { type Replica, replica } from "./replica.ts";

// npm run test:replicas [-- --pairs N] [--calm-seconds N]
//
// Three replicas over a NATS of three under a steady load, while replicas, then nodes of NATS, are killed and come back, one
// replica is cut off in a network namespace, and at last everything is restarted in turn. Nothing that was accepted may be
// lost, come twice or out of order. Says how long each took to heal, and ends with 1 where a promise was broken.

const PATIENCE_MS = 60_000;

const { values } = parseArgs({
  options: { pairs: { type: "string", default: "4" }, "calm-seconds": { type: "string", default: "4" } },
});
const pairCount = Number(values.pairs);
const calmMs = Number(values["calm-seconds"]) * 1000;

const tell = (line: string) => process.stdout.write(`${line}\n`);
const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** Resolves when every pair has heard something anew. Gives the milliseconds that it took. */
async function healed(pairs: readonly Pair[]): Promise<number> {
  const begun = Date.now();
  const before = pairs.map((pair) => pair.heard());
  while (!pairs.every((pair, n) => pair.heard() > (before[n] ?? 0))) {
    if (Date.now() - begun > PATIENCE_MS) {
      const silent = pairs.filter((pair, n) => pair.heard() <= (before[n] ?? 0));
      const why = silent.map(({ name, violations }) => [name, ...violations.slice(0, 3)].join(": "));
      throw new Error(`nothing arrives any more: ${why.join("; ")}`);
    }
    await pause(20);
  }
  return Date.now() - begun;
}

async function main(): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), "kars-chaos-"));
  const replicas: Replica[] = [];
  const closers: (() => Promise<void> | void)[] = [() => rm(directory, { recursive: true, force: true })];
  try {
    let namespace: Namespace | undefined;
    try {
      namespace = openNamespace();
      closers.push(() => namespace?.remove());
    } catch (error) {
      tell(`no network namespace here, so nobody is cut off: ${error instanceof Error ? error.message : error}`);
    }
    const { nodes, close } = await natsNodes(3, tmpdir(), namespace ? "0.0.0.0" : "127.0.0.1", namespace?.outer);
    closers.push(close);
    const natsAt = (host: string) => nodes.map(({ port }) => `nats://${host}:${port}`).join(",");
    const ports = [await freePort(), await freePort(), await freePort()];
    const targets = ports.map((port, n) => ({ host: n === 2 && namespace ? namespace.inner : "127.0.0.1", port }));
    const balancer = await openBalancer(targets);
    closers.push(() => balancer.close());
    const origin = `http://127.0.0.1:${balancer.port}`;
    for (const [n, { host, port }] of targets.entries()) {
      const inside = n === 2 ? namespace : undefined;
      const each = await replica({
        name: `r${n}`,
        host,
        port,
        nats: natsAt(inside?.outer ?? "127.0.0.1"),
        publicUrl: origin,
        ...(inside && { namespace: inside.name }),
      });
      closers.push(() => each.remove());
      replicas.push(each);
    }
    await Promise.all(replicas.map((each) => each.start()));
    tell(`three replicas on a NATS of three, ${namespace ? "one of them in a namespace" : "on one network"}`);
    await balancer.allReady();

    const servers = { relayUrl: `ws://127.0.0.1:${balancer.port}`, registryUrl: origin };
    const pairs: Pair[] = [];
    for (let n = 0; n < pairCount; n++) pairs.push(await ourPair(servers, directory, `pair-${n}`, PATIENCE_MS));
    if (existsSync(`${SDK_FOLDER}node_modules`)) pairs.push(await publishedPair(servers, PATIENCE_MS));
    else tell("the published client is not installed (npm run test:interop installs it): nobody speaks for it");
    closers.push(async () => {
      for (const pair of pairs) await pair.close();
    });
    await healed(pairs);

    const [first, second, third] = replicas;
    if (!first || !second || !third) throw new Error("three replicas");
    const gaps = () => pairs.map((pair) => pair.longestGap());
    async function during(what: string, work: () => Promise<void>): Promise<void> {
      gaps();
      await work();
      await balancer.allReady();
      await healed(pairs);
      await pause(calmMs);
      const longest = gaps();
      const heard = pairs.reduce((sum, pair) => sum + pair.heard(), 0);
      tell(
        `${what}: the longest silence of a pair was ${Math.max(...longest)} ms (${longest.join(", ")}); ${heard} messages heard by now`,
      );
    }

    await during("calm", () => pause(calmMs));
    await during("a replica is killed and comes back", async () => {
      await first.kill();
      await healed(pairs);
      await first.start();
    });
    // A plain client has a message then, and no sign of that has left this process when the replica dies.
    await during("each replica is killed just when a message has arrived", async () => {
      for (const each of replicas) {
        await new Promise<void>((resolve) => pairs.at(-1)?.onNext(() => resolve(each.kill())));
        await healed(pairs);
        await each.start();
        await balancer.allReady();
      }
    });
    for (const [n, node] of nodes.entries()) {
      await during(`node ${n} of NATS is killed and comes back`, async () => {
        await node.kill();
        await healed(pairs);
        await pause(calmMs);
        await node.start();
      });
    }
    if (namespace) {
      const { cut, mend } = namespace;
      await during("a replica is cut off from NATS for 15 s", async () => {
        cut("nats");
        await pause(15_000);
        await healed(pairs);
        mend("nats");
      });
      await during("a replica is cut off from everyone for 15 s", async () => {
        cut("nats");
        cut("clients");
        await pause(15_000);
        await healed(pairs);
        mend("nats");
        mend("clients");
      });
    }
    await during("everything is restarted in turn", async () => {
      for (const each of replicas) {
        tell(`  ${each.name} drained in ${await each.stop()} ms`);
        await each.start();
        await balancer.allReady();
      }
      for (const node of nodes) {
        await node.stop();
        await node.start();
        await healed(pairs);
        await pause(calmMs);
      }
    });
    await Promise.all(pairs.map((pair) => pair.settle()));
    for (const pair of pairs) tell(`${pair.name}: ${pair.said()} said, ${pair.heard()} heard`);
    const violations = pairs.flatMap((pair) => pair.violations);
    for (const violation of violations.slice(0, 50)) tell(`BROKEN: ${violation}`);
    if (violations.length > 0) for (const each of replicas) tell(`-- ${each.name}\n${each.said()}`);
    tell(
      violations.length === 0 ? "Nothing was lost, doubled or out of order." : `${violations.length} broken promises`,
    );
    return violations.length === 0 ? 0 : 1;
  } catch (error) {
    for (const each of replicas) tell(`-- ${each.name}\n${each.said()}`);
    throw error;
  } finally {
    for (const close of closers.toReversed()) await close();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  tell(`BROKEN: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
