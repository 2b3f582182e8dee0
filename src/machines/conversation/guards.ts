import { OUTBOX_MESSAGES_MAX } from "../../limits.ts";
import type { ConversationContext, ConversationEvent } from "./events.ts";

// When a conversation has a use for an event.

interface Args {
  readonly context: ConversationContext;
  readonly event: ConversationEvent;
}

export const guards = {
  isUnasked: ({ context }: Args) => context.admission === "unasked",
  isNotAdmitted: ({ context }: Args) => context.admission !== "admitted",
  isNotDeclined: ({ context }: Args) => context.admission !== "declined",
  hasRoom: ({ context, event }: Args) =>
    (event.type === "SEND" || event.type === "RETURNED") &&
    context.outbox.length + context.unconfirmed.length < OUTBOX_MESSAGES_MAX &&
    !context.outbox.some((item) => item.id === event.id),
  isFinal: ({ event }: Args) => event.type === "ESTABLISH_FAILED" && event.final,
  isCurrent: ({ context, event }: Args) => event.type === "SESSION_LOST" && event.session === context.session,
  isCurrentAndBusy: ({ context, event }: Args) =>
    event.type === "SESSION_LOST" && event.session === context.session && context.outbox.length > 0,
  isIdle: ({ context }: Args) => context.outbox.length === 0,
  isBusy: ({ context }: Args) => context.outbox.length > 0,
  isWork: ({ event }: Args) => event.type === "RECEIVED" && event.kind !== "chat",
  awaitsSeal: ({ context, event }: Args) =>
    event.type === "SEALED" && context.outbox.some((item) => item.id === event.id && !item.sealed),
  isHandling: ({ context, event }: Args) =>
    event.type === "HANDLED" && context.handling.some((item) => event.ids.includes(item.id)),
  isWaiting: ({ context, event }: Args) =>
    event.type === "TRANSMITTED" && context.outbox.some((item) => item.sealed && event.ids.includes(item.id)),
  isNews: ({ context, event }: Args) =>
    event.type === "CONFIRMED" &&
    (!context.proved.includes(event.session) ||
      context.unconfirmed.some(({ sealed, resend }) => sealed?.session === event.session && !resend)),
  isKept: ({ context, event }: Args) =>
    (event.type === "UNSENT" || event.type === "UNDELIVERABLE" || event.type === "ARRIVED") &&
    [...context.unconfirmed, ...context.outbox].some((item) => event.ids.includes(item.id)),
  /** No session ever was with it that it has shown to hold. */
  isUnsealed: ({ context }: Args) => context.session === null && context.proved.length === 0,
  isQueued: ({ context, event }: Args) =>
    event.type === "TRANSMITTED" && context.outbox.some((item) => event.ids.includes(item.id)),
};
