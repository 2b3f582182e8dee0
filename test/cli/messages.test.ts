/** What the command line shows of messages that are long or no text, and how all of them is had. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { INBOX_CHARACTERS_MAX } from "../../src/actors/limits.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { MESSAGE_SIZE_MAX } from "../../src/limits.ts";
import { call, openNode } from "../actors/world.ts";
import { sayRaw } from "../legacy/agents.ts";
import { Cluster, documentOf, failure, folder, run, tidyUp } from "./harness.ts";

interface Inbox {
  readonly messages: readonly {
    readonly id: string;
    readonly body: string;
    readonly bytes?: number;
    readonly raw_b64?: string;
    readonly length?: number;
  }[];
  readonly unread: number;
}

afterAll(tidyUp);

test("messages that are long or no text can be had whole", { timeout: 120_000 }, async () => {
  const cluster = await Cluster.up();
  const alice = await cluster.laptop("alice");
  const home = join(folder(), "peer");
  const peer = await openNode({ home, ports: realPorts(realNetwork) });
  peer.start();
  await call(peer, "pair", { token: await cluster.token("peer") });
  const did = peer.core.keyring.identity.did;
  const long = `first line\n${"ü".repeat(INBOX_CHARACTERS_MAX)}\nlast line`;
  const bytes = Buffer.from([0, 1, 2, 254, 255]);
  await sayRaw(peer, alice.did, { type: "message", content: long }, "long");
  await sayRaw(peer, alice.did, { raw_b64: bytes.toString("base64") }, "bytes");
  await sayRaw(peer, alice.did, "", "empty");
  await call(peer, "settle", { wait_ms: 10_000 });

  // A program is given all of it.
  const { messages } = await alice.json<Inbox>("inbox");
  expect(messages.map(({ id }) => id)).toEqual(["long", "bytes", "empty"]);
  expect(messages[0]).toMatchObject({ id: "long", body: long });
  expect(messages[0]).not.toHaveProperty("length");
  // A list for people is kept short, and says what it leaves out.
  const list = await alice.text("inbox");
  expect(list).toContain("first line");
  expect(list).not.toContain("last line");
  expect(list).toContain(`of ${long.length} characters are left out here. See all: kars-mesh inbox --id long`);
  const all = await alice.text("inbox", "--id", "long", "--from", did, "--mark-read");
  expect(all).toContain("last line");
  expect(all).not.toContain("left out");

  const rest = await alice.json<Inbox>("inbox");
  expect(rest).toMatchObject({
    messages: [
      { id: "bytes", body: "(binary, 5 bytes)", bytes: 5, raw_b64: bytes.toString("base64") },
      { id: "empty", body: "" },
    ],
  });
  const shown = await alice.text("inbox");
  expect(shown).toContain("(binary, 5 bytes)");
  expect(shown).toContain("kars-mesh inbox --id bytes --save <file>");
  expect(shown).toContain("(empty)");

  const path = join(folder(), "bytes.bin");
  expect(await alice.json("inbox", "--id", "bytes", "--save", path)).toEqual({ id: "bytes", from: did, path, size: 5 });
  expect(readFileSync(path).equals(bytes)).toBe(true);
  const text = join(folder(), "long.txt");
  expect(await alice.text("inbox", "--id", "long", "--save", text)).toContain(`Saved ${Buffer.byteLength(long)} bytes`);
  expect(readFileSync(text, "utf8")).toBe(long);
  // A file that is there is never overwritten.
  const refused = (...args: string[]) => failure("kars-mesh", ["--home", alice.home, "inbox", ...args]);
  expect((await refused("--id", "bytes", "--save", path)).error).toBe("input_invalid");
  expect((await refused("--save", path)).error).toBe("input_invalid");
  expect((await refused("--id", "nothing")).error).toBe("message_unknown");
});

test("the longest message goes from one laptop to the other and back", { timeout: 120_000 }, async () => {
  const cluster = await Cluster.up();
  const [alice, bob] = [await cluster.laptop("alice"), await cluster.laptop("bob")];
  const message = "m".repeat(MESSAGE_SIZE_MAX);
  for (const [from, to] of [
    [alice, bob],
    [bob, alice],
  ] as const) {
    const sent = await run("kars-mesh", ["--home", from.home, "send", to.did, "-", "--json"], { input: message });
    expect(documentOf(sent)).toMatchObject({ state: "sent" });
    const { messages } = await to.json<Inbox>("await", from.did, "--timeout", "20");
    expect(messages.map(({ body }) => body)).toEqual([message]);
  }
});
