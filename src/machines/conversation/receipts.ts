import { RECEIPTS_OWED_MAX } from "../../limits.ts";
import type { ConversationContext as Context } from "./events.ts";

// What a peer is owed: the word that its messages arrived, and that they were read.

export const NOTHING_OWED: Context["owed"] = { delivered: [], read: [] };

/** Receipts go to peers that know what they are. */
export const owing = (context: Context, { delivered = [], read = [] }: Partial<Context["owed"]>): Context["owed"] =>
  context.extensions.includes("receipts")
    ? {
        delivered: [...context.owed.delivered, ...delivered].slice(-RECEIPTS_OWED_MAX),
        read: [...context.owed.read, ...read].slice(-RECEIPTS_OWED_MAX),
      }
    : context.owed;

export const owesReceipt = ({ owed }: Context): boolean => owed.delivered.length + owed.read.length > 0;

/** What is still owed when this was told. */
export function paid({ owed }: Context, { delivered, read }: Context["owed"]): Context["owed"] {
  const left = (ids: readonly string[], told: readonly string[]) => ids.filter((id) => !told.includes(id));
  return { delivered: left(owed.delivered, delivered), read: left(owed.read, read) };
}
