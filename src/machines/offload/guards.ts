import { FILES_MAX } from "../../limits.ts";
import type { OffloadContext, OffloadEvent } from "./events.ts";

// When an offload has a use for an event.

interface Args {
  readonly context: OffloadContext;
  readonly event: OffloadEvent;
}

export const guards = {
  isKnownSandbox: ({ context, event }: Args) =>
    event.type === "GREETED" && (context.sandbox.did === null || context.sandbox.did === event.did),
  isKnownAndAwaitsTask: ({ context, event }: Args) =>
    event.type === "GREETED" &&
    event.awaits_task &&
    (context.sandbox.did === null || context.sandbox.did === event.did),
  /** It has the task; the files that were announced come from us. */
  isKnownAndAwaitsFiles: ({ context, event }: Args) =>
    event.type === "GREETED" &&
    context.plain &&
    context.files.count > 0 &&
    (context.sandbox.did === null || context.sandbox.did === event.did),
  isReadyUnnamed: ({ context, event }: Args) =>
    event.type === "STATUS" && event.phase === "ready" && event.sandbox_did === null && context.plain,
  isNewPong: ({ context, event }: Args) => event.type === "PONGED" && !context.ponged.includes(event.did),
  isAlone: ({ context }: Args) => context.ponged.length === 1,
  handsTask: ({ context }: Args) => context.handsTask,
  isQueued: ({ event }: Args) => event.type === "REQUESTED" && event.queued === true,
  /** The cluster has no slot, though there should be one: others take some of them, or one that ended is not gone yet. */
  isFull: ({ event }: Args) => event.type === "FAILED" && event.code === "no_free_slot",
  isReady: ({ event }: Args) => event.type === "STATUS" && event.phase === "ready",
  namesSandbox: ({ context, event }: Args) =>
    event.type === "STATUS" &&
    event.sandbox !== null &&
    event.sandbox_did !== null &&
    event.sandbox_did === context.sandbox.did &&
    context.sandbox.name === null,
  isSpawning: ({ event }: Args) =>
    event.type === "STATUS" && (event.phase === "spawning" || event.phase === "scheduled"),
  isNewFile: ({ context, event }: Args) => event.type === "FILE_SAVED" && context.results.length < FILES_MAX,
  isComplete: ({ context }: Args) => context.results.length >= context.outputs,
  /** A deployed sandbox names every file that its task wrote, and sends only some of them. */
  isOfDeployed: ({ context }: Args) => context.plain,
  owesCleanUp: ({ context }: Args) => !context.cleanedUp,
};
