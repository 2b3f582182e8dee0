import { MeshError } from "../errors.ts";
import { INBOX_PAGE_MAX } from "../limits.ts";
import type { Untaken } from "../machines/conversation/events.ts";
import { type Content, contentOf } from "../wire/content.ts";
import { unwrapped } from "../wire/payload.ts";
import { FORGOTTEN } from "./bodies.ts";
import { conversationOf } from "./core.ts";
import { nameOfPeer } from "./directory.ts";
import { INBOX_CHARACTERS_MAX } from "./limits.ts";
import type { MeshNode } from "./node.ts";
import type { MessageEntry } from "./projections/messages.ts";
import { wordedAt } from "./words.ts";

// The inbox: reading messages, unread first, and waiting for them. Every message is stored whole. An answer has only a part of a
// message that is too long for it.

export interface InboxMessage {
  readonly id: string;
  readonly from: string;
  readonly name: string;
  readonly at: string;
  /** The text, or the part of it that this answer holds. For bytes that are not text: a line that says how many there are. */
  readonly body: string;
  readonly read: boolean;
  /** For bytes that are not text: how many there are, and their standard base64 or a part of it. */
  readonly bytes?: number;
  readonly raw_b64?: string;
  /** For a part: where it begins in the whole `body` or `raw_b64`, and the length of the whole, in UTF-16 code units. */
  readonly offset?: number;
  readonly length?: number;
  /** A remark of this program, when the message is not a chat message. */
  readonly note?: string;
}

const NOTES: Readonly<Record<Untaken, string>> = {
  file: "The agent sent a file that no offload here is waiting for. The file was not taken, and its sender was told so.",
  work: "The message is about work that this laptop does not do with this agent. Nothing was done with it.",
  parts: "The message came in parts. Some parts are missing or damaged, so its content is lost.",
};

/** The content of a message, read back from the journal; a note in its place when it was forgotten. */
async function readContent(node: MeshNode, entry: MessageEntry): Promise<Content & { readonly untaken?: Untaken }> {
  if (entry.forgotten) return { text: FORGOTTEN };
  const found = await wordedAt(node.core, node.journal, entry);
  if (!found) throw new MeshError("store_damaged", `Message ${entry.id} is not where the index says.`);
  const text = await node.core.bodies.peek(entry.peer, found.body);
  if (text === null) return { text: FORGOTTEN };
  // Work that no actor took over is shown as it came.
  return found.untaken ? { text: unwrapped(text), untaken: found.untaken } : contentOf(text);
}

const isLowSurrogate = (text: string, at: number) => /[\udc00-\udfff]/.test(text[at] ?? "");
const isHighSurrogate = (text: string, at: number) => /[\ud800-\udbff]/.test(text[at] ?? "");

/** The part of a text that begins at `offset` and has at most `most` code units. No character is cut in two. */
function partOf(text: string, offset: number, most: number): string {
  const end = offset + most;
  const splits = end < text.length && isHighSurrogate(text, end - 1) && isLowSurrogate(text, end);
  return text.slice(offset, splits && most > 1 ? end - 1 : end);
}

const lengthOf = (content: Content) => ("text" in content ? content.text : content.base64).length;

const bytesIn = (base64: string) => Buffer.byteLength(base64, "base64");

/** A message, or the part of it that begins at `offset` and has at most `most` code units. */
function show(
  node: MeshNode,
  entry: MessageEntry,
  content: Content & { readonly untaken?: Untaken },
  { offset = 0, most }: { readonly offset?: number; readonly most: number },
): InboxMessage {
  const whole = "text" in content ? content.text : content.base64;
  const part = partOf(whole, offset, most);
  const bytes = "text" in content ? undefined : bytesIn(content.base64);
  return {
    id: entry.id,
    from: entry.peer,
    name: nameOfPeer(node.core, entry.peer),
    at: new Date(entry.at).toISOString(),
    body: bytes === undefined ? part : `(binary, ${bytes} bytes)`,
    read: entry.state === "read",
    ...(bytes !== undefined && { bytes, raw_b64: part }),
    ...(part.length < whole.length && { offset, length: whole.length }),
    ...(content.untaken && { note: NOTES[content.untaken] }),
  };
}

export async function markRead(
  node: MeshNode,
  messages: readonly { readonly from: string; readonly id: string }[],
): Promise<void> {
  const byPeer = Map.groupBy(messages, ({ from }) => from);
  const entries = [...byPeer].map(([peer, list]) => ({
    stream: conversationOf(peer),
    event: {
      type: "READ",
      ids: list.map(({ id }) => id).filter((id) => node.core.messages.incoming(peer, id)?.state === "unread"),
    },
  }));
  await node.core.system.commit(entries.filter(({ event }) => event.ids.length > 0)).durable;
}

/**
 * A page with as many messages as fit, at least one, and at most `most` code units of each. `more` counts the messages left out.
 */
