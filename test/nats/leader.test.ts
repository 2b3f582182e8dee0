import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Bus, connectBus } from "../../src/cluster/jetstream/bus.ts";
import { type Leadership, lead } from "../../src/cluster/jetstream/leader.ts";
import { LEASE_MS } from "../../src/cluster/jetstream/limits.ts";
import { natsNodes } from "./nodes.ts";
import { withNats } from "./server.ts";

// One of many replicas is the active one, and soon another when it is gone.

let servers: Awaited<ReturnType<typeof natsNodes>>;
let url: string;
let clusters = 0;
const freshCluster = () => `leader-${clusters++}`;

beforeAll(async () => {
  servers = await natsNodes(1);
  url = servers.nodes[0]?.url ?? "";
});
afterAll(() => servers.close());

/** Replicas of one cluster, and who of them leads, as it happens. */
async function replicas(
  count: number,
  options: { readonly to?: string; readonly fails?: (n: number) => boolean } = {},
) {
  const cluster = freshCluster();
  const log: string[] = [];
  const waiting: { readonly line: string; readonly resolve: () => void }[] = [];
  const say = (line: string) => {
    log.push(line);
    for (const each of waiting) if (each.line === line) each.resolve();
  };
  const said = (line: string) =>
    log.includes(line) ? Promise.resolve() : new Promise<void>((resolve) => waiting.push({ line, resolve }));
  const all: { readonly bus: Bus; readonly leadership: Leadership; readonly signals: AbortSignal[] }[] = [];
  for (let n = 0; n < count; n++) {
    const bus = await connectBus({ servers: options.to ?? url, cluster });
    const signals: AbortSignal[] = [];
    const leadership = await lead(bus, "controller", {
      onElected: async (signal) => {
        signals.push(signal);
        say(`${n} begins`);
        if (options.fails?.(n)) throw new Error("it cannot");
      },
      onDeposed: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        say(`${n} ends`);
      },
    });
    onTestFinished(async () => {
      await leadership.close();
      await bus.close();
    });
    all.push({ bus, leadership, signals });
    if (n === 0) await said("0 begins");
  }
  const [first, second, third] = all;
  return { all, first, second, third, log, said };
}

describe("replicas", () => {
  it("have one that is active, and when it ends in order the next begins behind its end, at once", async () => {
    const { all, first, log, said } = await replicas(2);
    expect(all.map(({ leadership }) => leadership.isLeader)).toEqual([true, false]);
    const begun = performance.now();
    await first?.leadership.close();
    await said("1 begins");
    expect(performance.now() - begun).toBeLessThan(LEASE_MS / 2);
    expect(log).toEqual(["0 begins", "0 ends", "1 begins"]);
    expect(first?.signals.map(({ aborted }) => aborted)).toEqual([true]);
    expect(all.map(({ leadership }) => leadership.isLeader)).toEqual([false, true]);
  });

  it("have another active one when the first is cut off", async () => {
    const { first, second, said } = await replicas(2);
    const begun = performance.now();
    // Its connection is lost for good.
    await first?.bus.close();
    await said("1 begins");
    expect(performance.now() - begun).toBeGreaterThan(LEASE_MS / 2);
    expect(second?.leadership.isLeader).toBe(true);
  });

  it("let another begin when one cannot", async () => {
    const { all, log, said } = await replicas(2, { fails: (n) => n === 0 });
    await said("1 begins");
    expect(log.slice(0, 3)).toEqual(["0 begins", "0 ends", "1 begins"]);
    expect(all.map(({ leadership }) => leadership.isLeader)).toEqual([false, true]);
  });

  it("keep the active one while NATS is away for longer than a lease", async () => {
    const [node] = await withNats(1);
    const { first, log } = await replicas(1, { to: node?.url ?? "" });
    await node?.kill();
    // It is the time that passes which must not matter.
    await new Promise((resolve) => setTimeout(resolve, LEASE_MS + 1_000));
    const attached = new Promise<void>((resolve) => first?.bus.onAttached(resolve));
    await node?.start();
    await attached;
    expect(first?.leadership.isLeader).toBe(true);
    await first?.leadership.close();
    expect(log).toEqual(["0 begins", "0 ends"]);
  });
});
