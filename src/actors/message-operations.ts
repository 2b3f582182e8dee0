import { z } from "zod";
import { MeshError } from "../errors.ts";
import { AWAIT_SENDERS_MAX, INBOX_PAGE_MAX, MESSAGE_SIZE_MAX } from "../limits.ts";
import { Origin } from "../machines/notice/events.ts";
import type { PayloadInput } from "../wire/payload.ts";
import { Id } from "../wire/text.ts";
import { conversationOf } from "./core.ts";
import { nameOfPeer, resolvePeer } from "./directory.ts";
import { compose } from "./drafts.ts";
import { awaitMessages, markRead, readInbox, readMessage, until } from "./inbox.ts";
import { CHAT_PAYLOAD_SIZE_MAX, INBOX_CHARACTERS_MAX, WORDS_PAGE_MAX } from "./limits.ts";
import { asking } from "./news.ts";
import { membershipOf, operation, Peer, Wait } from "./operation.ts";
import { peerOf } from "./peers.ts";
import { hasReached } from "./projections/messages.ts";
import { uuidFrom } from "./uuid.ts";

// The operations on messages: send, show their states, read, await.

/** The payload of a message. @throws MeshError `limit_reached` when its JSON, which may be longer than the text, does not fit one frame */
function chatOf(content: string): PayloadInput {
  const payload: PayloadInput = { type: "message", content };
  const size = Buffer.byteLength(JSON.stringify(payload));
  if (size > CHAT_PAYLOAD_SIZE_MAX)
    throw new MeshError(
      "limit_reached",
      `This message has ${size} bytes when its control characters are written as JSON; at most ${CHAT_PAYLOAD_SIZE_MAX} bytes fit one message. Send it in smaller parts.`,
    );
  return payload;
}

export const messageOperations = {
  send: operation(
    z.object({ to: Peer, message: z.string().min(1), id: Id.optional(), origin: Origin.optional() }),
    async ({ to, message, id, origin }, { node }) => {
      if (Buffer.byteLength(message) > MESSAGE_SIZE_MAX) {
        throw new MeshError(
          "limit_reached",
          `A message has at most ${MESSAGE_SIZE_MAX} bytes; send a file by offload instead.`,
        );
      }
      const { core } = node;
      membershipOf(node);
      const payload = chatOf(message);
      const messageId = id ?? uuidFrom(core.ports.random);
      // The order of the calls is the order of the messages, however long finding the peer takes; waiting for the disk is shared.
      const { peer, state, durable } = await core.lanes.run(`send ${to}`, async () => {
        const peer = await resolvePeer(core, to);
        if (peerOf(node, peer)?.plaintext)
          throw new MeshError(
            "peer_refused",
            "That is the cluster's controller, which speaks plaintext and takes no messages.",
          );
        const known = core.messages.outgoing(peer, messageId);
        if (known) return { peer, state: known.state, durable: undefined };
        const composed = compose(core, peer, payload, messageId);
        // Who is written to is let in.
        const admitted = node.admission.isHeld(peer)
          ? [{ stream: conversationOf(peer), event: { type: "ADMITTED" } }]
          : [];
        const more = [...admitted, ...asking(core, conversationOf(peer), origin)];
        const { accepted, durable } = node.outgoing.send(peer, composed, more);
        if (!accepted[0]) throw new MeshError("limit_reached", `Too many messages wait for ${nameOfPeer(core, peer)}.`);
        return { peer, state: "queued" as const, durable: { written: durable } };
      });
      await durable?.written;
      return { id: messageId, to: peer, state };
    },
  ),

  /** How a sent message stands now, or when it has come so far or cannot be delivered, after at most `wait_ms`. */
  sent: operation(
    z.object({
      to: Peer,
      id: Id,
      wait_ms: Wait.default(0),
      until: z.enum(["sent", "delivered", "read"]).default("sent"),
    }),
    async ({ to, id, wait_ms, until: wanted }, { node, signal }) => {
      const peer = await resolvePeer(node.core, to);
      const state = () => node.core.messages.outgoing(peer, id)?.state;
      if (state() === undefined) throw new MeshError("message_unknown");
      const isThere = (now = state()) => now === undefined || now === "undeliverable" || hasReached(now, wanted);
      await until(node, () => isThere(), {
        timeoutMs: wait_ms,
        signal,
        concerns: (stream) => stream === conversationOf(peer),
      });
      return { id, to: peer, state: state() ?? "queued" };
    },
  ),

  /** The messages that were sent last, the newest first, and how they stand. */
  sent_messages: operation(
    z.object({ limit: z.int().min(1).max(INBOX_PAGE_MAX).default(20), to: Peer.optional() }),
    async ({ limit, to }, { node: { core } }) => {
      const peer = to === undefined ? undefined : await resolvePeer(core, to);
      const sent = [...core.messages.sent()].filter((entry) => peer === undefined || entry.peer === peer);
      return {
        messages: sent
          .slice(-limit)
          .reverse()
          .map(({ id, peer: did, at, state }) => ({
            id,
            to: did,
            name: nameOfPeer(core, did),
            at: new Date(at).toISOString(),
            state,
          })),
      };
    },
  ),

  inbox: operation(
    z.object({
      all: z.boolean().default(false),
      limit: z.int().min(1).max(INBOX_PAGE_MAX).default(50),
      skip: z.int().min(0).default(0),
      from: Peer.optional(),
      mark_read: z.boolean().default(false),
      /** The id of the one message to return, beginning at `offset`. */
      id: Id.optional(),
      offset: z.int().min(0).default(0),
      /** The most to return of each message, in UTF-16 code units. */
      characters: z.int().min(1).max(WORDS_PAGE_MAX).default(INBOX_CHARACTERS_MAX),
    }),
    async ({ all, limit, skip, from, mark_read, id, offset, characters }, { node }) => {
      membershipOf(node);
      const peer = from === undefined ? undefined : await resolvePeer(node.core, from);
      const chosen = { from: peer, markRead: mark_read, most: characters };
      if (id !== undefined) return readMessage(node, { ...chosen, id, offset });
      return readInbox(node, { ...chosen, all, limit, skip });
    },
  ),

  mark_read: operation(
    z.object({ messages: z.array(z.object({ from: Peer, id: Id })).max(INBOX_PAGE_MAX) }),
    async ({ messages }, { node }) => {
      await markRead(node, messages);
      return { marked: messages.length };
    },
  ),

  await: operation(
    z.object({
      from: z.array(Peer).min(1).max(AWAIT_SENDERS_MAX),
      timeout_ms: Wait.default(60_000),
      /** A caller in another process marks them itself, by `mark_read`, when it has them: the answer may never reach it. */
      mark_read: z.boolean().default(true),
    }),
    async ({ from, timeout_ms, mark_read }, { node, signal }) => {
      membershipOf(node);
      const senders = await Promise.all(from.map((sender) => resolvePeer(node.core, sender)));
      return awaitMessages(node, [...new Set(senders)], { timeoutMs: timeout_ms, signal, markRead: mark_read });
    },
  ),
} as const;
