import { timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { sha256, utf8 } from "../crypto/index.ts";
import { safeParse } from "../parse.ts";
import { CLOSE, Connect, UnprovenConnect, Version } from "../wire/frame.ts";
import { firstIssue } from "./issue.ts";
import { connectRefusal } from "./proof.ts";

// Who is let in to the relay, and why others are not.

/** What every frame has, before its type says more. */
export const Head = z.looseObject({ v: Version, type: z.string(), from: z.unknown().optional() });

/** Whom a connect lets in. */
export interface Admission extends Pick<z.infer<typeof Connect>, "from" | "token" | "extensions"> {
  /** When the proof was signed; undefined of one who proves nothing. */
  readonly provenAt?: number;
  /** The same as it was written: what the signature covers. */
  readonly timestamp?: string | undefined;
}

export interface Refusal {
  /** The close code. */
  readonly code: number;
  /** In a word, as it is counted. */
  readonly reason: string;
  readonly message: string;
}

export const CONNECT_EXPECTED: Refusal = {
  code: CLOSE.connectExpected,
  reason: "connect_expected",
  message: "The first frame must be connect.",
};
export const UNPROVEN: Refusal = {
  code: CLOSE.possessionUnproved,
  reason: "unproven",
  message: "The DID was registered with a proof.",
};
export const REPLACED: Refusal = {
  code: CLOSE.replaced,
  reason: "replaced",
  message: "Another connection of this DID took over.",
};
/** Sent before the one that stands, by a process that is gone or by who recorded it; or used before. */
export const OUTDATED: Refusal = {
  code: CLOSE.outdated,
  reason: "outdated",
  message: "A newer connection of this DID stands.",
};
export const REPLAYED: Refusal = {
  code: CLOSE.outdated,
  reason: "replayed",
  message: "This connect was used before.",
};
export const DRAINING: Refusal = {
  code: CLOSE.tryLater,
  reason: "draining",
  message: "The relay is restarting. Come again at once.",
};
const FROM_MISSING: Refusal = {
  code: CLOSE.fromMissing,
  reason: "from_missing",
  message: "The connect has no from.",
};
const TOKEN_REFUSED: Refusal = {
  code: CLOSE.tokenRefused,
  reason: "token_refused",
  message: "The token is not valid.",
};

const sameText = (a: string, b: string) => timingSafeEqual(sha256(utf8.encode(a)), sha256(utf8.encode(b)));

/**
 * Why a first frame is refused, or whom it lets in. In the reference's order of checks.
 * @param rules.admitsUnproven whether one who proves nothing may be let in at all
 */
export function admission(
  frame: unknown,
  rules: { readonly now: number; readonly token: string | undefined; readonly admitsUnproven: boolean },
): Admission | Refusal {
  const { now, token, admitsUnproven } = rules;
  const head = safeParse(Head, frame);
  if (!head.success || head.data.type !== "connect") return CONNECT_EXPECTED;
  const { from } = head.data;
  if (typeof from !== "string" || from === "") return FROM_MISSING;
  let found: Admission | undefined = admitsUnproven ? safeParse(UnprovenConnect, frame).data : undefined;
  if (!found) {
    const parsed = safeParse(Connect, frame);
    const refusal = parsed.success ? connectRefusal(parsed.data, now) : firstIssue(parsed.error);
    if (!parsed.success || refusal !== undefined)
      return { ...UNPROVEN, message: `Proof of possession failed: ${refusal}.` };
    found = { ...parsed.data, provenAt: Date.parse(parsed.data.timestamp) };
  }
  return token !== undefined && !sameText(found.token ?? "", token) ? TOKEN_REFUSED : found;
}
