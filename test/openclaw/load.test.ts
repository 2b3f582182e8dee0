import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { z } from "zod";
import { openMesh } from "../../src/actors/mesh.ts";
import { openOpenClaw, packageFolder, startCluster, temporaryFolder } from "./openclaw.ts";
import { TOOLS } from "./tools.ts";

const Inspection = z.object({
  plugin: z.object({ status: z.string() }),
  tools: z.array(z.object({ names: z.array(z.string()) })),
  services: z.array(z.unknown()),
  diagnostics: z.array(z.object({ level: z.string() })),
});
const Skills = z.object({
  skills: z.array(z.object({ name: z.string(), eligible: z.boolean(), modelVisible: z.boolean() })),
});
const Skill = z.object({ name: z.string(), always: z.boolean() });
const Invoked = z.object({
  ok: z.literal(true),
  result: z.object({
    content: z.array(z.object({ type: z.literal("text"), text: z.string() })),
    details: z.record(z.string(), z.unknown()),
  }),
});

test("OpenClaw loads the plugin with its tools, its service and its skill", async (context) => {
  const openclaw = await openOpenClaw(context);
  const inspected = await openclaw.run(["plugins", "inspect", "kars-mesh", "--runtime", "--json"]);
  const { plugin, tools, services, diagnostics } = Inspection.parse(JSON.parse(inspected.stdout));
  assert.equal(plugin.status, "loaded");
  assert.deepEqual(
    tools.flatMap(({ names }) => names),
    TOOLS,
  );
  assert.equal(services.length, 1);
  assert.deepEqual(
    diagnostics.filter(({ level }) => level === "error"),
    [],
  );
  assert.equal(existsSync(openclaw.home), false);

  const listed = await openclaw.run(["skills", "list", "--json"]);
  const skill = Skills.parse(JSON.parse(listed.stdout)).skills.find(({ name }) => name === "mesh-federation");
  assert.deepEqual(skill, { name: "mesh-federation", eligible: true, modelVisible: true });
  const told = await openclaw.run(["skills", "info", "mesh-federation", "--json"]);
  assert.equal(Skill.parse(JSON.parse(told.stdout)).always, true);
});

test("a folder dropped into .openclaw-data/extensions loads where the extensions are a link to it", async (context) => {
  const openclaw = await openOpenClaw(context, { plugins: {} });
  // As images of NemoClaw and kars have it: what may be written lies beside what may not.
  const place = join(openclaw.folder, ".openclaw-data/extensions");
  await cp(packageFolder, join(place, "kars-mesh"), { recursive: true });
  await mkdir(join(openclaw.folder, "state"), { recursive: true });
  await symlink(place, join(openclaw.folder, "state/extensions"));
  const inspected = await openclaw.run(["plugins", "inspect", "kars-mesh", "--runtime", "--json"]);
  const { plugin, tools } = Inspection.parse(JSON.parse(inspected.stdout));
  assert.equal(plugin.status, "loaded", inspected.stdout);
  assert.deepEqual(
    tools.flatMap(({ names }) => names),
    TOOLS,
  );
});

test("a gateway pairs, discovers, sends, receives and awaits", async (context) => {
  const { token } = await startCluster(context);
  const [errand, homes] = [await temporaryFolder(context), await temporaryFolder(context)];
  const config = { home: join(homes, "mesh"), name: "alice", uploadRoots: [errand] };
  const plugins = { load: { paths: [packageFolder] }, entries: { "kars-mesh": { enabled: true, config } } };
  const openclaw = await openOpenClaw(context, { plugins }, { home: config.home });
  const gateway = await openclaw.gateway();
  const invoke = async (tool: string, args: object) => {
    const { status, body } = await gateway.invoke(tool, args);
    assert.equal(status, 200, `${tool}: ${JSON.stringify(body)}\n${gateway.log()}`);
    const { content, details } = Invoked.parse(body).result;
    return { text: content.map(({ text }) => text).join("\n"), details };
  };

  for (const tool of ["discover", "mesh_inbox"]) {
    const { status } = await gateway.invoke(tool, {});
    assert.equal(status, 500, `${tool} before pairing`);
  }
  assert.equal(existsSync(openclaw.home), false);

  const paired = await invoke("mesh_pair", { token: await token("alice-laptop") });
  assert.match(paired.text, /^Paired with the cluster "testbed" as "alice"\./);

  const bob = await openMesh({ home: await temporaryFolder(context) });
  context.after(() => bob.close());
  const { did } = await bob.call("pair", { token: await token("bob-laptop"), name: "bob" });
  const found = await invoke("discover", { agent: "bob" });
  assert.match(found.text, new RegExp(`${did} \\("bob"\\)`));

  const sent = await invoke("mesh_send", { recipient: "bob", text: "Hello from OpenClaw" });
  assert.equal(sent.details.state, "sent");
  const received = await bob.call("await", { from: [String(paired.details.did)], timeout_ms: 20_000 });
  assert.deepEqual(
    received.messages.map(({ body }) => body),
    ["Hello from OpenClaw"],
  );

  const answer = invoke("mesh_await", { from: "bob", timeout: 20 });
  await bob.call("send", { to: String(paired.details.did), message: "Hello, OpenClaw" });
  const { text, details } = await answer;
  assert.equal(details.outcome, "received");
  assert.match(text, /\nHello, OpenClaw\n----- /);
  assert.match((await invoke("mesh_inbox", {})).text, /^No unread messages/);

  const script = join(errand, "endless.mjs");
  await writeFile(script, "setInterval(() => undefined, 1000);");
  const offloaded = await invoke("cloud_offload", { task: "run endless.mjs", files: [script] });
  const { offload_id } = offloaded.details;
  assert.match((await invoke("offload_status", { offload_id })).text, /: (?:pending|running), phase /);
  await invoke("offload_cancel", { offload_id });
  const cancelled = await invoke("offload_status", { offload_id, until_done: true });
  assert.equal(cancelled.details.offload_status, "cancelled");

  // The gateway tells who calls that a tool failed, and its log why.
  for (const [tool, args, code] of [
    ["mesh_pair", { token: "hello" }, "token_mangled"],
    ["mesh_send", { to: "nobody", message: "hi" }, "peer_unknown"],
    ["mesh_send", { to: "bob" }, "input_invalid"],
    ["mesh_await", { from: "nobody" }, "peer_unknown"],
    ["cloud_offload", { task: "t", files: ["/none"] }, "file_unreadable"],
    ["cloud_offload", { task: "t", files: [join(openclaw.folder, "openclaw.json")] }, "input_invalid"],
    ["offload_status", { offload_id: "none" }, "offload_unknown"],
    ["offload_cancel", { offload_id }, "offload_over"],
  ] as const) {
    const { status } = await gateway.invoke(tool, args);
    assert.equal(status, 500, `${tool} ${code}`);
    assert.match(gateway.log(), new RegExp(`\\[${code}\\]`), `${tool} ${code}`);
  }

  await gateway.stop();

  // What was sent meanwhile is there when the gateway is up again: its service opens the node.
  await bob.call("send", { to: String(paired.details.did), message: "Good morning" });
  const next = await openclaw.gateway();
  const { status, body } = await next.invoke("mesh_await", { from: "bob", timeout_seconds: 20 });
  assert.equal(status, 200, next.log());
  assert.match(JSON.stringify(body), /Good morning/);
  const inbox = await next.invoke("mesh_inbox", { all: true });
  assert.match(JSON.stringify(inbox.body), /Good morning.*Hello, OpenClaw/);
  await next.stop();
});
