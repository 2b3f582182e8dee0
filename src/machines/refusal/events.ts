import { z } from "zod";
import { ERROR_CODES } from "../../errors.ts";
import { Did, Id, Name } from "../../wire/text.ts";
import { Resumed, type Timed } from "../definition.ts";

export const RefusalEventSchema = z.discriminatedUnion("type", [
  /** Somebody asked for what was not granted. */
  z.object({
    type: z.literal("REFUSED"),
    what: z.enum(["offload", "pairing"]),
    code: z.enum(ERROR_CODES),
    /** Whose grant did not allow it, as far as there is one. */
    grant: Name.nullable(),
    laptop: Did,
    request: Id.nullable(),
    task_sha256: z.string().length(64).optional(),
    task_size: z.int().min(0).optional(),
    files: z.int().min(0).optional(),
    bytes: z.int().min(0).optional(),
  }),
  Resumed,
]);
export type RefusalEvent = Timed<z.infer<typeof RefusalEventSchema>>;

export interface RefusalContext {
  /** How many were written down. */
  readonly count: number;
  /** What the newest were about, to know a repetition. */
  readonly recent: readonly string[];
}
