import assert from "node:assert/strict";
import { test } from "node:test";
import { offered, startModel } from "./model.ts";
import { openOpenClaw } from "./openclaw.ts";
import { TOOLS } from "./tools.ts";

// The person's own policy governs the mesh as it governs everything else, and the mesh stands where OpenClaw's own way from agent
// to agent is closed. One gateway, which takes a changed configuration while it runs.

/** OpenClaw's own: they end at this machine. */
const LOCAL = ["sessions_spawn", "sessions_send"];
const WATCHED = [...LOCAL, ...TOOLS].sort();

test("tools.deny closes OpenClaw's own way from agent to agent, or any of the eight tools, and gives them back", async (context) => {
  const model = await startModel(context);
  const http = { endpoints: { chatCompletions: { enabled: true } } };
  const openclaw = await openOpenClaw(context, { ...model.config, gateway: { http } });
  const gateway = await openclaw.gateway();
  const deny = async (...denied: string[]) => {
    const applied = gateway.logs("config hot reload applied (tools.deny)");
    const tools = { toolSearch: false, ...(denied.length > 0 && { deny: denied }) };
    await openclaw.configure({ ...model.config, gateway: { http }, tools });
    await applied;
  };
  let turns = 0;
  /** What of these the model is offered in a new session. */
  const offers = async () => {
    model.requests.length = 0;
    await gateway.ask(`turn-${++turns}`, "go");
    const [request] = model.requests;
    assert.ok(request);
    return offered(request)
      .filter((name) => WATCHED.includes(name))
      .sort();
  };
  /** Our tools that the gateway knows: before pairing none of them answers with more than an error. */
  const known = async () => {
    const answers = await Promise.all(
      TOOLS.map(async (name) => ({ name, status: (await gateway.invoke(name, {})).status })),
    );
    assert.ok(answers.every(({ status }) => status === 404 || status === 500));
    return answers.filter(({ status }) => status !== 404).map(({ name }) => name);
  };

  assert.deepEqual(await offers(), WATCHED);
  await deny(...LOCAL);
  assert.deepEqual(await offers(), [...TOOLS].sort());
  assert.deepEqual(await known(), TOOLS);

  for (const denied of TOOLS) {
    await deny(denied);
    assert.deepEqual(
      await offers(),
      WATCHED.filter((name) => name !== denied),
    );
    assert.deepEqual(
      await known(),
      TOOLS.filter((name) => name !== denied),
    );
  }

  await deny();
  assert.deepEqual(await offers(), WATCHED);
  assert.deepEqual(await known(), TOOLS);
  await gateway.stop();
});
