import { PLAIN_UNCONFIRMED_KEPT, REFRAMED_KEPT, SESSIONS_PER_PEER_MAX } from "../../limits.ts";
import type { Body } from "../definition.ts";
import type { ConversationContext as Context, ConversationEvent, Outgoing } from "./events.ts";

// What becomes of messages on their way out. The relay's word is not the peer's: what was sealed in a session that the peer
// has not shown to hold is kept, and sealed anew if that session turns out to be lost.

type Items = readonly { readonly id: string }[];

export const idsOf = (items: Items) => items.map((item) => item.id);
export const without = <T extends Items[number]>(items: readonly T[], ids: readonly string[]) => {
  const gone = new Set(ids);
  return items.filter((item) => !gone.has(item.id));
};
/** Chat is kept; the blobs of work and of parts go with their use. */
export const blobsOf = (items: readonly (Items[number] & { readonly body: Body })[], ids: readonly string[]) =>
  items.filter((item) => ids.includes(item.id) && "blob" in item.body).map((item) => item.body);
/** How a message was sealed. */
export const sealedBy = ({ session, header, nonce, frame }: ConversationEvent & { type: "SEALED" }) => ({
  session,
  header,
  nonce,
  ...(frame === undefined ? {} : { frame }),
});
/** A receipt is no message that anybody counts. */
export const counted = (items: readonly Outgoing[]) => items.filter(({ kind }) => kind !== "receipt").length;

/** Whether both were sealed with the same chain, the first before the second. Numbers of different chains cannot be compared. */
const isBefore = ({ sealed: a }: Outgoing, { sealed: b }: Outgoing) =>
  a !== undefined && a.session === b?.session && a.header.dh === b.header.dh && a.header.n < b.header.n;

/**
 * Appends messages, but puts each before those that were sealed after it, because the relay may confirm a later one first. A plain
 * relay confirms nothing; its messages keep the order in which they were sent, which may differ from that of sealing.
 */
function appended(items: readonly Outgoing[], more: readonly Outgoing[]): Outgoing[] {
  const all = [...items];
  for (const item of more) {
    const next = item.resend ? -1 : all.findIndex((other) => isBefore(item, other));
    all.splice(next === -1 ? all.length : next, 0, item);
  }
  return all;
}

/** Before all that is there, but behind what was sealed before it, of which the relay has not spoken yet. */
function prepended(items: readonly Outgoing[], back: readonly Outgoing[]): Outgoing[] {
  const all = [...items];
  let front = 0;
  for (const item of back) {
    const last = item.resend ? -1 : all.findLastIndex((other) => isBefore(other, item));
    front = Math.max(front, last + 1);
    all.splice(front++, 0, item);
  }
  return all;
}

const isProved = ({ proved }: Context, { sealed }: Outgoing) => sealed !== undefined && proved.includes(sealed.session);

/** It is sealed once more, by another session. */
const anew = ({ sealed, resend, ...item }: Outgoing): Outgoing => ({ ...item, again: true });

/**
 * The relay has these messages.
 * @param resend whether the relay may lose them, so that they are kept until the peer confirms them
 */
export function transmitted(context: Context, ids: readonly string[], resend: boolean): Partial<Context> {
  // What was unsealed meanwhile goes again: it is of the frame that was lost that the relay speaks.
  const gone = context.outbox.filter(({ id, sealed }) => sealed && ids.includes(id));
  const unconfirmed = resend
    ? gone.map((item) => ({ ...item, resend }))
    : gone.filter((item) => !isProved(context, item));
  return {
    outbox: without(context.outbox, idsOf(gone)),
    unconfirmed:
      unconfirmed.length > 0 ? kept(context, appended(context.unconfirmed, unconfirmed)) : context.unconfirmed,
    sent: context.sent + counted(gone),
  };
}

/** Bounds the list for a plain peer, which may never answer. */
const kept = ({ extensions }: Context, unconfirmed: Outgoing[]): Outgoing[] =>
  extensions.length > 0 ? unconfirmed : unconfirmed.slice(-PLAIN_UNCONFIRMED_KEPT);

/**
 * The peer says what it understands. One that does not confirm what arrives any more is sent nothing until it does: what a relay may
 * have lost counts as sent, as for any plain peer, and holds back nothing.
 */
export const announced = (context: Context, extensions: readonly string[]): Partial<Context> => ({
  extensions,
  ...(!extensions.includes("arrivals") && {
    unconfirmed: context.unconfirmed.map(({ resend: _, ...item }) => item),
  }),
});

/** The relay has these as they are: there is no session that could be lost. */
export const written = (context: Context, ids: readonly string[]): Partial<Context> => {
  const outbox = without(context.outbox, ids);
  return { outbox, sent: context.sent + counted(context.outbox) - counted(outbox) };
};

/** Of what the relay has now, the bodies that nobody needs any more. */
export const transmittedBodies = (context: Context, ids: readonly string[], resend: boolean): readonly Body[] =>
  blobsOf(
    context.outbox.filter((item) => !resend && isProved(context, item)),
    ids,
  );

