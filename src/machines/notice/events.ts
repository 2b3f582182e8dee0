import { z } from "zod";
import { ORIGIN_LENGTH_MAX } from "../../limits.ts";
import { Resumed, type Timed } from "../definition.ts";

/** Where something was asked for, in words of whoever asked: nobody here reads them. */
export const Origin = z.string().min(1).max(ORIGIN_LENGTH_MAX);

export const NoticeEventSchema = z.discriminatedUnion("type", [
  /** It was asked for there: what becomes of it is told there. */
  z.object({ type: z.literal("ASKED"), origin: Origin }),
  /** All up to this mark was told. Of a conversation a mark counts messages; of an offload it says that it ended. */
  z.object({ type: z.literal("TOLD"), mark: z.int().min(0) }),
  Resumed,
]);
export type NoticeEvent = Timed<z.infer<typeof NoticeEventSchema>>;

export interface NoticeContext {
  /** Null when nobody here asked for it: it came by itself. */
  readonly origin: string | null;
  /** Null when nothing was told. */
  readonly told: number | null;
}
