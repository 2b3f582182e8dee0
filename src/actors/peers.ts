import type { ConversationContext } from "../machines/conversation/events.ts";
import type { SessionContext } from "../machines/session/events.ts";
import { conversationOf } from "./core.ts";
import type { MeshNode } from "./node.ts";
import type { ActorState } from "./state.ts";

const isoOf = (time: number | null) => (time === null ? null : new Date(time).toISOString());

function view(node: MeshNode, { snapshot }: ActorState) {
  const context: ConversationContext = snapshot.context;
  const current: SessionContext | undefined =
    context.session === null ? undefined : node.core.system.state(`session/${context.session}`)?.snapshot.context;
  const counters = node.incoming.countersOf(context.peer);
  return {
    did: context.peer,
    name: context.name,
    /** `held`: it knocked and waits to be accepted. */
    admission: context.admission,
    /** When safety numbers were compared, ISO 8601. */
    verified_at: isoOf(context.verified),
    state: String(snapshot.value),
    session: context.session,
    /** The controller of a deployed cluster: nothing that is said to it or by it is sealed. */
    plaintext: context.plain,
    confirmed: context.session === null ? false : node.sessions.isConfirmed(context.session),
    /** What it announces that it understands, beyond the plain protocol. */
    extensions: context.extensions,
    sent: context.sent,
    received: context.received,
    unread: context.unread,
    queued: context.outbox.length,
    undeliverable: context.undeliverable,
    ratchet_turns: current?.turns ?? 0,
    duplicates: counters?.duplicates ?? 0,
    unreadable: counters?.unreadable ?? 0,
    refused: counters?.refused ?? 0,
  };
}

export type PeerView = ReturnType<typeof view>;

/** Everyone who was talked to or knocked, and how that stands. */
export const peersOf = (node: MeshNode): PeerView[] =>
  [...node.core.system.streams("conversation")].map(([, state]) => view(node, state));

/** One of them; undefined when nothing was ever said. */
export function peerOf(node: MeshNode, did: string): PeerView | undefined {
  const state = node.core.system.state(conversationOf(did));
  return state && view(node, state);
}
