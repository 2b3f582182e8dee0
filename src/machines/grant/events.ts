import { z } from "zod";
import { SLOTS_MAX } from "../../limits.ts";
import { Capabilities, Did, Id, Name } from "../../wire/text.ts";
import { Resumed, type Timed } from "../definition.ts";

export const GrantEventSchema = z.discriminatedUnion("type", [
  /** The operator made a token. Only its hash is kept. */
  z.object({
    type: z.literal("ISSUED"),
    token_hash: z.string().length(64),
    slots: z.int().min(1).max(SLOTS_MAX),
    capabilities: Capabilities,
    expires_at: z.number(),
    token_budget: z.int().min(0).nullable(),
  }),
  /** A laptop consumed the token: the grant is its own from now on. */
  z.object({ type: z.literal("BOUND"), did: Did, name: Name }),
  z.object({ type: z.literal("REVOKED") }),
  z.object({ type: z.literal("SLOT_TAKEN"), run: Id }),
  z.object({ type: z.literal("SLOT_FREED"), run: Id, ok: z.boolean(), tokens: z.int().min(0) }),
  Resumed,
]);
export type GrantEvent = Timed<z.infer<typeof GrantEventSchema>>;

export interface GrantContext {
  readonly name: string;
  readonly tokenHash: string;
  readonly slots: number;
  readonly capabilities: readonly string[];
  readonly expiresAt: number;
  readonly tokenBudget: number | null;
  readonly issuedAt: number;
  readonly did: string | null;
  readonly displayName: string;
  readonly pairedAt: number | null;
  readonly running: readonly string[];
  readonly completed: number;
  readonly failed: number;
  readonly tokensUsed: number;
}
