import type { ErrorCode } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import { type Core, conversationOf, sessionOf } from "./core.ts";
import type { Draft } from "./outgoing.ts";

/** The end of a session: its secrets go with it, and what it had sealed in vain is sealed anew by another. */
export function closing(core: Core, session: string, peer: string, reason: string, code: ErrorCode): Draft {
  const conversation = conversationOf(peer);
  const context: ConversationContext | undefined = core.system.decided(conversation)?.snapshot.context;
  const sealed = context?.outbox.filter((item) => item.sealed?.session === session).map(({ id }) => id) ?? [];
  return {
    entries: [
      { stream: sessionOf(session), event: { type: "CLOSED", reason } },
      { stream: conversation, event: { type: "SESSION_LOST", session, code } },
    ],
    secrets: core.keyring.forgetPatch(session, peer, sealed),
  };
}
