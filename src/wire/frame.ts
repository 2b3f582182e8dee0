import { z } from "zod";
import { ARRIVALS_MAX, FRAME_SIZE_MAX, UNREADABLE_FRAMES_MAX } from "../limits.ts";
import { CONNECT_TOKEN_LENGTH_MAX, RELAY_WORDS_LENGTH_MAX } from "./limits.ts";
import { base64Exact, Did, Id, KeyId, Timestamp, U32 } from "./text.ts";

// The relay's frames: JSON text over a WebSocket, standard base64 with padding. Unknown extra fields are kept, because the
// relay forwards them and extensions live there.

/**
 * The protocol version, where a frame names one. Our frames always do. The reference relay's own frames and those of deployed
 * controllers never do, and a relay passes frames on as they were sent.
 */
export const Version = z.literal(1).optional();

/** The features that a side announces in `extensions`; the other uses only what was announced. */
export const EXTENSIONS = ["accepted"] as const;
const Extensions = z.array(z.string().max(32)).max(16);

export const Connect = z.looseObject({
  v: Version,
  type: z.literal("connect"),
  from: Did,
  /** The Ed25519 key whose hash the DID is. */
  public_key: base64Exact(32),
  timestamp: Timestamp,
  /** Ed25519 over the timestamp string. */
  signature: base64Exact(64),
  token: z.string().max(CONNECT_TOKEN_LENGTH_MAX).optional(),
  extensions: Extensions.optional(),
});

/** A connect of old clients, which proves nothing. One that shows a part of a proof is none. */
export const UnprovenConnect = Connect.extend({
  public_key: z.never().optional(),
  timestamp: z.never().optional(),
  signature: z.never().optional(),
});

/** Extension: the relay's answer to a connect that announced extensions. The reference relay answers nothing. */
export const Connected = z.looseObject({
  v: Version,
  type: z.literal("connected"),
  extensions: Extensions,
  /** Frames that wait in the mailbox and come next. */ pending: z.int().min(0).optional(),
});

const routed = { v: Version, from: Did, to: Did, id: Id, ts: Timestamp.optional() };

export const Knock = z.looseObject({
  ...routed,
  type: z.literal("knock"),
  establishment: z.looseObject({
    /** The initiator's X25519 identity key. */
    ik: base64Exact(32),
    /** The initiator's ephemeral key. */
    ek: base64Exact(32),
    /** The id of the responder's one-time prekey that was used. */
    otk: KeyId.optional().nullable(),
    /** Extension: the id of the responder's signed prekey that was used. */
    spk: KeyId.optional(),
    /** Extension: Ed25519 over `knockText`, by the sender's identity key. Of one that announces `signed-knocks` it is asked. */
    signature: base64Exact(64).optional(),
  }),
});

/** What the signature of a knock covers: utf8(`kars-knock-v1|<from>|<to>|<id>|<ik>|<ek>|<spk>|<otk>`), what is absent left empty. */
export const knockText = ({ from, to, id, establishment: { ik, ek, spk, otk } }: Knock): string =>
  ["kars-knock-v1", from, to, id, ik, ek, spk ?? "", otk ?? ""].join("|");

export const KnockAccept = z.looseObject({
  ...routed,
  type: z.literal("knock_accept"),
  knock_id: Id,
  /**
   * Extension, for peers that announce `arrivals`: the ids of their messages that are on this side's disk, with an Ed25519 signature
   * over `arrivedText` by `public_key`. `missing`: earlier messages have not come, and the peer has to send them again.
   */
  arrived: z.array(Id).max(ARRIVALS_MAX).optional(),
  missing: z.boolean().optional(),
  /** The sender's Ed25519 key, whose hash is its DID. */
  public_key: base64Exact(32).optional(),
  signature: base64Exact(64).optional(),
});

/** What the signature of an arrival notice covers: utf8(`kars-arrived-v1|<from>|<to>|<ts>|<true or false>|<JSON of the ids>`). */
export const arrivedText = ({ from, to, ts, missing = false, arrived = [] }: KnockAccept): string =>
  ["kars-arrived-v1", from, to, ts ?? "", missing, JSON.stringify(arrived)].join("|");

