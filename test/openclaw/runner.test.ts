import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openMesh } from "../../src/actors/mesh.ts";
import { startModel } from "./model.ts";
import { openOpenClaw, startCluster, temporaryFolder } from "./openclaw.ts";

// A cluster whose sandboxes hand their task to an agent: an OpenClaw, with a model behind it.

test("an offload whose runner is an OpenClaw agent comes back with the agent's answer", async (context) => {
  const model = await startModel(context);
  const agent = await openOpenClaw(context, { ...model.config, plugins: { enabled: false } });
  const runner = join(agent.folder, "runner.sh");
  await writeFile(
    runner,
    `task=$(cat) && exec sh '${agent.script}' agent --local --session-key agent:main:task --message "$task"\n`,
  );
  const { token } = await startCluster(context, { runner: `sh '${runner}'` });
  const laptop = await openMesh({ home: await temporaryFolder(context) });
  context.after(() => laptop.close());
  await laptop.call("pair", { token: await token("laptop"), name: "laptop" });

  const question = "How many legs has a millipede, the plain truth?";
  model.answer = () => "Never a thousand, except for one.";
  const { offload_id } = await laptop.call("offload", { task: question });
  const view = await laptop.call("offload_status", { id: offload_id, wait_ms: 200_000, until_over: true });
  assert.ok("status" in view);
  assert.equal(view.status, "done", JSON.stringify(view));
  assert.match(String(view.summary), /Never a thousand, except for one\./);
  assert.ok(model.requests.some(({ messages }) => JSON.stringify(messages).includes(question)));
});
