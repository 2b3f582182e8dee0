import { Admission } from "../../src/actors/admission.ts";
import { IncomingMail } from "../../src/actors/incoming.ts";
import { Receipts } from "../../src/actors/receipts.ts";
import { Registry } from "../../src/actors/registry.ts";
import { ActorSystem } from "../../src/actors/system.ts";
import { Grants } from "../../src/cluster/grants.ts";
import type { ConversationContext } from "../../src/machines/conversation/events.ts";
import type { Entry } from "../../src/store/journal.ts";
import { type Mutant, replacing } from "./mutant.ts";

// Breakages of what keeps strangers out, of what is sent again, and of receipts.

/** What is to be committed, changed before it is decided on. */
const committing = (change: (entries: readonly Entry[], system: ActorSystem) => readonly Entry[]) =>
  replacing(
    ActorSystem.prototype,
    "commit",
    (original) =>
      function (this: ActorSystem, entries, options) {
        return original.call(this, change(entries, this), options);
      },
  );

const without = (isIt: (event: Entry["event"]) => boolean) =>
  committing((entries) => entries.filter(({ event }) => !isIt(event)));

/** What a peer was sent and has not acknowledged yet. */
function underway(system: ActorSystem, stream: string): string[] {
  const context: ConversationContext | undefined = system.decided(stream)?.snapshot.context;
  return [...(context?.unconfirmed ?? []), ...(context?.outbox ?? [])]
    .filter(({ kind }) => kind === "chat")
    .map(({ id }) => id);
}

export const ADMISSION_MUTANTS: readonly Mutant[] = [
  {
    name: "unsent-dropped",
    shownBy: 117,
    breakage: "what the relay took in a session that is lost is not sent again",
    apply: without(({ type }) => type === "UNSENT"),
  },
  {
    name: "confirmed-by-the-relay",
    shownBy: 103,
    breakage: "what the relay has counts as read by the peer, whatever session it is in",
    apply: committing((entries, system) =>
      entries.flatMap((entry) => {
        const { stream, event } = entry;
        const context: ConversationContext | undefined = system.decided(stream)?.snapshot.context;
        if (event.type !== "SEALED" || context?.proved.includes(String(event.session))) return [entry];
        return [entry, { stream, event: { type: "CONFIRMED", session: event.session } }];
      }),
    ),
  },
  {
    name: "receipt-for-all",
    breakage: "a receipt for one message counts for all that are under way",
    apply: committing((entries, system) =>
      entries.map(({ stream, event }) => {
        if (event.type !== "ACKNOWLEDGED" || !Array.isArray(event.delivered)) return { stream, event };
        return { stream, event: { ...event, delivered: [...event.delivered, ...underway(system, stream)] } };
      }),
    ),
  },
  {
    name: "receipt-not-sent",
    shownBy: 2,
    breakage: "a receipt that is owed counts as told without being sent",
    apply: without(({ type, kind }) => type === "SEND" && kind === "receipt"),
  },
  {
    name: "receipts-not-gathered",
    shownBy: 2,
    breakage: "receipts that are owed are told to nobody",
    apply: replacing(Receipts.prototype, "soon", () => () => undefined),
  },
  {
    name: "vouching-ignored",
    shownBy: 12,
    breakage: "whoever is registered may talk to everyone",
    apply: replacing(
      Admission.prototype,
      "judge",
      (original) =>
        function (this: Admission, did, agent) {
          const judgement = original.call(this, did, agent);
          return judgement === "held" ? "admitted" : judgement;
        },
    ),
  },
  {
    name: "vouching-for-others",
    shownBy: 9,
    breakage: "the controller's word for an agent is for another one",
    apply: replacing(
      Grants.prototype,
      "vouch",
      (original) =>
        function (this: Grants, did) {
          return original.call(
            this,
            did.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
          );
        },
    ),
  },
  {
    name: "held-shown",
    shownBy: 3,
    breakage: "what a stranger says is shown before the person has decided",
    apply: without(({ type }) => type === "HELD"),
  },
  {
    name: "held-not-welcomed",
    breakage: "a stranger that is let in is not told, and what was left at the relay is not fetched",
    apply: () => {
      const repairs = [
        replacing(IncomingMail.prototype, "welcome", () => async () => undefined)(),
        replacing(Admission.prototype, "isHeld", () => () => true)(),
      ];
      return () => {
        for (const repair of repairs) repair();
      };
    },
  },
  {
    name: "signatures-not-asked",
    shownBy: 30,
    breakage: "a knock without a signature is taken of who announces that it signs its knocks",
    apply: replacing(
      Registry.prototype,
      "agent",
      (original) =>
        async function (this: Registry, did) {
          const record = await original.call(this, did);
          return { ...record, metadata: { ...record.metadata, extensions: "receipts" } };
        },
    ),
  },
];
