/** The process that is started beforehand for the next sandbox: it is used once, missed by nobody, and outlives nobody. */
import { afterAll, describe, expect, test, vi } from "vitest";
import { Cluster, Laptop, tidyUp } from "../cli/harness.ts";
import { childrenOf, isAlive } from "../processes.ts";

const PATIENCE = { timeout: 20_000, interval: 20 };

afterAll(tidyUp);

/** The one process that a cluster has started while nothing runs. */
const spareOf = ({ process: { pid } }: Cluster): Promise<number> =>
  vi.waitFor(() => {
    const [spare, ...more] = childrenOf(pid);
    if (spare === undefined || more.length > 0) throw new Error("not one");
    return spare;
  }, PATIENCE);

interface Sandboxes {
  readonly sandboxes: readonly { readonly pid: number | null; readonly ended_at: string | null }[];
}

describe.runIf(process.platform === "linux")("the spare process of a cluster", { timeout: 60_000 }, () => {
  test("becomes the next sandbox, and no other; another takes its place", async () => {
    const cluster = await Cluster.up();
    const alice = new Laptop();
    await alice.json("pair", await cluster.token("alice"));
    const first = await spareOf(cluster);
    await alice.json("offload", "an inventory", "--wait");
    const second = await spareOf(cluster);
    await alice.json("offload", "one more inventory", "--wait");
    const { sandboxes } = await cluster.json<Sandboxes>("sandboxes");
    expect(sandboxes.map(({ pid }) => pid)).toEqual([first, second]);
    expect(isAlive(first)).toBe(false);
    const third = await spareOf(cluster);
    await cluster.process.end();
    expect(isAlive(third)).toBe(false);
  });

  test("is missed by nobody when it is gone", async () => {
    const cluster = await Cluster.up();
    const alice = new Laptop();
    await alice.json("pair", await cluster.token("alice"));
    const spare = await spareOf(cluster);
    process.kill(spare, "SIGKILL");
    await vi.waitFor(() => expect(childrenOf(cluster.process.pid)).toEqual([]), PATIENCE);
    expect(await alice.json("offload", "an inventory", "--wait")).toMatchObject({ status: "done" });
    await cluster.process.end();
  });

  test("ends with a cluster that is killed", async () => {
    const cluster = await Cluster.up();
    const spare = await spareOf(cluster);
    await cluster.process.end("SIGKILL");
    await vi.waitFor(() => expect(isAlive(spare)).toBe(false), PATIENCE);
  });
});
