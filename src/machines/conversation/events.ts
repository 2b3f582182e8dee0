import { z } from "zod";
import { ERROR_CODES } from "../../errors.ts";
import { MessageHeader } from "../../wire/frame.ts";
import { AGENT_EXTENSIONS } from "../../wire/registry.ts";
import { Id } from "../../wire/text.ts";
import { Body, Resumed, type Timed } from "../definition.ts";

/** What a message is for: words for the inbox, a piece of work for a handler, a part of a larger payload, a receipt. */
export const MessageKind = z.enum(["chat", "work", "part", "receipt"]);
export type MessageKind = z.infer<typeof MessageKind>;

/** What a peer may announce that it understands. */
export const PEER_EXTENSIONS = AGENT_EXTENSIONS;

/** Why a message that is not chat is in the inbox: a file or work that no actor took over, or an incomplete set of parts. */
export const UNTAKEN = ["file", "work", "parts"] as const;
export type Untaken = (typeof UNTAKEN)[number];

/** What receipts say of messages, by their ids. */
const receipts = { delivered: z.array(Id), read: z.array(Id) };

export const ConversationEventSchema = z.discriminatedUnion("type", [
  /** A message is to be sent: the intent is durable, the words are sealed at rest. */
  z.object({ type: z.literal("SEND"), id: Id, kind: MessageKind, body: Body, size: z.int() }),
  /** There is a session to send with. */
  z.object({ type: z.literal("ESTABLISHED"), session: Id, role: z.enum(["initiator", "responder"]) }),
  z.object({ type: z.literal("ESTABLISH_FAILED"), code: z.enum(ERROR_CODES), final: z.boolean() }),
  /** The session that sent was closed or refused: what it sealed and the relay did not take is sealed anew. */
  z.object({ type: z.literal("SESSION_LOST"), session: Id, code: z.enum(ERROR_CODES) }),
  /** Encrypted: which session, which message number, which nonce. The message key is kept secret until the relay has it. */
  z.object({
    type: z.literal("SEALED"),
    id: Id,
    session: Id,
    header: MessageHeader,
    nonce: z.string(),
    /** The frame's own id, when the message was in a frame before. */
    frame: Id.optional(),
  }),
  /** The relay has it: it said so (`accepted`), or it took the bytes and cannot say more (`written`). */
  z.object({
    type: z.literal("TRANSMITTED"),
    ids: z.array(Id),
    proof: z.enum(["accepted", "written"]),
    /** Whether the relay may lose these messages. They are then kept, and sent again, until the peer confirms them. */
    resend: z.literal(true).optional(),
  }),
  /** The peer may have lost the sending session. Another one is opened, whether or not a message waits. */
  z.object({ type: z.literal("RENEW") }),
  /** The peer has lost the session in which these messages were sent, and nobody knows whether they arrived before that. */
  z.object({ type: z.literal("UNCERTAIN"), ids: z.array(Id) }),
  /** The peer said, signed, that these messages are on its disk. */
  z.object({ type: z.literal("ARRIVED"), ids: z.array(Id) }),
  /** The peer has shown that it holds the session: what was sealed in it can be read there. */
  z.object({ type: z.literal("CONFIRMED"), session: Id }),
  /** The relay took these in a session that the peer never had: they are to be sealed anew. */
  z.object({ type: z.literal("UNSENT"), ids: z.array(Id) }),
  /** The peer said, signed, that it could not read this one: it is to be sealed anew. */
  z.object({ type: z.literal("RETURNED"), id: Id, kind: MessageKind, body: Body, size: z.int() }),
  z.object({ type: z.literal("UNDELIVERABLE"), ids: z.array(Id), code: z.enum(ERROR_CODES) }),
  z.object({
    type: z.literal("RECEIVED"),
    id: Id,
    /** Absent of what came in plaintext. */
    session: Id.optional(),
    kind: MessageKind,
    body: Body,
    size: z.int(),
    sent_at: z.string().max(40).optional(),
    untaken: z.enum(UNTAKEN).optional(),
  }),
  /** What a piece of work asked for has been taken over by whom it concerns. */
  z.object({ type: z.literal("HANDLED"), ids: z.array(Id) }),
  /** The person or the agent has seen these. */
  z.object({ type: z.literal("READ"), ids: z.array(Id) }),
  /**
   * What the peer calls itself (`registry`), or the name by which we addressed it (`address`). The first is a hint for
   * people; the second is remembered, so that the name goes on meaning this peer, whoever else takes it.
   */
  z.object({ type: z.literal("NAMED"), name: z.string().max(64), source: z.enum(["registry", "address"]) }),
  /** What the peer says that it understands, at the registry. */
  z.object({ type: z.literal("ANNOUNCED"), extensions: z.array(z.string().max(32)).max(16) }),
  /** It is the controller of a deployed cluster, by its token: plaintext is taken from it, and sent to it. */
  z.object({ type: z.literal("PLAIN") }),
  /** That is over. What waited was told UNDELIVERABLE before. */
  z.object({ type: z.literal("UNPLAIN") }),
  /** It knocked, and the policy lets only others in: what it says is kept out of sight until the person decides. */
  z.object({ type: z.literal("HELD") }),
  /** It may talk to us. */
  z.object({ type: z.literal("ADMITTED") }),
  /** It may not: what it said stays out of sight, and it is told so. */
  z.object({ type: z.literal("DECLINED") }),
  /** A receipt of the peer's came: these messages of ours are on its disk, and these were seen. */
  z.object({ type: z.literal("ACKNOWLEDGED"), id: Id, session: Id, ...receipts }),
  /** A receipt of ours is queued that says this. */
  z.object({ type: z.literal("RECEIPTED"), ...receipts }),
  /** The person has compared safety numbers with the peer, and they are the same. */
  z.object({ type: z.literal("VERIFIED") }),
  /** That is withdrawn. */
  z.object({ type: z.literal("UNVERIFIED") }),
  /** The words of all that was said so far are destroyed, here. What waited was told UNDELIVERABLE before. */
  z.object({ type: z.literal("FORGOTTEN") }),
  Resumed,
]);
export type ConversationEvent = Timed<z.infer<typeof ConversationEventSchema>>;

