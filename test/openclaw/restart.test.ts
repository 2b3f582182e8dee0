import assert from "node:assert/strict";
import { test } from "node:test";
import { openMesh } from "../../src/actors/mesh.ts";
import { callOnce, type ModelRequest, startModel, toolResults } from "./model.ts";
import { openOpenClaw, startCluster, temporaryFolder } from "./openclaw.ts";

// A gateway that ends in the middle of things. The agent's run is a process of its own beside the gateway, whose node it uses: one
// of another OpenClaw on the same home, since OpenClaw lets none of its own run beside its gateway.

test("an offload and a wait go on when the gateway restarts", async (context) => {
  const model = await startModel(context);
  const { token } = await startCluster(context);
  const openclaw = await openOpenClaw(context, model.config);
  const beside = await openOpenClaw(context, model.config, { home: openclaw.home });
  const first = await openclaw.gateway();
  const paired = await first.invoke("mesh_pair", { token: await token("alice-laptop") });
  assert.equal(paired.status, 200, first.log());
  const bob = await openMesh({ home: await temporaryFolder(context) });
  context.after(() => bob.close());
  const { did } = await bob.call("pair", { token: await token("bob-laptop"), name: "bob" });

  const wait = { name: "mesh_await", arguments: { from: String(did), timeout_seconds: 200 } };
  const calls = callOnce(
    { name: "cloud_offload", arguments: { task: "a task that nobody reads" } },
    { name: "mesh_send", arguments: { to: String(did), message: "I am waiting" } },
    wait,
  );
  // Bob's message wakes an agent of the gateway too: that one has nothing to wait for.
  const isAsked = (request: ModelRequest) => JSON.stringify(request.messages).includes("wait for bob");
  model.answer = (request) => (isAsked(request) ? calls(request) : "Noted.");
  const run = beside.run(["agent", "--local", "--session-key", "agent:main:wait", "--message", "wait for bob"]);
  await bob.call("await", { from: ["alice"], timeout_ms: 120_000 });
  await first.stop();
  const second = await openclaw.gateway();
  await bob.call("send", { to: "alice", message: "there you are" });
  const { code, stdout, stderr } = await run;
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  const results = toolResults(model.requests.findLast(isAsked) ?? { messages: [] }).join();
  assert.match(results, /there you are/);
  const id = /offload_id: ([0-9a-f-]{36})/.exec(results)?.[1];

  const ended = await second.invoke("offload_status", { offload_id: id, until_done: true });
  assert.equal(ended.status, 200, second.log());
  assert.match(JSON.stringify(ended.body), /"offload_status":"done"/);
  await second.stop();
});
