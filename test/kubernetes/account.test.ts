import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished, vi } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { openHousehold } from "../../src/cluster/household.ts";
import type { SandboxHooks } from "../../src/cluster/sandboxes.ts";
import type { RunContext } from "../../src/machines/run/events.ts";
import { OffloadRequest, type Payload, type TaskNews } from "../../src/wire/payload.ts";

// Whom the controller believes about a task that runs elsewhere, and how often.

const LAPTOP = `did:mesh:${"a".repeat(32)}`;
const didOf = (run: string) => `did:mesh:${run.padEnd(32, "0")}`;
const URLS = {
  relay_url: "ws://127.0.0.1:1",
  registry_url: "http://127.0.0.1:1",
  pair_url: "http://127.0.0.1:1/v1/pair",
};

/** A controller whose sandboxes are on the mesh as soon as they are asked for. */
async function controller() {
  const directory = mkdtempSync(join(tmpdir(), "kars-account-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  const hooks = new Map<string, SandboxHooks>();
  const { node, household } = await openHousehold({
    directory,
    ports: realPorts(realNetwork),
    backend: {
      async spawn({ run }, told) {
        hooks.set(run, told);
        setImmediate(() => told.ready(didOf(run)));
        return { pid: null, end: () => setImmediate(() => told.exited(null)) };
      },
    },
    cluster: "test",
    runner: null,
    urls: () => URLS,
    online: () => [],
    onNote: () => undefined,
  });
  onTestFinished(() => node.close());
  const { system } = node.core;
  node.start();
  const membership = { cluster: "test", relayUrl: URLS.relay_url, registryUrl: URLS.registry_url };
  node.membership
    .join({ controller: null, ...membership, name: "test-controller", capabilities: ["controller"] })
    .catch(() => undefined);
  const wish = { name: "g", slots: 2, capabilities: ["offload"], expiresMs: 600_000, tokenBudget: null };
  await household.grants.issue(wish);
  await system.commit([{ stream: "grant/g", event: { type: "BOUND", did: LAPTOP, name: "g" } }]).durable;
  let count = 0;
  const word = async (peer: string, payload: Payload) => {
    const draft = await household.controller.handle({ peer, payload, id: `${count++}` });
    if (draft) await system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  };
  const run = (id: string): RunContext | undefined => system.state(`run/${id}`)?.snapshot.context;
  const begin = async (id: string) => {
    await word(LAPTOP, OffloadRequest.parse({ type: "offload_request", request_id: id, task: "t" }));
    await vi.waitFor(() => expect(run(id)?.did).toBe(didOf(id)));
  };
  const news = (peer: string, id: string, said: TaskNews) =>
    word(peer, { type: "mesh:task_news", request_id: id, news: said });
  const end = async (id: string) => {
    await word(LAPTOP, { type: "offload_cleanup", request_id: id, reason: "done" });
    await vi.waitFor(() => expect(run(id)?.settled).toBe(true));
  };
  return { run, begin, news, end, used: () => household.grants.view("g").tokens_used };
}

const ended: TaskNews = { type: "ended", ok: true, exit: 0, code: null, reason: null };
const used = (tokens: number): TaskNews => ({ type: "used", tokens });

it("the sandbox of a run is believed about that run, and nobody else", async () => {
  const { run, begin, news } = await controller();
  await begin("1");
  await begin("2");
  for (const peer of [LAPTOP, didOf("2"), didOf("3")])
    for (const said of [{ type: "begun", files: 1, bytes: 1 } as const, used(9), ended]) await news(peer, "1", said);
  await news(didOf("1"), "no-such-run", used(9));
  expect(run("1")).toMatchObject({ begun: false, tokens: 0, result: null });
  await news(didOf("1"), "1", ended);
  expect(run("1")).toMatchObject({ result: { ok: true, exit: 0 } });
});

it("a sum of tokens that comes twice, or behind a later one, counts once; after its run was settled, not at all", async () => {
  const { run, begin, news, end, used: total } = await controller();
  await begin("1");
  for (const tokens of [10, 10, 30, 20, 30]) await news(didOf("1"), "1", used(tokens));
  expect(total()).toBe(30);
  await end("1");
  await news(didOf("1"), "1", used(50));
  await news(didOf("1"), "1", ended);
  expect([total(), run("1")?.tokens, run("1")?.result]).toEqual([30, 30, null]);
});