export interface Outgoing {
  readonly id: string;
  readonly kind: MessageKind;
  readonly body: Body;
  readonly at: number;
  /** Absent until it is encrypted. */
  readonly sealed?: {
    readonly session: string;
    readonly header: MessageHeader;
    readonly nonce: string;
    readonly frame?: string | undefined;
  };
  /** It was encrypted before, in a session that is lost: the relay may hold that frame under the message's id. */
  readonly again?: true;
  /** A relay that may lose the message took it, so it is sent again until the peer confirms it. */
  readonly resend?: true;
}

export interface ConversationContext {
  readonly peer: string;
  readonly name: string | null;
  /** The name by which it was addressed from here. */
  readonly address: string | null;
  /** When safety numbers were compared; null when they were not. */
  readonly verified: number | null;
  /** Whether it may talk to us, when that was in question. */
  readonly admission: "unasked" | "held" | "admitted" | "declined";
  /** What it announced that it understands. */
  readonly extensions: readonly string[];
  /** What it has not been told yet of its messages, by their ids. */
  readonly owed: { readonly delivered: readonly string[]; readonly read: readonly string[] };
  /** The session that sends. */
  readonly session: string | null;
  /** What the relay does not have yet, oldest first. */
  readonly outbox: readonly Outgoing[];
  /** The sessions that the peer has shown last to hold. */
  readonly proved: readonly string[];
  /** It speaks plaintext, and is the one peer from which that is taken. Never again when it was heard sealed. */
  readonly plain: boolean;
  /**
   * Messages that the relay took and the peer may not have, oldest first: either sealed in a session that the peer has not proved
   * to hold, so that they are lost with that session, or taken by a relay that may lose them (`resend`).
   */
  readonly unconfirmed: readonly Outgoing[];
  /** The last frames of messages that were sealed more than once. */
  readonly reframed: readonly { readonly id: string; readonly frame: string }[];
  /** Work that was received and not yet handed over, oldest first. */
  readonly handling: readonly { readonly id: string; readonly kind: MessageKind; readonly body: Body }[];
  /** When the last part of something larger came. */
  readonly partsAt?: number;
  /** Attempts to open a session since the last success. */
  readonly attempts: number;
  readonly sent: number;
  readonly received: number;
  readonly unread: number;
  readonly undeliverable: number;
}

/** Whether what the peer says is kept out of sight, and nothing is said of it. */
export const isHeld = ({ admission }: Pick<ConversationContext, "admission">): boolean =>
  admission === "held" || admission === "declined";

/** The context of a peer before the first event. */
export const UNTOUCHED: Omit<ConversationContext, "peer"> = {
  name: null,
  address: null,
  verified: null,
  admission: "unasked",
  extensions: [],
  owed: { delivered: [], read: [] },
  session: null,
  proved: [],
  plain: false,
  unconfirmed: [],
  outbox: [],
  reframed: [],
  handling: [],
  attempts: 0,
  sent: 0,
  received: 0,
  unread: 0,
  undeliverable: 0,
};
