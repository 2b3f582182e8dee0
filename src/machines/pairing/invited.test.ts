import { describe, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import { PAIR_ANSWER_MAX_MS, PAIR_ANSWER_MIN_MS } from "./limits.ts";
import { pairingDefinition as pairing } from "./machine.ts";

const invited = (more: object = {}): Event => ({
  type: "INVITED",
  did: ALICE,
  controller: BOB,
  amid: null,
  request: "r",
  relay_url: "wss://r",
  registry_url: "https://g",
  name: "laptop",
  ...more,
});
const registered: Event = { type: "REGISTERED", name: "laptop", capabilities: [] };
const prekeysMade: Event = { type: "PREKEYS_MADE", signed: 1, first: 1, count: 50 };
const published: Event = { type: "PUBLISHED", signed: 1 };
const grant = { name: "laptop", slots: 1, capabilities: ["offload"], token_budget: null, expires_at: null };
const claimed: Event = {
  type: "CLAIMED",
  cluster: "kars",
  relay_url: "wss://r",
  registry_url: "https://g",
  grant,
  plain: BOB,
};
const failed = (code = "token_used", final = true): Event => ({ type: "FAILED", code, detail: "why", final });
const forgotten: Event = { type: "FORGOTTEN" };
const joining = [invited(), registered, prekeysMade];
const asking = [...joining, published];
const paired = [...asking, claimed];
const pairingAfter = (...events: readonly Event[]) => given(pairing, BOB, ...events);
const effect = (type: string) => [type, { controller: BOB }] as const;

describe("a token of a deployed cluster", () => {
  it("is consumed over the relay, which is joined first", () => {
    pairingAfter()
      .when(invited())
      .then({ state: { joining: "registering" }, effects: [effect("register")], context: { relayUrl: "wss://r" } })
      .when(registered)
      .when(prekeysMade)
      .when(published)
      .then({
        state: "asking",
        effects: [effect("ask")],
        context: { pairedAt: null, plain: null, asking: { request: "r", asks: 1 } },
        timers: { answer: PAIR_ANSWER_MIN_MS },
      })
      .when(claimed, T0 + 9)
      .then({
        state: "paired",
        effects: [effect("connect")],
        context: { pairedAt: T0 + 9, plain: BOB, asking: null, cluster: "kars", grant, name: "laptop" },
        timers: {},
      });
  });

  it("is asked about again, each time later, since nobody knows whether it is spent", () => {
    let at = pairingAfter(...asking);
    for (let asks = 2; asks < 12; asks++) {
      at = at.whenTimer("answer");
      const answer = Math.min(PAIR_ANSWER_MAX_MS, PAIR_ANSWER_MIN_MS * 2 ** (asks - 1));
      at.then({ state: "asking", effects: [effect("ask")], context: { asking: { asks } }, timers: { answer } });
    }
    at.when({ type: "RESUMED" }).then({ state: "asking", effects: [effect("ask")], context: { asking: { asks: 11 } } });
  });

  it.each([
    ["by a registry that does not answer", [invited()]],
    ["by one that takes no prekeys", joining],
    ["by the controller", asking],
  ])("that is refused %s leaves nothing behind", (_, history) => {
    pairingAfter(...history)
      .when(failed())
      .then({
        state: "unpaired",
        effects: [effect("leave")],
        context: { relayUrl: null, registryUrl: null, asking: null, plain: null, failure: { code: "token_used" } },
        timers: {},
      })
      .when(invited())
      .then({ state: { joining: "registering" }, context: { failure: null } });
  });

  it("that is refused leaves a membership as it was", () => {
    pairingAfter(...paired, invited({ relay_url: "wss://r2", registry_url: "https://g2", name: "other" }))
      .when(failed())
      .then({
        state: "paired",
        context: { relayUrl: "wss://r", registryUrl: "https://g", name: "laptop", plain: BOB, asking: null },
        timers: {},
      });
  });

  it("may take the place of one that is not answered, or still joining", () => {
    for (const history of [asking, joining])
      pairingAfter(...history)
        .when(invited({ request: "r2" }))
        .then({ state: { joining: "registering" }, context: { asking: { request: "r2", asks: 1 } }, timers: {} });
  });

  it("that is asked about stands at a registry that forgets: registration is made anew, and the asking goes on", () => {
    pairingAfter(...asking)
      .when(forgotten)
      .then({ state: { joining: "registering" }, effects: [effect("register")], timers: {} })
      .when(failed("registry_unreachable", false))
      .then({ state: { joining: "registeringLater" }, context: { asking: { request: "r", asks: 1 } } })
      .whenTimer("retry")
      .when(registered)
      .when({ ...prekeysMade, first: 51 })
      .when(published)
      .then({
        state: "asking",
        effects: [effect("ask")],
        context: { asking: { request: "r", asks: 1 }, rejoining: false },
        timers: { answer: PAIR_ANSWER_MIN_MS },
      });
  });

  it("may be answered meanwhile", () => {
    pairingAfter(...asking, forgotten, registered)
      .when(claimed, T0 + 9)
      .then({ state: { joining: "preparing" }, context: { asking: null, pairedAt: T0 + 9, plain: BOB, grant } })
      .when({ ...prekeysMade, first: 51 })
      .when(published)
      .then({ state: "paired", effects: [effect("connect")], context: { pairedAt: T0 + 9 } });
    for (const history of [[], [failed("registry_unreachable", false)]])
      pairingAfter(...asking, forgotten, ...history)
        .when(failed())
        .then({ state: "unpaired", effects: [effect("leave")], context: { asking: null }, timers: {} });
    pairingAfter(...joining)
      .when(claimed)
      .thenRefused();
  });

  it("is answered once: an answer that comes again means nothing", () => {
    for (const event of [claimed, failed()])
      pairingAfter(...paired)
        .when(event)
        .thenRefused();
    pairingAfter(...asking, failed())
      .when(claimed)
      .thenRefused();
  });
});

keepsTheLaws(pairing, {
  life: [
    ...[...joining, published, failed(), ...asking, claimed, ...asking, failed()],
    ...[...asking, forgotten, registered, claimed, prekeysMade, published],
  ],
  restful: ["unpaired", "paired"],
});