export const KnockReject = z.looseObject({
  ...routed,
  type: z.literal("knock_reject"),
  knock_id: Id,
  reason: z.string().max(200).optional(),
  /** Extension, for peers that announce `resends`: ids of frames that could not be read, with Ed25519 over `unreadableText`. */
  frames: z.array(Id).max(UNREADABLE_FRAMES_MAX).optional(),
  signature: base64Exact(64).optional(),
});

/** What the signature covers: utf8(`kars-unreadable-v1|<from>|<to>|<ts>|<frame>,<frame>…`). */
export const unreadableText = ({ from, to, ts, frames = [] }: KnockReject): string =>
  ["kars-unreadable-v1", from, to, ts ?? "", frames.join(",")].join("|");

export const MessageHeader = z.object({ dh: base64Exact(32), pn: U32, n: U32 });
export type MessageHeader = z.infer<typeof MessageHeader>;

export const Message = z.looseObject({
  ...routed,
  type: z.literal("message"),
  header: MessageHeader,
  /** nonce (12) ‖ ciphertext ‖ tag (16), in base64, which is checked where it is decoded; bytes where it was decoded already. */
  ciphertext: z.union([z.string().max(FRAME_SIZE_MAX), z.custom<Uint8Array>((value) => value instanceof Uint8Array)]),
  /**
   * Extension: the message that is in this frame, when it was in another frame before and a session was lost. A relay that
   * holds the first frame would take a second one of the same id for a repetition.
   */
  message_id: Id.optional(),
  /**
   * Extension, to peers that announce `arrivals`, over a relay that does not say `accepted`: the sender sends this message again
   * until the peer confirms it. `after` is the id of the last unconfirmed message before it; null when there is none.
   */
  after: Id.nullable().optional(),
});

/** Extension: `sender` says whose frame it is, since ids are the sender's own and two may choose the same. */
export const Ack = z.looseObject({ v: Version, type: z.literal("ack"), id: Id, sender: Did.optional() });
/** Extension: the relay has the frame of this id on disk. */
export const Accepted = z.looseObject({ v: Version, type: z.literal("accepted"), id: Id });

/** A relay's sentence. A longer one is cut, because an error that is too long to read is still an answer. */
const RelayWords = z.string().transform((text) => text.slice(0, RELAY_WORDS_LENGTH_MAX));

export const ErrorFrame = z.looseObject({
  v: Version,
  type: z.literal("error"),
  code: z.string().max(64).optional(),
  /** The frame that it is about. */
  id: Id.optional(),
  message: RelayWords.optional(),
  /** Where the reference relay has its text. */
  detail: RelayWords.optional(),
});
export type ErrorFrame = z.infer<typeof ErrorFrame>;

/** What a client may receive from a relay. */
export const ClientFrame = z.discriminatedUnion("type", [
  Connected,
  Knock,
  KnockAccept,
  KnockReject,
  Message,
  Accepted,
  ErrorFrame,
]);
export type ClientFrame = z.infer<typeof ClientFrame>;
export type Knock = z.infer<typeof Knock>;
export type KnockAccept = z.infer<typeof KnockAccept>;
export type KnockReject = z.infer<typeof KnockReject>;
export type Message = z.infer<typeof Message>;
export type RoutedFrame = Knock | KnockAccept | KnockReject | Message;

/** What a relay reads of a frame that it forwards: it knows the envelope and is blind to the rest. */
export const Envelope = z.looseObject({ v: Version, type: z.string().max(32), from: Did.optional(), to: Did, id: Id });
export type Envelope = z.infer<typeof Envelope>;

export const CLOSE = {
  connectExpected: 4001,
  fromMissing: 4002,
  tokenRefused: 4003,
  idle: 4004,
  possessionUnproved: 4005,
  replaced: 4006,
  /** Extension: a connection whose connect is newer stands. */
  outdated: 4007,
  /** Extension: it took nothing of what waited for it; its mail stays. */
  tooSlow: 4008,
  tooLarge: 1009,
  /** The relay is going away, and another one, or the same, takes over: come again at once. */
  restart: 1012,
  /** The relay cannot take anybody in now. */
  tryLater: 1013,
} as const;
