import { Arrivals } from "../../src/actors/arrivals.ts";
import { Keyring } from "../../src/actors/keyring.ts";
import type { Network, SocketEvents } from "../../src/actors/ports.ts";
import { MessagesProjection } from "../../src/actors/projections/messages.ts";
import { Reception } from "../../src/actors/reception.ts";
import { ActorSystem } from "../../src/actors/system.ts";
import { noble } from "../../src/crypto/primitives/noble.ts";
import { type Mutant, replacing } from "./mutant.ts";
import { RELAY_AUTHORITY } from "./plain-relay.ts";

// Breakages of what keeps messages from being lost over a relay that forgets.

/** A network whose sockets to a plain relay have something replaced. */
const atPlainRelay =
  (events: (events: SocketEvents) => SocketEvents, isSent: (text: string) => boolean = () => true) =>
  (network: Network): Network => ({
    ...network,
    dial: (url, given) => {
      if (new URL(url).host !== RELAY_AUTHORITY) return network.dial(url, given);
      const socket = network.dial(url, events(given));
      return { ...socket, send: (text) => isSent(text.toString()) && socket.send(text) };
    },
  });

/** Takes every message as if it were sent after nothing. */
const forgetful = (events: SocketEvents): SocketEvents => ({
  ...events,
  received: (text) => {
    const frame: { readonly after?: string | null } = JSON.parse(text.toString());
    events.received(frame.after === undefined ? text : JSON.stringify({ ...frame, after: null }));
  },
});

/** Lets each knock through once. */
function once(): (text: string) => boolean {
  const knocks = new Set<string>();
  return (text) => {
    const { type, id }: { readonly type: string; readonly id: string } = JSON.parse(text);
    return type !== "knock" || (!knocks.has(id) && knocks.add(id).has(id));
  };
}

export const ARRIVAL_MUTANTS: readonly Mutant[] = [
  {
    name: "arrivals-not-signed",
    shownBy: 6,
    breakage: "whatever an arrival notice is signed with, it is believed",
    apply: replacing(
      noble,
      "ed25519Verify",
      (original) => (key, message, signature) =>
        Buffer.from(message).toString("utf8").startsWith("kars-arrived-v1|") || original(key, message, signature),
    ),
  },
  {
    name: "after-ignored",
    shownBy: 10,
    breakage: "a message is taken before the one that it was sent after",
    tampering: { network: atPlainRelay(forgetful) },
  },
  {
    name: "told-before-stored",
    shownBy: 4,
    breakage: "a peer is told that a message arrived before that is on disk",
    apply: () => {
      // Keys of messages that are decided on, by what looks for them on the disk.
      const hasty = new Set<string>();
      const repairs = [
        replacing(
          Reception.prototype,
          "take",
          (original) =>
            function (this: Reception, frame, mayComeLater) {
              const durable = original.call(this, frame, mayComeLater);
              if (durable === "later" || frame.after === undefined) return durable;
              durable.catch(() => undefined);
              hasty.add(`${frame.from} ${frame.message_id ?? frame.id}`);
              return Promise.resolve();
            },
        )(),
        replacing(
          MessagesProjection.prototype,
          "wasReceived",
          (original) =>
            function (this: MessagesProjection, peer, id) {
              return original.call(this, peer, id) || hasty.has(`${peer} ${id}`);
            },
        )(),
      ];
      return () => {
        for (const repair of repairs) repair();
      };
    },
  },
  {
    name: "resent-key-forgotten",
    shownBy: 6,
    breakage: "the message key goes when a relay that may lose the message has it",
    apply: replacing(
      ActorSystem.prototype,
      "commit",
      (original) =>
        function (this: ActorSystem, entries, options = {}) {
          const gone = entries.flatMap(({ stream, event }) =>
            event.type === "TRANSMITTED" && event.resend === true && Array.isArray(event.ids)
              ? Keyring.sentNames(stream.slice("conversation/".length), event.ids)
              : [],
          );
          return original.call(this, entries, { ...options, forgotten: [...(options.forgotten ?? []), ...gone] });
        },
    ),
  },
  {
    name: "knock-sent-once",
    shownBy: 8,
    breakage: "a knock that a relay may have lost does not go again",
    tampering: { network: atPlainRelay((events) => events, once()) },
  },
  {
    name: "resent-at-connects-only",
    shownBy: 10,
    breakage: "what a peer has not confirmed goes again when the link comes up, and never else",
    apply: replacing(Arrivals.prototype, "watch", () => () => undefined),
  },
  {
    name: "not-resent-at-connects",
    shownBy: 118,
    breakage: "what a peer has not confirmed counts as on the wire when the link has been down",
    apply: replacing(Arrivals.prototype, "onUp", () => () => undefined),
  },
];