/** The peer has these messages. One of them may still wait to be sealed anew, because its session was lost after it arrived. */
export function arrived(context: Context, ids: readonly string[]): Partial<Context> {
  const outbox = without(context.outbox, ids);
  return {
    outbox,
    unconfirmed: without(context.unconfirmed, ids),
    sent: context.sent + counted(context.outbox) - counted(outbox),
    attempts: 0,
  };
}

/** These will not arrive. */
export function givenUp(context: Context, ids: readonly string[]): Partial<Context> {
  const [outbox, unconfirmed] = [without(context.outbox, ids), without(context.unconfirmed, ids)];
  const sent = counted(context.unconfirmed) - counted(unconfirmed);
  const unsent = counted(context.outbox) - counted(outbox);
  return { outbox, unconfirmed, sent: context.sent - sent, undeliverable: context.undeliverable + sent + unsent };
}

/** The peer has shown that it holds a session: what was sealed in it needs no keeping. */
export const proved = (context: Context, session: string): Partial<Context> => ({
  proved: context.proved.includes(session)
    ? context.proved
    : [...context.proved, session].slice(-SESSIONS_PER_PEER_MAX),
  unconfirmed: context.unconfirmed.filter((item) => !isSettledBy(item, session)),
});

/** Whether a message is settled once the peer has shown that it holds a session. */
const isSettledBy = ({ sealed, resend }: Outgoing, session: string) => sealed?.session === session && !resend;

export const provedBodies = (context: Context, session: string): readonly Body[] => {
  const gone = context.unconfirmed.filter((item) => isSettledBy(item, session));
  return blobsOf(gone, idsOf(gone));
};

/** The relay took these in a session that is lost: they go again, before all that is queued. */
export function unsent(context: Context, ids: readonly string[]): Partial<Context> {
  const back = context.unconfirmed.filter(({ id }) => ids.includes(id));
  const isBack = new Set(idsOf(back));
  return {
    unconfirmed: without(context.unconfirmed, ids),
    outbox: prepended(context.outbox, back).map((item) => (isBack.has(item.id) ? anew(item) : item)),
    sent: context.sent - counted(back),
  };
}

/**
 * Another session sends now. What was sealed in one that the peer has not shown to hold goes in this one, before all that comes:
 * if that one turned out to be lost later, it would be overtaken. A peer that knows message ids takes it once; of a plain one
 * that is not to be had.
 */
export function movedTo(context: Context, session: string): Partial<Context> {
  if (!context.extensions.includes("resends")) return { session };
  const isDoubtful = (item: Outgoing) =>
    item.sealed !== undefined && item.sealed.session !== session && !isProved(context, item);
  const back = context.unconfirmed.filter(isDoubtful);
  return {
    session,
    unconfirmed: without(context.unconfirmed, idsOf(back)),
    outbox: prepended(context.outbox, back).map((item) => (isDoubtful(item) ? anew(item) : item)),
    sent: context.sent - counted(back),
  };
}

/** The relay took this one, and the peer could not read it: it goes again, before all that is queued. */
export function returned(context: Context, { id, kind, body, at }: Pick<Outgoing, "id" | "kind" | "body" | "at">) {
  const item: Outgoing = { id, kind, body, at, again: true };
  return { outbox: [item, ...context.outbox], sent: context.sent - counted([item]) };
}

/** The frame that a message was last sealed into, when it is not the first. */
export const reframed = (context: Context, id: string, frame: string | undefined): Context["reframed"] =>
  frame === undefined
    ? context.reframed
    : [...context.reframed.filter((each) => each.id !== id), { id, frame }].slice(-REFRAMED_KEPT);

/** A session is lost: what it had sealed and the relay never took is sealed anew. */
export const unsealed = (context: Context, session: string): Partial<Context> => ({
  session: context.session === session ? null : context.session,
  outbox: context.outbox.map(({ sealed, ...item }) =>
    sealed === undefined ? item : sealed.session === session ? { ...item, again: true as const } : { ...item, sealed },
  ),
});

type Enqueue = (action: { readonly type: "discard"; readonly params: { readonly bodies: readonly Body[] } }) => void;
/** Discards bodies that nothing needs any more. */
export const discard = (enqueue: Enqueue, bodies: readonly Body[]) => {
  if (bodies.length > 0) enqueue({ type: "discard", params: { bodies } });
};

/** The ids of messages that are sealed and not on the wire, or of those that are not sealed yet. */
export const waitingFor = (outbox: readonly Outgoing[], sealed: boolean) =>
  idsOf(outbox.filter((item) => (item.sealed !== undefined) === sealed));

/** The ids of messages that a relay may have lost, and that the peer has not confirmed. */
export const doubtful = ({ unconfirmed }: Context) => idsOf(unconfirmed.filter(({ resend }) => resend));
