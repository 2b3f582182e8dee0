import { z } from "zod";
import { UNTAKEN } from "../machines/conversation/events.ts";
import { Body } from "../machines/definition.ts";
import type { Journal } from "../store/journal.ts";
import { type Core, conversationOf } from "./core.ts";
import type { MessageEntry } from "./projections/messages.ts";

const Worded = z.object({
  id: z.string(),
  kind: z.string(),
  body: Body,
  size: z.int(),
  untaken: z.enum(UNTAKEN).optional(),
});
export type Worded = z.infer<typeof Worded>;

/** The sealed words of a message as the journal has them; undefined when they are not where the index says. */
export async function wordedAt(
  { system }: Pick<Core, "system">,
  journal: Journal,
  { id, peer, place }: MessageEntry,
): Promise<Worded | undefined> {
  const { entries } = system.current(await journal.read(place));
  for (const { stream, event } of entries) {
    if (stream !== conversationOf(peer)) continue;
    const parsed = Worded.safeParse(event);
    if (parsed.success && parsed.data.id === id) return parsed.data;
  }
  return undefined;
}
