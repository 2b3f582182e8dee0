import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { MeshNode } from "../src/actors/node.ts";
import { startServer } from "../src/cluster/server.ts";
import { MeshError } from "../src/errors.ts";
import { INBOX_PAGE_MAX } from "../src/limits.ts";
import { type Subject, summary, withDirectory } from "./harness.ts";
import { call, openLaptop, PATIENCE_MS } from "./laptop.ts";
import { message } from "./text.ts";

// Bytes on disk for one message: all that two homes grow by, from one clean stop to the next.

const MESSAGES = 2_000;
const MESSAGE_SIZE = 1024;

/** Bytes of all files below a home. */
async function sizeOf(home: string): Promise<number> {
  let size = 0;
  for (const entry of await readdir(home, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) size += (await stat(join(entry.parentPath, entry.name))).size;
  return size;
}

/** So many messages from one to the other, delivered and read. */
async function talk(alice: MeshNode, bob: MeshNode, messages: number): Promise<void> {
  const to = bob.core.keyring.identity.did;
  for (let sent = 0; sent < messages; sent += INBOX_PAGE_MAX) {
    const page = Math.min(INBOX_PAGE_MAX, messages - sent);
    await Promise.all(
      Array.from({ length: page }, (_, index) =>
        call(alice, "send", { to, message: message(sent + index, MESSAGE_SIZE) }),
      ),
    );
    await call(alice, "settle", { wait_ms: PATIENCE_MS });
    await call(bob, "settle", { wait_ms: PATIENCE_MS });
    // An answer carries so many characters at the most, so a page of messages is read in several.
    for (let read = 0; read < page; ) {
      const { messages: list } = await call(bob, "inbox", { mark_read: true, limit: INBOX_PAGE_MAX });
      if (list.length === 0) throw new Error(`Of ${page} messages ${read} arrived.`);
      read += list.length;
    }
  }
}

async function measure(directory: string): Promise<number> {
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: join(directory, "server"),
    pair: () => Promise.reject(new MeshError("token_invalid")),
  });
  const homes = [join(directory, "alice"), join(directory, "bob")] as const;
  const session = async (messages: number) => {
    const servers = { relayUrl: server.relayUrl, registryUrl: server.url };
    const alice = await openLaptop(servers, homes[0], "alice");
    const bob = await openLaptop(servers, homes[1], "bob");
    await talk(alice, bob, messages);
    await alice.close();
    await bob.close();
    return (await sizeOf(homes[0])) + (await sizeOf(homes[1]));
  };
  try {
    // The first exchange makes the session; it is not a message's cost.
    const before = await session(1);
    return ((await session(MESSAGES)) - before) / MESSAGES;
  } finally {
    await server.close();
  }
}

export const bytes: Subject = {
  name: "bytes",
  about: "bytes on disk for a message of 1 kB, both ends together",
  async measure(tell) {
    tell(`bytes: ${MESSAGES} messages through a relay`);
    const figure = await withDirectory(measure);
    return [
      {
        work: `a message of ${MESSAGE_SIZE} bytes on disk, sent, received and read`,
        unit: "bytes, both ends",
        ours: summary([figure]),
        goal: { atMost: 4096 },
      },
    ];
  },
};
