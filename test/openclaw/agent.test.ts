import assert from "node:assert/strict";
import { test } from "node:test";
import { openMesh } from "../../src/actors/mesh.ts";
import { callOnce, startModel, type ToolCall, toolResults } from "./model.ts";
import { openOpenClaw, startCluster, temporaryFolder } from "./openclaw.ts";

// The real agent loop.

test("a model reaches the mesh from a one-shot run, which ends, and from a gateway", async (context) => {
  const model = await startModel(context);
  const { token } = await startCluster(context);
  const openclaw = await openOpenClaw(context, model.config);
  const alice = await openMesh({ home: openclaw.home });
  await alice.call("pair", { token: await token("alice-laptop"), name: "alice" });
  await alice.close();
  const bob = await openMesh({ home: await temporaryFolder(context) });
  context.after(() => bob.close());
  await bob.call("pair", { token: await token("bob-laptop"), name: "bob" });

  const ask = async (where: readonly string[], ...wanted: ToolCall[]) => {
    model.answer = callOnce(...wanted);
    model.requests.length = 0;
    const session = `agent:main:${wanted.map(({ name }) => name).join("-")}`;
    const { code, stdout, stderr } = await openclaw.run([
      "agent",
      ...where,
      "--session-key",
      session,
      "--message",
      "go",
    ]);
    assert.equal(code, 0, `${stdout}\n${stderr}`);
    const last = model.requests.at(-1);
    return last ? toolResults(last) : [];
  };

  const answers = await ask(["--local"], { name: "mesh_send", arguments: { recipient: "bob", text: "from the loop" } });
  assert.match(answers.join(), /It is sent\./);
  assert.ok(model.requests[0]?.tools?.some((tool) => tool.function.name === "cloud_offload"));
  assert.match(JSON.stringify(model.requests[0]?.messages), /mesh-federation/);
  const { messages } = await bob.call("await", { from: ["alice"], timeout_ms: 20_000 });
  assert.equal(messages[0]?.body, "from the loop");

  await bob.call("send", { to: "alice", message: "to the loop" });
  const gateway = await openclaw.gateway();
  const read = await ask(
    [],
    { name: "mesh_await", arguments: { sender: "bob", timeout: "20" } },
    { name: "mesh_send", arguments: { to: "bob" } },
  );
  assert.match(read.join(), /to the loop/);
  assert.match(read.join(), /message/);
  await gateway.stop();
});

test("a model that must look for its tools finds them, and pairs, writes, offloads and waits with them", async (context) => {
  const model = await startModel(context);
  const { token } = await startCluster(context);
  const openclaw = await openOpenClaw(context, { ...model.config, tools: {} });
  const bob = await openMesh({ home: await temporaryFolder(context) });
  context.after(() => bob.close());
  await bob.call("pair", { token: await token("bob-laptop"), name: "bob" });
  const call = (id: string, args: object) => ({ name: "tool_call", arguments: { id, args } });
  const steps = [
    { name: "tool_search", arguments: { query: "message another agent" } },
    call("mesh_pair", { token: await token("alice-laptop") }),
    call("mesh_send", { to: "bob", message: "found it" }),
    call("cloud_offload", { task: "a task that nobody reads" }),
    call("offload_status", { until_done: true }),
    call("mesh_await", { from: ["bob"], timeout_seconds: 60 }),
  ];
  model.answer = (request) => {
    const step = steps[toolResults(request).length];
    return step ? [step] : "All done.";
  };
  const run = openclaw.run(["agent", "--local", "--session-key", "agent:main:search", "--message", "go"]);
  await model.asked((request) => toolResults(request).length === 3);
  const { messages } = await bob.call("await", { from: ["alice"], timeout_ms: 20_000 });
  assert.equal(messages[0]?.body, "found it");
  await bob.call("send", { to: "alice", message: "so it seems" });
  const { code, stdout, stderr } = await run;
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  const results = toolResults(model.requests.at(-1) ?? { messages: [] });
  assert.equal(results.length, steps.length, results.join("\n"));
  assert.ok(!model.requests[0]?.tools?.some((tool) => tool.function.name === "mesh_send"));
  assert.match(results[0] ?? "", /mesh_send/);
  assert.match(results[1] ?? "", /Paired with the cluster \\*"testbed\\*"/);
  assert.match(results[4] ?? "", /: done/);
  assert.match(results[5] ?? "", /so it seems/);
});
