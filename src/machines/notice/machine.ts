import { assign, setup } from "xstate";
import type { MachineDefinition } from "../definition.ts";
import { type NoticeContext, type NoticeEvent, NoticeEventSchema } from "./events.ts";

// To whom news of one conversation or offload is told, and how much of it was. One stream each: `notice/<its stream>`.

const notice = setup({
  types: { context: {} as NoticeContext, events: {} as NoticeEvent, input: {} as { id: string } },
  guards: {
    isElsewhere: ({ context, event }) => event.type === "ASKED" && event.origin !== context.origin,
    isFurther: ({ context, event }) => event.type === "TOLD" && (context.told === null || event.mark > context.told),
  },
}).createMachine({
  id: "notice",
  context: () => ({ origin: null, told: null }),
  initial: "following",
  states: {
    following: {
      on: {
        ASKED: { guard: "isElsewhere", actions: assign(({ event }) => ({ origin: event.origin })) },
        TOLD: { guard: "isFurther", actions: assign(({ event }) => ({ told: event.mark })) },
      },
    },
  },
});

export const noticeDefinition: MachineDefinition = {
  kind: "notice",
  version: 1,
  machine: notice,
  events: NoticeEventSchema,
};
