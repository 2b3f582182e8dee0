import { readdir } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type ControllerUnderTest, openController, Pods } from "./controllers.ts";
import { natsNodes } from "./nodes.ts";

// A controller as replicas of which one is active: whatever it answered stands, whoever is the next.

let servers: Awaited<ReturnType<typeof natsNodes>>;
let url: string;
let clusters = 0;
const freshCluster = () => `controller-${clusters++}`;

beforeAll(async () => {
  servers = await natsNodes(1);
  url = servers.nodes[0]?.url ?? "";
});
afterAll(() => servers.close());

const wish = (name: string) => ({ name, slots: 2, capabilities: ["offload"], expiresMs: 600_000, tokenBudget: null });

describe("a controller's home in NATS", () => {
  it("is opened elsewhere as it was left", async () => {
    const cluster = freshCluster();
    const first = await openController(url, cluster);
    await first.grant("g", 2);
    await first.request("1");
    await vi.waitFor(() => expect(first.run("1")?.did).not.toBeNull());
    await first.cleanUp("1");
    await vi.waitFor(() => expect(first.run("1")?.settled).toBe(true));
    const { did } = first.node.core.keyring.identity;
    const { head } = first.node.journal;
    await first.close();
    const second = await openController(url, cluster);
    expect(second.node.core.keyring.identity.did).toBe(did);
    expect(second.node.journal.head).toBeGreaterThanOrEqual(head);
    expect(second.node.journal.report).toEqual({});
    expect(second.held("g")).toMatchObject({ slots: 2, running: [], completed: 1 });
    expect(second.run("1")?.settled).toBe(true);
    expect(second.notes).toEqual([]);
    const { total, verdict } = await second.household.audit.answer({ verify: true, limit: 10 });
    expect(total).toBeGreaterThan(3);
    expect(verdict).toMatchObject({ lines: total, problem: null });
  });

  it("leaves nothing on the machine but the folders of sandboxes", async () => {
    const controller = await openController(url, freshCluster());
    await controller.grant("g", 1);
    await controller.request("1");
    await vi.waitFor(() => expect(controller.run("1")?.did).not.toBeNull());
    expect(await readdir(controller.directory)).toEqual(["sandboxes"]);
  });
});

describe("a controller that takes over", () => {
  it("has every grant that was issued, and the deposed one issues none", async () => {
    const cluster = freshCluster();
    const first = await openController(url, cluster);
    for (let n = 0; n < 5; n++) await first.household.grants.issue(wish(`g${n}`));
    const second = await openController(url, cluster);
    expect(second.household.grants.list().map(({ name }) => name)).toEqual(["g0", "g1", "g2", "g3", "g4"]);
    await expect(first.household.grants.issue(wish("late"))).rejects.toMatchObject({ code: "store_io" });
    await first.deposed;
    await second.household.grants.issue(wish("later"));
    await first.close();
    const third = await openController(url, cluster);
    expect(third.household.grants.list().map(({ name }) => name)).toEqual(["g0", "g1", "g2", "g3", "g4", "later"]);
  });

  it("takes over in the midst of work: no slot too many, no accepted task lost, the record whole", async () => {
    const SLOTS = 3;
    const cluster = freshCluster();
    const pods = new Pods();
    const accepted = new Set<string>();
    let requests = 0;
    /** Asks for one task after the other, and ends each; until the controller refuses to write, or there were so many. */
    const work = async (replica: ControllerUnderTest, upTo: number) => {
      while (requests < upTo) {
        const id = `r${requests++}`;
        await replica.request(id);
        expect(replica.held("g")?.running.length).toBeLessThanOrEqual(SLOTS);
        if (!replica.run(id)) continue;
        accepted.add(id);
        await replica.isUp(id);
        await replica.cleanUp(id);
      }
    };
    let active = await openController(url, cluster, pods);
    await active.grant("g", SLOTS);
    for (let takeover = 0; takeover < 3; takeover++) {
      const before = accepted.size;
      const replica = active;
      const working = Promise.allSettled(Array.from({ length: 6 }, () => work(replica, Number.POSITIVE_INFINITY)));
      await vi.waitFor(() => expect(accepted.size).toBeGreaterThan(before + 20), { timeout: 20_000, interval: 1 });
      const next = await openController(url, cluster, pods);
      await replica.deposed;
      for (const each of await working) expect(each.status).toBe("rejected");
      await replica.close();
      for (const id of accepted) expect(next.run(id), id).toBeDefined();
      // The laptop had no answer, and says again that it is done with what was going on.
      for (const { run, settled } of next.household.controller.list()) if (!settled) await next.cleanUp(run);
      active = next;
    }
    const last = active;
    await Promise.all(Array.from({ length: 6 }, () => work(last, requests + 30)));
    await vi.waitFor(() => expect(last.held("g")?.running).toEqual([]), { timeout: 10_000 });
    for (const id of accepted) expect(last.run(id)?.settled, id).toBe(true);
    expect(pods.running.size).toBe(0);
    expect(pods.most).toBeLessThanOrEqual(SLOTS);
    const { total, verdict } = await last.household.audit.answer({ verify: true, limit: 10 });
    expect(verdict).toMatchObject({ lines: total, problem: null });
  });
});
