import { z } from "zod";
import { MeshError } from "../errors.ts";
import {
  AWAIT_SENDERS_MAX,
  CAPABILITY_LENGTH_MAX,
  FILES_MAX,
  INBOX_PAGE_MAX,
  MESSAGE_SIZE_MAX,
  NAME_LENGTH_MAX,
  OFFLOAD_TIMEOUT_MINUTES_MAX,
  PASSPHRASE_LENGTH_MAX,
  PATH_LENGTH_MAX,
  SETTLE_MS,
  TASK_SIZE_MAX,
  TOKEN_LENGTH_MAX,
  WAIT_MAX_MS,
} from "../limits.ts";
import { Origin } from "../machines/notice/events.ts";
import type { PairingContext } from "../machines/pairing/events.ts";
import { Id, Name } from "../wire/text.ts";
import { conversationOf } from "./core.ts";
import { diagnose } from "./diagnosis.ts";
import { discover, nameOfPeer, resolvePeer } from "./directory.ts";
import { compose } from "./drafts.ts";
import { awaitMessages, markRead, readInbox, until } from "./inbox.ts";
import { lookingOperations } from "./looking-operations.ts";
import { asking, newsOperations } from "./news.ts";
import type { MeshNode } from "./node.ts";
import { isOver, type OffloadView, offloadOf } from "./offloads.ts";
import { operation, Peer } from "./operation.ts";
import { peerOperations } from "./peer-operations.ts";
import { peerOf } from "./peers.ts";
import { hasReached } from "./projections/messages.ts";
import { forgettingOf } from "./registry-forgot.ts";
import { queued, settle } from "./settling.ts";
import { uuidFrom } from "./uuid.ts";

// What callers may ask of a node.

const Wait = z.number().min(0).max(WAIT_MAX_MS);

/** The cluster that the node belongs to. @throws MeshError `not_paired` */
const membershipOf = (node: MeshNode) => {
  const pairing = node.membership.current;
  if (!pairing) throw new MeshError("not_paired");
  return pairing;
};

/** The cluster that takes offloads. @throws MeshError `not_paired`; `input_invalid` when it cannot choose a sandbox as is wished */
function clusterFor(node: MeshNode, target: { to?: string | undefined; capability?: string | undefined }) {
  const pairing = membershipOf(node);
  if (pairing.asking) throw new MeshError("not_paired", "The controller of the cluster has not answered yet.");
  if (pairing.plain !== null && (target.to ?? target.capability) !== undefined)
    throw new MeshError(
      "input_invalid",
      "This cluster does not choose a sandbox by name or capability: leave that out.",
    );
  return { controller: pairing.controller, plain: pairing.plain !== null };
}

/** Whether the state directory takes commits; what it holds can be read all the same. */
function storeOf({ health }: MeshNode): { state: "ok" } | { state: "failing"; since: string; reason: string } {
  const { state } = health;
  return state.state === "ok" ? state : { ...state, since: new Date(state.since).toISOString() };
}

const Paths = z.array(z.string().min(1).max(PATH_LENGTH_MAX)).max(FILES_MAX);

