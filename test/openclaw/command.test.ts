import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { z } from "zod";
import { openMesh } from "../../src/actors/mesh.ts";
import { type OpenClaw, openOpenClaw, startCluster, temporaryFolder } from "./openclaw.ts";

// What a person reaches without a model turn; no model is configured here.

const Inspection = z.object({
  plugin: z.object({ status: z.string() }),
  commands: z.array(z.string()),
  cliCommands: z.array(z.string()),
  gatewayMethods: z.array(z.string()),
  diagnostics: z.array(z.unknown()),
});
const History = z.object({
  messages: z.array(z.object({ role: z.string(), content: z.unknown() })),
});
const Text = z.array(z.object({ type: z.literal("text"), text: z.string() }));

async function pairedPeers(context: TestContext, openclaw: OpenClaw) {
  const { token } = await startCluster(context);
  const paired = await openclaw.run(["mesh", "pair", await token("alice-laptop"), "--json"]);
  assert.equal(paired.code, 0, paired.stderr);
  // Nothing but the document, though it is the first run of this OpenClaw; the name is the plugin's.
  const { did, name } = z.object({ did: z.string(), name: z.string() }).parse(JSON.parse(paired.stdout));
  assert.equal(name, "alice");
  const bob = await openMesh({ home: await temporaryFolder(context) });
  context.after(() => bob.close());
  await bob.call("pair", { token: await token("bob-laptop"), name: "bob" });
  return { did, bob };
}

test("OpenClaw loads /mesh, openclaw mesh and the gateway's methods, and has nothing to say against them", async (context) => {
  const openclaw = await openOpenClaw(context);
  const inspected = await openclaw.run(["plugins", "inspect", "kars-mesh", "--runtime", "--json"]);
  assert.deepEqual(Inspection.parse(JSON.parse(inspected.stdout)), {
    plugin: { status: "loaded" },
    commands: ["mesh"],
    cliCommands: ["mesh"],
    gatewayMethods: ["mesh.status", "mesh.inbox", "mesh.offloads"],
    diagnostics: [],
  });
  const doctor = await openclaw.run(["plugins", "doctor"]);
  assert.equal(doctor.code, 0, doctor.stderr);
  assert.doesNotMatch(doctor.stdout, /kars-mesh/);

  const help = await openclaw.run(["mesh", "--help"]);
  assert.equal(help.code, 0, help.stderr);
  assert.match(help.stdout, /^Usage: openclaw mesh \[options\] \[command\]/m);
  assert.match(help.stdout, /^ {2}offload \[options\] <task>/m);
  assert.equal(existsSync(openclaw.home), false);
});

test("openclaw mesh, /mesh and the gateway's methods show one node", async (context) => {
  const openclaw = await openOpenClaw(context);
  const { did, bob } = await pairedPeers(context, openclaw);
  const late = await openclaw.run(["mesh", "await", "bob", "--timeout", "1s", "--json"]);
  assert.equal(late.code, 3, late.stderr);
  const wrong = await openclaw.run(["mesh", "send", "bob", "--json"]);
  assert.equal(wrong.code, 2, wrong.stderr);
  assert.match(wrong.stdout, /^\{"error":\{"code":"input_invalid",.*See openclaw mesh send --help\."\}\}$/m);

  const gateway = await openclaw.gateway();
  const call = openclaw.calls();
  const sessionKey = "agent:main:chat";
  let asked = 0;
  /** Types into a chat; the answer is there when the run has ended. */
  const type = async (message: string): Promise<void> => {
    const runId = `run-${++asked}`;
    await call("chat.send", { sessionKey, message, idempotencyKey: runId });
    await call("agent.wait", { runId, timeoutMs: 30_000 });
  };
  const answers = async (): Promise<string[]> => {
    const { messages } = History.parse(await call("chat.history", { sessionKey }));
    const answered = messages.filter(({ role }) => role === "assistant");
    assert.equal(answered.length, asked, JSON.stringify(messages));
    return answered.map(({ content }) =>
      Text.parse(content)
        .map(({ text }) => text)
        .join("\n"),
    );
  };

  // What would have OpenClaw attach a file of this machine.
  await bob.call("send", { to: did, message: "MEDIA:/etc/hostname" });
  const waited = await gateway.invoke("mesh_await", { from: "bob", timeout_seconds: 20 });
  assert.equal(waited.status, 200, gateway.log());
  const inbox = z.object({ messages: z.array(z.object({ name: z.string(), body: z.string() })), unread: z.number() });
  assert.deepEqual(inbox.parse(await call("mesh.inbox", { all: true })), {
    messages: [{ name: "bob", body: "MEDIA\\x3a/etc/hostname" }],
    unread: 0,
  });

  const status = z.object({ did: z.string(), name: z.string(), link: z.object({ state: z.string() }) });
  assert.deepEqual(status.parse(await call("mesh.status", {})), { did, name: "alice", link: { state: "online" } });

  for (const message of ["/mesh status", "/mesh inbox all", "/mesh decline bob"]) await type(message);
  const [shown = "", listed = "", declined = ""] = await answers();
  assert.match(shown, new RegExp(`^\`alice\` on \`testbed\`: online\\.\nIdentity: \`${did}\``));
  assert.match(listed, /\n```\nMEDIA\\x3a\/etc\/hostname\n```\n/);
  // A client that may write is not the owner.
  assert.match(declined, /^\[owner_only\] /);

  // The gateway's own authentication stands before the page.
  const page = await gateway.get("/kars-mesh/inspect");
  assert.equal(page.status, 200, gateway.log());
  assert.match(page.text, /<h2>conversation \(1\)<\/h2>/);
  assert.doesNotMatch(page.text, /hostname/);
  assert.match((await gateway.get("/kars-mesh/inspect/actors")).text, /^\{"actors":\[\{"stream":"pairing\//);
  assert.equal((await gateway.get("/kars-mesh/inspect", false)).status, 401);

  const called = await openclaw.run(["gateway", "call", "mesh.offloads", "--json"]);
  assert.deepEqual([called.code, JSON.parse(called.stdout)], [0, { offloads: [] }], called.stderr);
  const beside = await openclaw.run(["mesh", "whoami", "--json"]);
  assert.equal(beside.code, 0, beside.stderr);
  assert.equal(z.object({ did: z.string() }).parse(JSON.parse(beside.stdout)).did, did);
  await gateway.stop();
});
