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
