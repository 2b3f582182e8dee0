import { z } from "zod";
import { Resumed, type Timed } from "../definition.ts";

/**
 * Whose knocks are taken, of those who were neither written to, nor accepted, nor verified: those that the cluster vouches
 * for; none before the person has decided; all; none.
 */
export const KNOCK_POLICIES = ["circle", "verified", "everyone", "nobody"] as const;
export const KnockPolicy = z.enum(KNOCK_POLICIES);
export type KnockPolicy = z.infer<typeof KnockPolicy>;

export const AdmissionEventSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("POLICY_SET"), policy: KnockPolicy }),
  Resumed,
]);
export type AdmissionEvent = Timed<z.infer<typeof AdmissionEventSchema>>;

export interface AdmissionContext {
  readonly policy: KnockPolicy;
}
