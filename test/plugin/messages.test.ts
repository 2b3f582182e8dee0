/** What tools and `/mesh` show of messages that are long, or are no text, or that nobody acted on. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { INBOX_CHARACTERS_MAX } from "../../src/actors/limits.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { call, openNode } from "../actors/world.ts";
import { fileTransfer, sayRaw } from "../legacy/agents.ts";
import { openPluginAt, pairTwo, startCluster, temporaryFolder } from "./world.ts";

/** A plugin, and an agent that says whatever it likes to it. */
async function openPair() {
  const { token } = await startCluster();
  const alice = openPluginAt(join(await temporaryFolder(), "alice"), "alice", "everyone");
  const { details } = await alice.call("mesh_pair", { token: await token("alice") });
  const peer = await openNode({ home: join(await temporaryFolder(), "peer"), ports: realPorts(realNetwork) });
  peer.start();
  await call(peer, "pair", { token: await token("peer") });
  const arrived = (count: number) =>
    expect
      .poll(async () => (await alice.call("mesh_inbox", { mark_read: false })).details.unread, { timeout: 10_000 })
      .toBe(count);
  return { alice, arrived, say: (value: unknown, id?: string) => sayRaw(peer, details.did, value, id) };
}

/** The words between the two lines that mark them. */
const wordsOf = (body: string) => body.split("\n").slice(1, -1).join("\n");

it("a long message comes in parts, and each says how to have the next", async () => {
  const { alice, arrived, say } = await openPair();
  const long = `${"a".repeat(INBOX_CHARACTERS_MAX)}${"b".repeat(INBOX_CHARACTERS_MAX)}the end`;
  await say({ type: "message", content: long });
  await say("after it");
  await arrived(2);
  const first = await alice.call("mesh_inbox", {});
  expect(first.text).toContain("1 message, 1 of 2 unread");
  expect(first.text).toContain("1 more did not fit: call mesh_inbox again.");
  expect(first.text).toContain(`characters 1 to ${INBOX_CHARACTERS_MAX} of ${long.length}`);
  const [, id, offset] = /It continues: call mesh_inbox with id "([^"]+)" and offset (\d+)\./.exec(first.text) ?? [];
  expect(first.text.length).toBeLessThan(INBOX_CHARACTERS_MAX + 2_000);
  const second = await alice.call("mesh_inbox", { message_id: id, offset });
  const third = await alice.call("mesh_inbox", { id, offset: 2 * INBOX_CHARACTERS_MAX });
  expect(third.text).toContain("\nthe end\n");
  expect(third.text).not.toContain("It continues");
  const read = [first, second, third].map(({ details }) => wordsOf(details.messages[0].body));
  expect(read.join("")).toBe(long);
  expect((await alice.call("mesh_inbox", {})).text).toContain("\nafter it\n");
  await expect(alice.call("mesh_inbox", { id: "none" })).rejects.toThrow(/^\[message_unknown\] /);
  // In a chat too it is said how much is missing.
  expect((await alice.type("inbox all")).text).toContain(
    `${long.length - 1_000} more characters: openclaw mesh inbox --id`,
  );
});

it("bytes, an empty message, and a file that nobody awaits are told as what they are", async () => {
  const { alice, arrived, say } = await openPair();
  await say({ raw_b64: Buffer.from([0, 1, 2, 255]).toString("base64") });
  await say("");
  await say(fileTransfer("cat\u202egpj.exe", Buffer.from("x")));
  await arrived(3);
  const { text, details } = await alice.call("mesh_inbox", {});
  expect(text).toContain("\n(binary, 4 bytes)\n");
  expect(text).toMatch(
    /bytes that are not text: openclaw mesh inbox --id [0-9a-f-]{36} --save <file> writes them to a file/,
  );
  expect(text).toMatch(/begin: message "[^"]+" from .*, empty\n/);
  expect(text).toMatch(
    /^Message "[^"]+": The agent sent a file that no offload here is waiting for\. The file was not taken/m,
  );
  expect(text).toContain(String.raw`"file_name":"cat\u{202e}gpj.exe"`);
  expect(details.messages).toHaveLength(3);
  expect((await alice.type("inbox all")).text).toContain("The agent sent a file that no offload here is waiting for.");
});

it("an id that a peer chose cannot leave the command that names it", async () => {
  const { alice, arrived, say } = await openPair();
  await say({ raw_b64: "AAEC" }, "`$(reboot)`';x");
  await arrived(1);
  expect((await alice.call("mesh_inbox", { mark_read: false })).text).toContain(
    "openclaw mesh inbox --id '`$(reboot)`'\\'';x' --save <file>",
  );
});

it("a DID is taken as people and models write it, and given in one form", async () => {
  const { alice, bob, bobDid, aliceDid } = await pairTwo();
  const alias = bobDid.replace("did:mesh:", "did:agentmesh:");
  const said: string[] = [];
  const tell = async (name: string, params: object) => {
    const { text, details } = await alice.call(name, params);
    said.push(text, JSON.stringify(details));
    return details;
  };
  expect(await tell("mesh_send", { to: alias, message: "hello" })).toMatchObject({ to: bobDid });
  expect(await tell("mesh_send", { to: ` ${bobDid.toUpperCase()}`, message: "hello" })).toMatchObject({ to: bobDid });
  await bob.call("mesh_send", { to: aliceDid.replace("mesh", "agentmesh"), message: "hello back" });
  expect(await tell("mesh_await", { from: [alias], timeout_seconds: 20 })).toMatchObject({ outcome: "received" });
  expect(await tell("mesh_await", { from: alias, timeout_seconds: 0 })).toMatchObject({ missing: [bobDid] });
  expect((await tell("mesh_inbox", { from: alias, all: true })).messages).toMatchObject([
    { body: expect.stringContaining("\nhello back\n") },
  ]);
  for (const command of ["verify", "accept", "decline"]) {
    const { text, isError } = await alice.type(`${command} ${alias}`);
    expect({ text, isError }).toMatchObject({ text: expect.stringContaining(bobDid) });
    said.push(text ?? "");
  }
  expect(said.join("\n")).not.toMatch(/agentmesh|DID:MESH|AgentMesh/);
});
