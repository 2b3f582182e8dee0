import { assign, setup } from "xstate";
import type { MachineDefinition } from "../definition.ts";
import { type AdmissionContext, type AdmissionEvent, AdmissionEventSchema } from "./events.ts";

// Who may open a session with this home: one stream, `admission/knocks`. What was decided about one peer stands in its
// conversation.

const admission = setup({
  types: { context: {} as AdmissionContext, events: {} as AdmissionEvent, input: {} as { id: string } },
}).createMachine({
  id: "admission",
  context: () => ({ policy: "circle" }),
  initial: "deciding",
  states: {
    deciding: {
      on: { POLICY_SET: { actions: assign(({ event }) => ({ policy: event.policy })) } },
    },
  },
});

export const admissionDefinition: MachineDefinition = {
  kind: "admission",
  version: 1,
  machine: admission,
  events: AdmissionEventSchema,
};
