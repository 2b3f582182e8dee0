import { z } from "zod";
import { safeParse } from "../../parse.ts";
import { HOME_PATH_LENGTH_MAX } from "./limits.ts";

// A home's log holds operations on files, a message each: a line of JSON, and behind it the bytes that it speaks of.

const Path = z.string().min(1).max(HOME_PATH_LENGTH_MAX);
const Count = z.int().min(0);
/** How many `part`s right before it its bytes begin with. */
const parts = Count.default(0);

export const Operation = z.discriminatedUnion("op", [
  /** A writer begins, or makes certain what of its own came through: what others write behind it, it has not seen. */
  z.object({ op: z.literal("fence") }),
  /** The bytes of the `write` or `file` that follows, the `index`th of them. */
  z.object({ op: z.literal("part"), index: Count }),
  /** From `at` on the file is these bytes and nothing behind them; it is made when there is none. */
  z.object({ op: z.literal("write"), path: Path, at: Count, parts }),
  z.object({ op: z.literal("name"), from: Path, to: Path }),
  /** The file, or all that is below the path. */
  z.object({ op: z.literal("remove"), path: Path }),
  /** Every file follows, and nothing else, up to `end`: then what lies before it is of no more use. */
  z.object({ op: z.literal("checkpoint") }),
  z.object({ op: z.literal("file"), path: Path, parts }),
  /** The checkpoint of that number is whole. */
  z.object({ op: z.literal("end"), checkpoint: Count }),
]);
export type Operation = z.infer<typeof Operation>;

/** Who wrote it, and as its how many-eth: by that a writer knows its own again. */
const Origin = z.object({ v: z.literal(1), writer: z.string().max(64), number: Count });

export interface Message {
  readonly writer: string;
  readonly number: number;
  readonly operation: Operation;
  readonly bytes: Uint8Array;
}

const NEWLINE = 0x0a;

export function encodeMessage({ writer, number, operation, bytes }: Message): Uint8Array {
  return Buffer.concat([Buffer.from(`${JSON.stringify({ v: 1, writer, number, ...operation })}\n`, "utf8"), bytes]);
}

/** A message as it was written; undefined when it is none that this program knows. */
export function decodeMessage(data: Uint8Array): Message | undefined {
  const end = data.indexOf(NEWLINE);
  if (end < 0) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(data.subarray(0, end)).toString("utf8"));
  } catch {
    return undefined;
  }
  const origin = safeParse(Origin, json);
  const operation = safeParse(Operation, json);
  if (!origin.success || !operation.success) return undefined;
  const { writer, number } = origin.data;
  return { writer, number, operation: operation.data, bytes: data.subarray(end + 1) };
}