export const operations = {
  whoami: operation(z.object({}), async (_, { node }) => {
    const clusters = [...node.core.system.streams("pairing")].map(([, state]) => {
      const context: PairingContext = state.snapshot.context;
      const { cluster, controller, name, relayUrl, registryUrl, grant, plain } = context;
      return {
        cluster,
        controller,
        name,
        relay_url: relayUrl,
        registry_url: registryUrl,
        grant,
        /** Its controller speaks plaintext: it and the relay read what it is asked for. */
        plaintext: plain !== null,
        forgotten: forgettingOf(context),
        state: JSON.stringify(state.snapshot.value).replaceAll(/["{}]/g, ""),
      };
    });
    const paired = node.membership.current;
    return {
      did: node.core.keyring.hasIdentity ? node.core.keyring.identity.did : null,
      name: paired?.name ?? null,
      clusters: clusters.filter(({ state }) => state !== "unpaired"),
      link: {
        state: node.core.link.value,
        ...(node.core.link.context?.closed ? { closed: node.core.link.context.closed } : {}),
        /** Frames that were in no form that is understood. */
        malformed: node.core.link.malformed,
      },
      store: storeOf(node),
    };
  }),

  pair: operation(
    z.object({ token: z.string().min(1).max(TOKEN_LENGTH_MAX), name: Name.optional() }),
    async ({ token, name }, { node, signal }) => {
      const {
        did,
        cluster,
        name: registered,
        grant,
        relayUrl,
        plain,
      } = await node.membership.pair(token, name ?? null, signal);
      return { did, name: registered, cluster, grant, relay_url: relayUrl, plaintext: plain !== null };
    },
  ),

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
        const composed = compose(core, peer, { type: "message", content: message }, messageId);
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
      from: Peer.optional(),
      mark_read: z.boolean().default(false),
    }),
    async ({ all, limit, from, mark_read }, { node }) => {
      membershipOf(node);
      const peer = from === undefined ? undefined : await resolvePeer(node.core, from);
      return readInbox(node, { all, limit, from: peer, markRead: mark_read });
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

  discover: operation(
    z.object({
      name: z.string().max(NAME_LENGTH_MAX).optional(),
      capability: z.string().max(CAPABILITY_LENGTH_MAX).optional(),
    }),
    async (by, { node }) => ({
      agents: await discover(node.core, by),
    }),
  ),

  ...peerOperations,
  ...newsOperations,

  offload: operation(
    z.object({
      task: z.string().min(1).max(TASK_SIZE_MAX),
      files: Paths.default([]),
      to: z.string().min(1).max(NAME_LENGTH_MAX).optional(),
      capability: z.string().min(1).max(CAPABILITY_LENGTH_MAX).optional(),
      timeout_minutes: z.number().positive().max(OFFLOAD_TIMEOUT_MINUTES_MAX).optional(),
      /** Chosen by the caller, so that asking again is the same offload again. */
      id: z.uuid().optional(),
      origin: Origin.optional(),
      /** Also when the same runs already. */
      force: z.boolean().default(false),
      /** Of the files, those that may go although they look like secrets. */
      secrets: Paths.default([]),
    }),
    async ({ task, files, to, capability, timeout_minutes, id: chosen, origin, force, secrets }, { node }) => {
      const { id, duplicate } = await node.offloads.begin({
        id: chosen,
        force,
        secrets,
        ...clusterFor(node, { to, capability }),
        task,
        files,
        target: { ...(to === undefined ? {} : { name: to }), ...(capability === undefined ? {} : { capability }) },
        timeoutMinutes: timeout_minutes,
        origin,
      });
      return { ...(await node.offloads.view(id)), duplicate };
    },
  ),

  /** One offload, now or at its next change (`wait_ms`), or all of them. */
  offload_status: operation(
    z.object({ id: Id.optional(), wait_ms: Wait.default(0), until_over: z.boolean().default(false) }),
    async ({ id, wait_ms, until_over }, { node, signal, progress }) => {
      if (id === undefined)
        return { offloads: await Promise.all(node.offloads.list().map((each) => node.offloads.view(each))) };
      const first = await node.offloads.view(id);
      if (wait_ms === 0 || isOver(first.status)) return first;
      const stream = offloadOf(id);
      const { system, ports } = node.core;
      const deadline = ports.clock.now() + wait_ms;
      for (let seen = system.state(stream); ; ) {
        const changed = await until(node, () => system.state(stream) !== seen, {
          timeoutMs: Math.max(0, deadline - ports.clock.now()),
          signal,
          concerns: (each) => each === stream,
        });
        seen = system.state(stream);
        const view: OffloadView = await node.offloads.view(id);
        if (!changed || !until_over || isOver(view.status)) return view;
        progress(view);
      }
    },
  ),

  offload_cancel: operation(z.object({ id: Id }), async ({ id }, { node }) => {
    await node.offloads.cancel(id);
    return node.offloads.view(id);
  }),

  /** Draws a new store key and protects it so. Nothing of it is journaled or noted. */
  change_key: operation(
    z.discriminatedUnion("protection", [
      z.object({ protection: z.literal("file") }),
      z.object({ protection: z.literal("passphrase"), passphrase: z.string().max(PASSPHRASE_LENGTH_MAX) }),
      z.object({ protection: z.literal("keychain") }),
    ]),
    async (wish, { node }) => {
      await node.changeKey(wish);
      return { protection: node.protection };
    },
  ),

  /** Fetches what waits and sends what is queued; says what is still queued when the time is up. */
  settle: operation(z.object({ wait_ms: Wait.default(SETTLE_MS) }), async ({ wait_ms }, { node, signal }) => {
    await settle(node, wait_ms, signal);
    return { queued: queued(node), online: node.core.link.online };
  }),

  /** What only the owner of the state directory knows, for `doctor`. */
  diagnose: operation(z.object({}), async (_, { node }) => diagnose(node)),

  ...lookingOperations,
} as const;

export type Operations = typeof operations;
