import { z } from "zod";
import { REASON_LENGTH_MAX } from "./limits.ts";

// What is looked at of Jobs and pods. An API server says much more, and leaves out or nulls whatever is empty.

const Words = z
  .string()
  .transform((text) => text.replaceAll(/\s+/g, " ").trim().slice(0, REASON_LENGTH_MAX).trimEnd())
  .nullish()
  .transform((text) => text ?? "");
const listOf = <S extends z.ZodType>(item: S) =>
  z
    .array(item)
    .nullish()
    .transform((list) => list ?? []);
const Texts = z
  .record(z.string(), z.string())
  .nullish()
  .transform((texts) => texts ?? {});

const Metadata = z.object({
  name: z.string().min(1).max(253),
  uid: z.string().max(100).default(""),
  labels: Texts,
  annotations: Texts,
  /** Text in a watch, a date as the client reads a list: it matters that it is there. */
  deletionTimestamp: z.union([z.string(), z.date()]).nullish(),
});
const Conditions = listOf(z.object({ type: z.string(), status: z.string(), reason: Words, message: Words }));

export const SeenJob = z.object({
  metadata: Metadata,
  spec: z.object({ suspend: z.boolean().nullish(), activeDeadlineSeconds: z.int().nullish() }),
  status: z
    .object({ conditions: Conditions })
    .nullish()
    .transform((status) => status ?? { conditions: [] }),
});
export type SeenJob = z.infer<typeof SeenJob>;

export const SeenPod = z.object({
  metadata: Metadata,
  spec: z.object({ nodeName: z.string().nullish() }),
  status: z
    .object({
      phase: z.string().nullish(),
      reason: Words,
      message: Words,
      conditions: Conditions,
      containerStatuses: listOf(
        z.object({
          name: z.string(),
          state: z
            .object({
              waiting: z.object({ reason: Words, message: Words }).nullish(),
              running: z.object({}).nullish(),
              terminated: z.object({ exitCode: z.int(), reason: Words, message: Words }).nullish(),
            })
            .nullish(),
        }),
      ),
    })
    .nullish()
    .transform((status) => status ?? { reason: "", message: "", conditions: [], containerStatuses: [] }),
});
export type SeenPod = z.infer<typeof SeenPod>;

/** A refusal, or an error in the middle of a watch. */
export const SeenStatus = z.object({ code: z.int().nullish(), reason: Words, message: Words });
