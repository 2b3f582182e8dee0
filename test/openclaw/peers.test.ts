import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { openMesh } from "../../src/actors/mesh.ts";
import { type Model, startModel, toolResults } from "./model.ts";
import { openOpenClaw, startCluster } from "./openclaw.ts";

// Two people, each with an OpenClaw: one agent asks, the other is woken, answers, and the first is woken by the answer.

type Cluster = Awaited<ReturnType<typeof startCluster>>;

async function join(context: TestContext, cluster: Cluster, name: string) {
  const model = await startModel(context);
  const openclaw = await openOpenClaw(context, model.config, { name });
  const mesh = await openMesh({ home: openclaw.home });
  await mesh.call("pair", { token: await cluster.token(`${name}-laptop`), name });
  await mesh.close();
  return { model, openclaw, gateway: await openclaw.gateway() };
}

const resultsIn = (model: Model, words: string) =>
  model.asked((request) => toolResults(request).some((result) => result.includes(words)));

test("two OpenClaws on two homes talk, each agent woken by the other", async (context) => {
  const cluster = await startCluster(context);
  const alice = await join(context, cluster, "alice");
  const bob = await join(context, cluster, "bob");

  // What woke it is news of a message: it reads it, and answers when it has.
  bob.model.answer = (request) => {
    const results = toolResults(request).join();
    if (!results.includes("what is the answer?")) return [{ name: "mesh_inbox", arguments: {} }];
    if (!results.includes("It is sent."))
      return [{ name: "mesh_send", arguments: { to: "alice", message: "forty-two" } }];
    return "NO_REPLY";
  };
  let isAsked = false;
  alice.model.answer = (request) => {
    const results = toolResults(request).join();
    if (!isAsked) {
      isAsked = true;
      return [{ name: "mesh_send", arguments: { to: "bob", message: "what is the answer?" } }];
    }
    const { role, content } = request.messages.at(-1) ?? {};
    const isTold = role === "user" && JSON.stringify(content).includes("unread message");
    return isTold && !results.includes("forty-two") ? [{ name: "mesh_inbox", arguments: {} }] : "NO_REPLY";
  };
  const asked = alice.openclaw.run(["agent", "--session-key", "agent:main:ask", "--message", "ask bob"]);
  await resultsIn(bob.model, "what is the answer?");
  await resultsIn(alice.model, "forty-two");
  assert.equal((await asked).code, 0);
  await Promise.all([alice.gateway.stop(), bob.gateway.stop()]);
});