async function page(
  node: MeshNode,
  entries: readonly MessageEntry[],
  { limit, most }: { readonly limit: number; readonly most: number },
): Promise<{ messages: InboxMessage[]; more: number }> {
  const messages: InboxMessage[] = [];
  let left = INBOX_CHARACTERS_MAX;
  for (const entry of entries.slice(0, limit)) {
    const content = await readContent(node, entry);
    const length = Math.min(lengthOf(content), most);
    if (messages.length > 0 && length > left) break;
    messages.push(show(node, entry, content, { most }));
    left -= length;
  }
  return { messages, more: entries.length - messages.length };
}

/**
 * Unread messages oldest first, then (with `all`) read ones, newest first. `more` counts those that did not fit, `strangers`
 * the agents that wait to be accepted.
 */
export async function readInbox(
  node: MeshNode,
  options: {
    readonly all: boolean;
    readonly limit: number;
    readonly most: number;
    /** How many messages to skip, because the caller has them. */
    readonly skip: number;
    readonly from?: string | undefined;
    readonly markRead: boolean;
  },
): Promise<{ messages: InboxMessage[]; unread: number; more: number; strangers: number }> {
  const { messages: list } = node.core;
  const isWanted = ({ peer }: MessageEntry) => options.from === undefined || peer === options.from;
  const unread = list.unread().filter(isWanted).toArray();
  const read = options.all ? [...list.received()].filter((entry) => entry.state === "read" && isWanted(entry)) : [];
  const wanted = [...unread, ...read.reverse()].slice(options.skip);
  const { messages, more } = await page(node, wanted, options);
  if (options.markRead)
    await markRead(
      node,
      messages.filter(({ read }) => !read),
    );
  return { messages, unread: unread.length, more, strangers: node.admission.strangers };
}

/**
 * One message by its id, from `offset` on.
 * @throws MeshError `message_unknown`; `input_invalid` when several agents sent a message with that id and `from` names none of them
 */
export async function readMessage(
  node: MeshNode,
  options: {
    readonly id: string;
    readonly from?: string | undefined;
    readonly offset: number;
    readonly most: number;
    readonly markRead: boolean;
  },
): Promise<{ messages: InboxMessage[]; unread: number; more: number; strangers: number }> {
  const { id, from, offset, most } = options;
  const isMeant = (entry: MessageEntry) =>
    entry.id === id && entry.state !== "held" && (from === undefined || entry.peer === from);
  const [entry, ...others] = [...node.core.messages.received()].filter(isMeant);
  if (!entry) throw new MeshError("message_unknown");
  if (others.length > 0)
    throw new MeshError("input_invalid", `Several agents sent a message with the id ${id}. Name the sender with from.`);
  const message = show(node, entry, await readContent(node, entry), { offset, most });
  const unread = node.core.messages.unread().toArray().length;
  if (options.markRead && !message.read) await markRead(node, [message]);
  return { messages: [message], unread, more: 0, strangers: node.admission.strangers };
}

/**
 * Waits until every sender has an unread message, and gives those (a page of them), marked as read if wanted. A subscription: it is told of each
 * message as it becomes durable.
 */
export async function awaitMessages(
  node: MeshNode,
  senders: readonly string[],
  { timeoutMs, signal, markRead: marks }: { timeoutMs: number; signal: AbortSignal; markRead: boolean },
): Promise<{ status: "received" | "timeout"; messages: InboxMessage[]; missing: string[] }> {
  const missing = () => senders.filter((sender) => !node.core.messages.hasUnread(sender));
  await until(node, () => missing().length === 0, {
    timeoutMs,
    signal,
    concerns: (stream) => stream.startsWith("conversation/"),
  });
  const left = missing();
  const unread = node.core.messages.unread().filter(({ peer }) => senders.includes(peer));
  const { messages } = await page(node, unread.toArray(), { limit: INBOX_PAGE_MAX, most: INBOX_CHARACTERS_MAX });
  if (marks) await markRead(node, messages);
  return { status: left.length === 0 ? "received" : "timeout", messages, missing: left };
}

/**
 * Resolves true as soon as the condition holds, false at the timeout. The condition is looked at after each durable change
 * of a stream that concerns it.
 * @throws MeshError `aborted`, `closed`
 */
export function until(
  node: MeshNode,
  holds: () => boolean,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal; readonly concerns: (stream: string) => boolean },
): Promise<boolean> {
  const { clock } = node.core.ports;
  const stop = AbortSignal.any([options.signal, node.signal]);
  return new Promise((resolve, reject) => {
    if (stop.aborted) return reject(new MeshError(node.signal.aborted ? "closed" : "aborted"));
    if (holds()) return resolve(true);
    const end = (settle: () => void) => {
      unsubscribe();
      disarm();
      stop.removeEventListener("abort", abort);
      settle();
    };
    const abort = () => end(() => reject(new MeshError(node.signal.aborted ? "closed" : "aborted")));
    const unsubscribe = node.core.system.subscribe(({ stream }) => {
      if (options.concerns(stream) && holds()) end(() => resolve(true));
    });
    const disarm = clock.at(clock.now() + options.timeoutMs, () => end(() => resolve(false)));
    stop.addEventListener("abort", abort, { once: true });
  });
}
