import { z } from "zod";
import { MessageHeader } from "../../wire/frame.ts";
import { base64Exact, Did, Id, KeyId } from "../../wire/text.ts";
import { Resumed, type Timed } from "../definition.ts";

/** How the shared key is derived (`src/crypto`): `npm4` is what `@microsoft/agent-governance-sdk` up to 4.0.0 speaks. */
export const Kdf = z.enum(["current", "npm4"]);
export type Kdf = z.infer<typeof Kdf>;

const agreement = {
  peer: Did,
  /** Id of the knock that opened it. */
  knock: Id,
  /** The initiator's X25519 identity key and ephemeral key, as the knock carries them. */
  ik: base64Exact(32),
  ek: base64Exact(32),
  /** Ids of the responder's prekeys that went into the shared key. */
  spk: KeyId,
  otk: KeyId.nullable(),
};

/** The signed prekey that the peer had published when the session was opened. A plain client makes a new one when it starts. */
const theirs = { spk_key: base64Exact(32).optional() };

export const SessionEventSchema = z.discriminatedUnion("type", [
  /** X3DH as the initiator: the knock is to be sent. */
  z.object({ type: z.literal("INITIATED"), ...agreement, kdf: Kdf.optional(), ...theirs }),
  /**
   * X3DH as the responder, from a knock whose keys belong to its sender. A knock does not say which KDF it means: `kdf` is
   * null, and the first message settles it. Sessions from before this was so have none, and are `current`.
   */
  z.object({ type: z.literal("ACCEPTED"), ...agreement, kdf: Kdf.nullable().optional(), ...theirs }),
  /** The relay has our knock, or our answer to theirs. */
  z.object({ type: z.literal("KNOCK_SENT") }),
  /** The peer has shown that it holds the session too. */
  z.object({ type: z.literal("CONFIRMED"), by: z.enum(["knock_accept", "message"]) }),
  /** The header stands in the SEALED of the same commit; the first version had it here too. */
  z.object({ type: z.literal("ENCRYPTED"), message: Id, header: MessageHeader.optional() }),
  z.object({
    type: z.literal("DECRYPTED"),
    message: Id,
    header: MessageHeader,
    /** The peer's ratchet key was new: the root key moved. */
    turned: z.boolean(),
    /** Message keys set aside for messages that have not come yet. */
    skipped: z.int().min(0),
    /** It was read with a message key set aside earlier. */
    late: z.boolean(),
    /** It was the first, and settled which KDF the initiator had used. */
    kdf: Kdf.optional(),
  }),
  z.object({ type: z.literal("CLOSED"), reason: z.string().max(200) }),
  Resumed,
]);
export type SessionEvent = Timed<z.infer<typeof SessionEventSchema>>;

export interface SessionContext {
  readonly id: string;
  readonly peer: string;
  readonly role: "initiator" | "responder" | null;
  readonly knock: string;
  readonly ik: string;
  readonly ek: string;
  readonly spk: number;
  readonly otk: number | null;
  /** The signed prekey that the peer had published when the session was opened, if that is known. */
  readonly spkKey: string | null;
  /** Null while the responder does not know which the initiator used. */
  readonly kdf: Kdf | null;
  readonly encrypted: number;
  readonly decrypted: number;
  /** Turns of the Diffie-Hellman ratchet by the peer's messages. */
  readonly turns: number;
  /** Message keys that are set aside now. */
  readonly skipped: number;
  readonly lastHeard: number | null;
  /** The peer's ratchet key in the first message that was read. */
  readonly began: string | null;
  readonly closed: string | null;
}
