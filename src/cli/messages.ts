import { randomUUID } from "node:crypto";
import { type Command, Option } from "commander";
import { INBOX_CHARACTERS_MAX } from "../actors/limits.ts";
import type { ResultOf } from "../actors/operation.ts";
import type { Operations } from "../actors/operations.ts";
import { MeshError } from "../errors.ts";
import { INBOX_PAGE_MAX, MESSAGE_SIZE_MAX, SETTLE_BRIEFLY_MS, SETTLE_MS, WAIT_MAX_SECONDS } from "../limits.ts";
import { asAddress } from "../wire/text.ts";
import { addresses, duration, integer } from "./arguments.ts";
import { atHome, fetchFirst, type Visit } from "./home.ts";
import { wordsOf } from "./input.ts";
import { saveMessage, showMessages, wholeOf } from "./message-text.ts";
import { count, line, styled, table, time } from "./output.ts";
import { action, type Io } from "./program.ts";

/** The exit code of a wait that ended without what was waited for. */
const EXIT_TIMEOUT = 3;

export function addMessages(program: Command): void {
  program
    .command("send")
    .description("send a message, end-to-end encrypted")
    .argument("<to>", "a name or a DID", asAddress)
    .argument("<message...>", "the words; - reads them from standard input")
    .addOption(
      new Option("--receipt <s>", "wait so long for the word that it arrived, from a peer that gives it").argParser(
        duration({ unit: "s", max: `${WAIT_MAX_SECONDS}s` }),
      ),
    )
    .action(action(send));
  program
    .command("sent")
    .description("show the messages that were sent last, and how they stand")
    .option("--limit <n>", "show at most so many", integer(1, INBOX_PAGE_MAX), 20)
    .option("--to <peer>", "only those to one peer, by name or DID", asAddress)
    .addHelpText(
      "after",
      `
queued: it has not left yet. sent: the relay has it. delivered: it is on the peer's disk. read: the peer's person or agent was shown
it. uncertain: the peer lost its sessions at about that time, for example in a restart, and nobody knows whether the message arrived.
Send it again if it matters. undeliverable: it will not arrive. A message to a peer without receipts, such as a deployed client, never
becomes delivered or read.`,
    )
    .action(action(sent));
  program
    .command("inbox")
    .description("show the messages that came")
    .option("--all", "read ones too")
    .option("--mark-read", "mark the ones shown as read")
    .option("--limit <n>", "show at most so many", integer(1, INBOX_PAGE_MAX), 50)
    .option("--from <peer>", "only those of one peer, by name or DID", asAddress)
    .option("--id <id>", "show only the message with that id, in full, read before or not")
    .option("--save <file>", "with --id: write the message's text or bytes to a new file")
    .addHelpText(
      "after",
      `
A list shows the first ${INBOX_CHARACTERS_MAX} characters of a long message; --id and --json show all of it. Bytes that are not text show as
"(binary, 5 bytes)": --save writes them to a file, and --json prints them as raw_b64.`,
    )
    .action(action(inbox));
  program
    .command("await")
    .description("wait until each of these peers has sent something, and show it")
    .argument("<sender...>", "names or DIDs", addresses)
    .addOption(
      new Option("--timeout <s>", `how long, in seconds or as 2m, at most ${WAIT_MAX_SECONDS} s`)
        .argParser(duration({ unit: "s", max: `${WAIT_MAX_SECONDS}s`, zero: true }))
        .default(60_000, "60"),
    )
    .addHelpText("after", "\nExits with 0 when all have sent, with 3 when the time was up.")
    .action(action(awaitSenders));
}

// Sending

async function send(io: Io, to: string, typed: string[], { receipt }: { receipt?: number }): Promise<void> {
  const message = await wordsOf(typed, MESSAGE_SIZE_MAX, "message");
  // The same id when the command is repeated: it is the same message.
  const id = randomUUID();
  await atHome(io, async (visit) => {
    const { mesh, signal } = visit;
    const { to: did } = await mesh.call("send", { to, message, id }, { signal });
    const tell = async (state: string) => io.result({ id, state }, await sentSentence(visit, to, state));
    try {
      await visit.settle();
      const wait_ms = mesh.role === "owner" ? 0 : SETTLE_MS;
      const { state } = await mesh.call(
        "sent",
        { to: did, id, ...(receipt === undefined ? { wait_ms } : { wait_ms: receipt, until: "delivered" }) },
        { signal },
      );
      await tell(state);
      if (state === "undeliverable") process.exitCode = 1;
      else if (receipt !== undefined && state !== "delivered" && state !== "read") process.exitCode = EXIT_TIMEOUT;
    } catch (error) {
      // It was accepted before the wait was given up.
      if (signal.aborted) await tell("queued");
      throw error;
    }
  });
}

async function sentSentence(visit: Visit, to: string, state: string): Promise<string> {
  const peer = line(to);
  if (state === "undeliverable") return `The message to ${peer} cannot be delivered.`;
  if (state === "delivered" || state === "read") return `Delivered to ${peer}.`;
  if (state !== "queued") return `Sent to ${peer}.`;
  const problem = await visit.offline();
  const next =
    visit.mesh.role === "owner"
      ? "It goes out when a process opens this home next: any command, or kars-mesh run."
      : "The process that keeps this home online sends it as soon as it can.";
  return `${problem === undefined ? "" : `${problem} `}The message to ${peer} is queued. ${next}`;
}

