import { assign, setup } from "xstate";
import type { MachineDefinition } from "../definition.ts";
import { type RefusalContext, type RefusalEvent, RefusalEventSchema } from "./events.ts";
import { REFUSALS_KEPT } from "./limits.ts";

// What a cluster refused. An offload that waits for a slot asks again and again: the same refusal is written down once.

/** What makes two refusals the same. Of a token that is good no more only the first is of interest, whoever comes with it. */
const keyOf = (event: RefusalEvent): string =>
  event.type === "REFUSED"
    ? [event.code, event.what, event.grant, ...(event.what === "offload" ? [event.laptop, event.request] : [])].join(
        " ",
      )
    : "";

const refusal = setup({
  types: { context: {} as RefusalContext, events: {} as RefusalEvent, input: {} as { id: string } },
  guards: { isNew: ({ context, event }) => !context.recent.includes(keyOf(event)) },
}).createMachine({
  id: "refusal",
  context: { count: 0, recent: [] },
  on: {
    REFUSED: {
      guard: "isNew",
      actions: assign(({ context, event }) => ({
        count: context.count + 1,
        recent: [...context.recent, keyOf(event)].slice(-REFUSALS_KEPT),
      })),
    },
  },
});

export const refusalDefinition: MachineDefinition = {
  kind: "refusal",
  version: 1,
  machine: refusal,
  events: RefusalEventSchema,
};
