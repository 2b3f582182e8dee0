import { z } from "zod";
import { ERROR_CODES, type ErrorCode } from "../../errors.ts";
import { SIGNED_PREKEYS_KEPT } from "../../limits.ts";
import { KeyId } from "../../wire/text.ts";
import { Resumed, type Timed } from "../definition.ts";

export const PreKeysEventSchema = z.discriminatedUnion("type", [
  /** Pairing published the first ones, or others after a new address. `next` is the first one-time id that was never used. */
  z.object({ type: z.literal("ADOPTED"), signed: KeyId, next: KeyId }),
  /**
   * How many one-time prekeys the registry has left, or null if it does not say. `ours` is how many of the
   * newest batch no knock has used; earlier versions of this program did not record it.
   */
  z.object({ type: z.literal("CHECKED"), left: z.int().min(0).nullable(), ours: z.int().min(0).optional() }),
  /** Few one-time prekeys are left, as far as is known here. */
  z.object({ type: z.literal("USED_UP") }),
  /**
   * A knock came without a one-time prekey. The registry may have run out of them: fetching a bundle takes one, whether or not
   * a knock follows.
   */
  z.object({ type: z.literal("DRAINED") }),
  /**
   * One-time prekeys with the ids `first` to `first + count - 1` were made, and a signed one when `signed` is a new id; their
   * private halves ride in the commit, sealed. Those of the dropped signed prekeys were destroyed with it.
   */
  z.object({
    type: z.literal("MADE"),
    signed: KeyId,
    first: KeyId,
    count: z.int().min(0),
    dropped: z.array(KeyId),
  }),
  /** The registry has them. */
  z.object({ type: z.literal("PUBLISHED"), signed: KeyId }),
  /** This step did not succeed now. */
  z.object({ type: z.literal("FAILED"), code: z.enum(ERROR_CODES), detail: z.string().max(1000) }),
  Resumed,
]);
export type PreKeysEvent = Timed<z.infer<typeof PreKeysEventSchema>>;

/** A signed prekey that is no longer published, and until when knocks that name it are answered. */
export interface KeptPreKey {
  readonly id: number;
  readonly until: number;
}

export interface Wanted {
  /** A signed prekey in the place of the old one. */
  readonly rotate: boolean;
  /** So many one-time prekeys. */
  readonly count: number;
}

/** Those that have been kept long enough, or are too many, the oldest first. */
export const droppable = ({ kept }: Pick<PreKeysContext, "kept">, at: number): number[] =>
  kept.filter(({ until }, index) => until <= at || index < kept.length - SIGNED_PREKEYS_KEPT).map(({ id }) => id);

export interface PreKeysContext {
  readonly controller: string;
  /** The signed prekey that is published, or is about to be; null before the first. */
  readonly signed: number | null;
  readonly signedAt: number;
  /** Those before it, the oldest first. */
  readonly kept: readonly KeptPreKey[];
  /** The one-time prekeys that were made last: from this id to `next`. */
  readonly first: number;
  readonly next: number;
  /** How many one-time prekeys the registry said that it has left, since the last were published. */
  readonly left: number | null;
  /** When the newest batch of one-time prekeys was published, or was about to be. */
  readonly lotAt: number;
  /** Whether a knock has come without a one-time prekey since then, at a registry that does not say how many are left. */
  readonly drained: boolean;
  /** What is to be made. */
  readonly wanted: Wanted;
  readonly attempts: number;
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | null;
}
