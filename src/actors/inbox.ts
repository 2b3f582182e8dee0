import { MeshError } from "../errors.ts";
import { INBOX_CHARACTERS_MAX, INBOX_PAGE_MAX } from "../limits.ts";
import { isChat, parsePayload } from "../wire/payload.ts";
import { FORGOTTEN } from "./bodies.ts";
import { conversationOf } from "./core.ts";
import { nameOfPeer } from "./directory.ts";
import type { MeshNode } from "./node.ts";
import type { MessageEntry } from "./projections/messages.ts";
import { wordedAt } from "./words.ts";

// The inbox: whole messages, unread first, and waiting for them.

export interface InboxMessage {
  readonly id: string;
  readonly from: string;
  readonly name: string;
  readonly at: string;
  readonly body: string;
  readonly read: boolean;
}

/** The words of a message, read back from the journal; a note in their place when they were forgotten. */
async function wordsOf(node: MeshNode, entry: MessageEntry): Promise<string> {
  if (entry.forgotten) return FORGOTTEN;
  const found = await wordedAt(node.core, node.journal, entry);
  if (!found) throw new MeshError("store_damaged", `Message ${entry.id} is not where the index says.`);
  const text = await node.core.bodies.peek(entry.peer, found.body);
  if (text === null) return FORGOTTEN;
  const payload = parsePayload(text);
  return payload && isChat(payload) ? payload.content : text;
}

async function show(node: MeshNode, entry: MessageEntry): Promise<InboxMessage> {
  return {
    id: entry.id,
    from: entry.peer,
    name: nameOfPeer(node.core, entry.peer),
    at: new Date(entry.at).toISOString(),
    body: await wordsOf(node, entry),
    read: entry.state === "read",
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

/** A page of whole messages: at least one, and then as many as fit. `more` counts those that did not. */
async function page(
  node: MeshNode,
  entries: readonly MessageEntry[],
  limit: number,
): Promise<{ messages: InboxMessage[]; more: number }> {
  const messages: InboxMessage[] = [];
  let characters = 0;
  for (const entry of entries.slice(0, limit)) {
    const message = await show(node, entry);
    characters += message.body.length;
    if (messages.length > 0 && characters > INBOX_CHARACTERS_MAX) break;
    messages.push(message);
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
    readonly from?: string | undefined;
    readonly markRead: boolean;
  },
): Promise<{ messages: InboxMessage[]; unread: number; more: number; strangers: number }> {
  const { messages: list } = node.core;
  const isWanted = ({ peer }: MessageEntry) => options.from === undefined || peer === options.from;
  const unread = list.unread().filter(isWanted).toArray();
  const read = options.all ? [...list.received()].filter((entry) => entry.state === "read" && isWanted(entry)) : [];
  const wanted = [...unread, ...read.reverse()];
  const { messages, more } = await page(node, wanted, options.limit);
  if (options.markRead)
    await markRead(
      node,
      messages.filter(({ read }) => !read),
    );
  return { messages, unread: unread.length, more, strangers: node.admission.strangers };
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
  const { messages } = await page(node, unread.toArray(), INBOX_PAGE_MAX);
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
