import { z } from "zod";
import { asMeshError } from "../errors.ts";
import { Body } from "../machines/definition.ts";
import { isFileChunk } from "../wire/file-chunk.ts";
import type { Core } from "./core.ts";
import { WORDS_ASKED_MAX } from "./limits.ts";
import { operation } from "./operation.ts";
import { persist } from "./state.ts";

// What whoever looks inside may ask of a node. All but the last keep words sealed.

const CONVERSATION = "conversation/";

/** What was said in a body; null where its key was destroyed, it is no longer there, or it is a piece of a file. */
async function wordsIn({ bodies }: Core, scope: string, body: Body): Promise<string | null> {
  try {
    const bytes = await bodies.openBytes(scope, body);
    return isFileChunk(bytes) ? null : bytes.toString("utf8");
  } catch (error) {
    // Work that was handled has no blob any more, and what is forgotten has no key.
    if (asMeshError(error).code === "store_damaged") return null;
    throw error;
  }
}

export const lookingOperations = {
  /** Every actor with its state, with all words sealed. */
  actors: operation(z.object({}), async (_, { node }) => ({
    actors: [...node.core.system.streams()].map(([stream, state]) => ({ stream, state: persist(state) })),
  })),

  /** Tells of every durable change until the caller ends the call: states and events, with all words sealed. */
  watch: operation(z.object({}), async (_, { node, signal, progress }) => {
    const { system } = node.core;
    for (const [stream, state] of system.streams())
      progress({ stream, state: persist(state), event: null, at: 0, number: 0 });
    const unsubscribe = system.subscribe(({ stream, state, event, at, commit }) =>
      progress({ stream, state: persist(state), event, at, number: commit?.number ?? 0 }),
    );
    const stop = AbortSignal.any([signal, node.signal]);
    await new Promise<void>((resolve) =>
      stop.aborted ? resolve() : stop.addEventListener("abort", () => resolve(), { once: true }),
    );
    unsubscribe();
    return {};
  }),

  /** What was said in bodies of a stream's events, in their order. */
  words: operation(
    z.object({ stream: z.string().max(200), bodies: z.array(Body).max(WORDS_ASKED_MAX) }),
    async ({ stream, bodies }, { node }) => {
      const scope = stream.startsWith(CONVERSATION) ? stream.slice(CONVERSATION.length) : stream;
      const words: (string | null)[] = [];
      for (const body of bodies) words.push(await wordsIn(node.core, scope, body));
      return { words };
    },
  ),
} as const;