async function sent(io: Io, { limit, to }: { limit: number; to?: string }): Promise<void> {
  await atHome(io, async (visit) => {
    await fetchFirst(io, visit);
    const result = await visit.mesh.call("sent_messages", { limit, ...(to === undefined ? {} : { to }) });
    const text =
      result.messages.length === 0
        ? "Nothing was sent yet."
        : table(
            ["SENT", "STATE", "TO", "ID"],
            result.messages.map(({ at, state, name, id }) => [time(at), state, name, id]),
          );
    io.result(result, text);
  });
}

// Reading

interface InboxOptions {
  readonly all?: true;
  readonly markRead?: true;
  readonly limit: number;
  readonly from?: string;
  readonly id?: string;
  readonly save?: string;
}

/** Fetches the messages that the options ask for, in as many answers as it takes. */
async function fetchInbox({ mesh, signal }: Visit, { all, limit, from, id }: InboxOptions) {
  const ask = (more: { readonly limit: number; readonly skip: number }) =>
    mesh.call(
      "inbox",
      { all, ...more, ...(from !== undefined && { from }), ...(id !== undefined && { id }) },
      { signal },
    );
  const found = await ask({ limit, skip: 0 });
  const messages = [...found.messages];
  let { more } = found;
  while (more > 0 && messages.length < limit) {
    const next = await ask({ limit: limit - messages.length, skip: messages.length });
    messages.push(...next.messages);
    more = next.more;
  }
  return { ...found, messages, more };
}

async function inbox(io: Io, options: InboxOptions): Promise<void> {
  const { id, save } = options;
  if (save !== undefined && id === undefined)
    throw new MeshError("input_invalid", "--save needs --id, which names the message to save.");
  await atHome(io, async (visit) => {
    await visit.requirePaired();
    await fetchFirst(io, visit);
    const { mesh, signal } = visit;
    const found = await fetchInbox(visit, options);
    const { unread, more, strangers } = found;
    // A list for people shows long messages in part. A program, and a person who asks for one message, get messages in full.
    const messages =
      io.json || id !== undefined
        ? await Promise.all(found.messages.map((message) => wholeOf(mesh, message, signal)))
        : found.messages;
    const news = messages.filter(({ read }) => !read);
    const marks = options.markRead ? news.map((message) => ({ from: message.from, id: message.id })) : [];
    if (marks.length > 0) await mesh.call("mark_read", { messages: marks }, { signal });
    const [message] = messages;
    if (save !== undefined && message) {
      const size = await saveMessage(message, save);
      io.result(
        { id: message.id, from: message.from, path: save, size },
        `Saved ${count(size, "byte")} to ${line(save)}.`,
      );
      return;
    }
    if (strangers > 0)
      io.note(
        `${count(strangers, "agent")} waiting to be accepted: see kars-mesh peers, then kars-mesh accept <peer>.`,
      );
    if (messages.length === 0) {
      io.result({ messages, unread }, options.all ? "No messages." : "No new messages. See all with --all.");
      return;
    }
    const still = unread - marks.length;
    const summary = [
      `${count(messages.length, "message")}, ${still} unread`,
      ...(more > 0 ? [`${more} more: raise --limit`] : []),
      ...(still > 0 && !options.markRead ? ["mark these as read with --mark-read"] : []),
    ].join("; ");
    io.result({ messages, unread }, `${showMessages(messages)}\n\n${styled("dim", `${summary}.`)}`);
  });
}

type Waited = ResultOf<Operations, "await">;

async function awaitSenders(io: Io, from: string[], { timeout }: { timeout: number }): Promise<void> {
  // Kept when the command is repeated: it waits no longer for that, and what came is marked when it is here.
  const begun = Date.now();
  let came: Waited | undefined;
  await atHome(io, async (visit) => {
    const { mesh, signal } = visit;
    if (came === undefined) {
      await visit.requirePaired();
      await visit.settle(Math.min(SETTLE_MS, Math.max(timeout, SETTLE_BRIEFLY_MS)));
      const timeout_ms = Math.max(0, timeout - (Date.now() - begun));
      if (timeout_ms > 0) io.note(`Waiting for ${from.map(line).join(", ")}, at most ${timeout / 1000} s.`);
      came = await mesh.call("await", { from, timeout_ms, mark_read: false }, { signal });
    }
    const { status, messages, missing } = came;
    const marks = messages.map((message) => ({ from: message.from, id: message.id }));
    if (marks.length > 0) await mesh.call("mark_read", { messages: marks });
    if (status === "timeout") {
      process.exitCode = EXIT_TIMEOUT;
      const { peers } = await mesh.call("peers", {});
      const names = missing.map((did) => line(peers.find((peer) => peer.did === did)?.name ?? did));
      io.note(`Nothing from ${names.join(", ")} within ${timeout / 1000} s.`);
      const problem = await visit.offline();
      if (problem !== undefined) io.note(problem);
    }
    const shown = io.json ? await Promise.all(messages.map((message) => wholeOf(mesh, message, signal))) : messages;
    io.result({ ...came, messages: shown }, showMessages(shown.map((message) => ({ ...message, read: true }))));
  });
}
