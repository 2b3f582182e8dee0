import { describe, expect, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import { RETRY_MAX_MS, RETRY_MIN_MS } from "../../limits.ts";
import { pairingDefinition as pairing } from "./machine.ts";

const started: Event = {
  type: "STARTED",
  did: ALICE,
  pair_url: "https://c/v1/pair",
  controller: BOB,
  name: null,
  capabilities: [],
};
const grant = { name: "laptop", slots: 1, capabilities: ["offload"], token_budget: null, expires_at: null };
const claimed: Event = { type: "CLAIMED", cluster: "kars", relay_url: "wss://r", registry_url: "https://g", grant };
const joined: Event = {
  type: "JOINED",
  did: ALICE,
  controller: BOB,
  cluster: "kars",
  relay_url: "wss://r2",
  registry_url: "https://g2",
  name: "box",
  capabilities: ["chat"],
};
const registered: Event = { type: "REGISTERED", name: "laptop", capabilities: ["offload"] };
const prekeysMade = (signed = 1, first = 1): Event => ({ type: "PREKEYS_MADE", signed, first, count: 50 });
const published: Event = { type: "PUBLISHED", signed: 1 };
const failed = (final = false, code = "cluster_unreachable"): Event => ({ type: "FAILED", code, detail: "why", final });
const paired = [started, claimed, registered, prekeysMade(), published];
const pairingAfter = (...events: Event[]) => given(pairing, BOB, ...events);
const effect = (type: string) => [type, { controller: BOB }] as const;

describe("a token is consumed", () => {
  it("step by step, each with its own effect", () => {
    pairingAfter()
      .when(started)
      .then({
        state: "claiming",
        effects: [effect("claim")],
        context: { did: ALICE, pairUrl: "https://c/v1/pair", controller: BOB },
      })
      .when(claimed)
      .then({
        state: { joining: "registering" },
        effects: [effect("register")],
        context: { cluster: "kars", relayUrl: "wss://r", registryUrl: "https://g", grant },
      })
      .when(registered)
      .then({
        state: { joining: "preparing" },
        effects: [effect("makePrekeys")],
        context: { name: "laptop", capabilities: ["offload"] },
      })
      .when(prekeysMade())
      .then({
        state: { joining: "publishing" },
        effects: [effect("publishPrekeys")],
        context: { prekeys: { signed: 1, first: 1, next: 51 } },
      })
      .when(published, T0 + 9)
      .then({
        state: "paired",
        effects: [effect("connect")],
        context: { pairedAt: T0 + 9, failure: null, attempts: 0 },
        timers: {},
      });
  });
  it("the laptop is called as its person asked, else as the grant is", () => {
    pairingAfter(started)
      .when(claimed)
      .then({ state: { joining: "registering" }, context: { name: "laptop" } });
    pairingAfter({ ...started, name: "mine" })
      .when(claimed)
      .then({ state: { joining: "registering" }, context: { name: "mine" } });
  });
  it("a refusal leaves it unpaired, with the reason, and another token may be tried", () => {
    pairingAfter(started)
      .when(failed(true, "token_used"))
      .then({ state: "unpaired", effects: [], context: { failure: { code: "token_used", detail: "why" } }, timers: {} })
      .when(started)
      .then({ state: "claiming", effects: [effect("claim")], context: { failure: null, attempts: 0 } });
  });
  it("one at a time", () => {
    pairingAfter(started).when(started).thenRefused();
    pairingAfter(started, claimed).when(started).thenRefused();
  });
  it("a paired laptop may claim another grant, and stays paired when that is refused", () => {
    pairingAfter(...paired)
      .when(started)
      .then({ state: "claiming", effects: [effect("claim")] })
      .when(failed(true, "token_expired"))
      .then({
        state: "paired",
        effects: [effect("connect")],
        context: { failure: { code: "token_expired" }, relayUrl: "wss://r" },
        timers: {},
      });
  });
});

describe("once the token is spent, every step is repeated until it succeeds", () => {
  it.each([
    ["registering", "registeringLater", "register", [started, claimed]],
    ["publishing", "publishingLater", "publishPrekeys", [started, claimed, registered, prekeysMade()]],
  ])("%s", (state, later, type, history) => {
    pairingAfter(...history)
      .when(failed())
      .then({
        state: { joining: later },
        effects: [],
        context: { failure: { code: "cluster_unreachable" }, attempts: 1 },
        timers: { retry: RETRY_MIN_MS * 2 },
      })
      .whenTimer("retry")
      .then({ state: { joining: state }, effects: [effect(type)], timers: {} });
  });
  it("the pauses double up to a limit", () => {
    let at = pairingAfter(started, claimed);
    const pauses: number[] = [];
    for (let attempt = 0; attempt < 20; attempt++) {
      at = at.when(failed());
      pauses.push(at.deadlines().retry ?? 0);
      at = at.whenTimer("retry");
    }
    for (const [index, pause] of pauses.slice(1).entries())
      expect(pause).toBe(Math.min(RETRY_MAX_MS, (pauses[index] ?? 0) * 2));
    expect(pauses.at(-1)).toBe(RETRY_MAX_MS);
  });
  it("and begin anew with the next step", () => {
    pairingAfter(started, claimed, failed())
      .whenTimer("retry")
      .when(registered)
      .then({ state: { joining: "preparing" }, context: { attempts: 0, failure: null } });
  });
});

describe("a member of the household joins without a token", () => {
  it("it only registers", () => {
    pairingAfter()
      .when(joined)
      .then({
        state: { joining: "registering" },
        effects: [effect("register")],
        context: { name: "box", relayUrl: "wss://r2", grant: null },
      });
  });
  it.each([
    ["while it registers", [joined]],
    ["while it waits to register again", [joined, failed()]],
    ["while it publishes", [joined, registered, prekeysMade()]],
    ["when it is paired", paired],
  ])("and again under another address, %s", (_, history) => {
    pairingAfter(...history)
      .when(joined)
      .then({
        state: { joining: "registering" },
        effects: [effect("register")],
        context: { registryUrl: "https://g2", attempts: 0 },
        timers: {},
      });
  });
  it("not while a token is being consumed", () => {
    pairingAfter(started).when(joined).thenRefused();
  });
  it("ids of prekeys only grow, and it was paired when it was paired first", () => {
    pairingAfter(...paired, joined, registered, prekeysMade(2, 51))
      .then({ state: { joining: "publishing" }, context: { prekeys: { signed: 2, first: 1, next: 101 } } })
      .when(published, T0 + 99)
      .then({ state: "paired", context: { pairedAt: T0 } });
  });
});

describe("after a restart the step that was under way is done again", () => {
  it.each([
    ["claiming", "claim", [started]],
    [{ joining: "registering" }, "register", [started, claimed]],
    [{ joining: "preparing" }, "makePrekeys", [started, claimed, registered]],
    [{ joining: "publishing" }, "publishPrekeys", [started, claimed, registered, prekeysMade()]],
    ["paired", "connect", paired],
  ])("%s", (state, type, history) => {
    pairingAfter(...history)
      .whenResumed()
      .then({ state, effects: [effect(type)] });
  });
  it("a pause goes on, and without a cluster there is nothing to do", () => {
    pairingAfter(started, claimed, failed()).whenResumed().thenRefused();
    pairingAfter().whenResumed().thenRefused();
  });
});

it("what comes out of turn is refused", () => {
  for (const event of [claimed, registered, prekeysMade(), published, failed()])
    pairingAfter().when(event).thenRefused();
  for (const event of [claimed, registered, prekeysMade(), published, failed()])
    pairingAfter(...paired)
      .when(event)
      .thenRefused();
  for (const event of [claimed, prekeysMade(), published]) pairingAfter(started, claimed).when(event).thenRefused();
});

keepsTheLaws(pairing, {
  life: [
    started,
    claimed,
    failed(),
    joined,
    registered,
    prekeysMade(),
    failed(),
    joined,
    registered,
    prekeysMade(2, 51),
    published,
  ],
  restful: [
    "unpaired",
    "claiming",
    { joining: "registering" },
    { joining: "preparing" },
    { joining: "publishing" },
    "paired",
  ],
});
