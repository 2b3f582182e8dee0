import type { ConversationContext } from "../machines/conversation/events.ts";
import type { SessionContext } from "../machines/session/events.ts";
import type { MeshNode } from "./node.ts";

/** Everyone who was talked to, and how that stands. */
export const peersOf = (node: MeshNode) =>
  [...node.core.system.streams("conversation")].map(([, state]) => {
    const context: ConversationContext = state.snapshot.context;
    const current: SessionContext | undefined =
      context.session === null ? undefined : node.core.system.state(`session/${context.session}`)?.snapshot.context;
    const counters = node.incoming.countersOf(context.peer);
    return {
      did: context.peer,
      name: context.name,
      /** When safety numbers were compared, ISO 8601. */
      verified_at: context.verified === null ? null : new Date(context.verified).toISOString(),
      state: String(state.snapshot.value),
      session: context.session,
      confirmed: context.session === null ? false : node.sessions.isConfirmed(context.session),
      sent: context.sent,
      received: context.received,
      unread: context.unread,
      queued: context.outbox.length,
      undeliverable: context.undeliverable,
      ratchet_turns: current?.turns ?? 0,
      duplicates: counters?.duplicates ?? 0,
      unreadable: counters?.unreadable ?? 0,
    };
  });
