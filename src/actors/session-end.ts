import type { ErrorCode } from "../errors.ts";
import type { ConversationContext, Outgoing } from "../machines/conversation/events.ts";
import { type Core, conversationOf, sessionOf } from "./core.ts";
import type { Draft } from "./drafts.ts";

/**
 * The end of a session: its secrets go with it, and what it had sealed in vain is sealed anew by another.
 * @param refused the peer wants nothing of us: what is queued, and what it cannot have read, is given up instead
 * @param unread whether messages that the peer may not have read are sent again, or become uncertain
 */
export function closing(
  core: Core,
  session: string,
  peer: string,
  {
    reason,
    code,
    refused = false,
    unread: fate = "again",
  }: {
    readonly reason: string;
    readonly code: ErrorCode;
    readonly refused?: boolean;
    readonly unread?: "again" | "uncertain";
  },
): Draft {
  const stream = conversationOf(peer);
  const context: ConversationContext | undefined = core.system.decided(stream)?.snapshot.context;
  const { outbox = [], unconfirmed = [] } = context ?? {};
  const inVain = outbox.filter((item) => item.sealed?.session === session);
  const isOfSession = (item: Outgoing) => item.sealed?.session === session;
  const first = unconfirmed.findIndex(isOfSession);
  // Messages that a plain relay took after the first of these are sealed anew, too, whatever their session: else they would overtake it.
  const unread = unconfirmed.filter(
    (item, at) => isOfSession(item) || (!refused && item.resend && first !== -1 && at > first),
  );
  const again = unread.filter(({ resend }) => resend);
  const sealed = [...inVain, ...again].map(({ id }) => id);
  // The relay may still say that it has one of these frames: that is not the frame in which the message goes then.
  core.link.disown([...inVain, ...again].map((item) => item.sealed?.frame ?? item.id));
  const ids = (refused ? [...unread, ...outbox] : unread).map(({ id }) => id);
  const event = refused
    ? { type: "UNDELIVERABLE", ids, code }
    : { type: fate === "again" ? "UNSENT" : "UNCERTAIN", ids };
  return {
    entries: [
      { stream: sessionOf(session), event: { type: "CLOSED", reason } },
      ...(ids.length > 0 ? [{ stream, event }] : []),
      { stream, event: { type: "SESSION_LOST", session, code } },
    ],
    secrets: core.keyring.forgetPatch(session, peer, sealed),
  };
}
