import { describe, expect, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import { RETRY_MAX_MS, RETRY_MIN_MS } from "../../limits.ts";
import { REGISTRATION_CALM_MS, REGISTRATION_PAUSE_MAX_MS } from "./limits.ts";
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
const forgotten: Event = { type: "FORGOTTEN" };
const again = [registered, prekeysMade(1, 51), published];
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

describe("a registry that has forgotten a member", () => {
  it("is registered with again, prekeys are published anew, and the membership is as it was", () => {
    pairingAfter(...paired)
      .when(forgotten, T0 + 1)
      .then({
        state: { joining: "registering" },
        effects: [effect("register")],
        context: { pairedAt: T0, rejoining: true, forgotten: { at: T0 + 1, again: null, times: 1 } },
        timers: {},
      })
      .when(registered)
      .then({ state: { joining: "preparing" }, effects: [effect("makePrekeys")] })
      .when(prekeysMade(1, 51))
      .when(published, T0 + 9)
      .then({
        state: "paired",
        effects: [effect("connect")],
        context: { pairedAt: T0, rejoining: false, forgotten: { at: T0 + 1, again: T0 + 9, times: 1 }, failure: null },
        timers: {},
      });
  });

  it("that does not take the member back is asked again and again, and it is known why", () => {
    pairingAfter(...paired, forgotten)
      .when(failed(false, "clock_off"))
      .then({
        state: { joining: "registeringLater" },
        context: { failure: { code: "clock_off" } },
        timers: { retry: RETRY_MIN_MS * 2 },
      })
      .whenTimer("retry")
      .then({ state: { joining: "registering" }, effects: [effect("register")] });
  });

  it("is asked anew when it forgets between registration and prekeys", () => {
    pairingAfter(started, claimed, registered, prekeysMade())
      .when(forgotten)
      .then({ state: { joining: "registering" }, effects: [effect("register")] });
  });

  it("and does so again and again is given more and more time, until it has stood for a while", () => {
    let at = pairingAfter(...paired, forgotten, ...again);
    const pauses: number[] = [];
    for (let times = 2; times < 16; times++) {
      at = at.when(forgotten).then({ state: { joining: "pausing" }, effects: [], context: { forgotten: { times } } });
      pauses.push(at.deadlines().pause ?? 0);
      at = at.whenTimer("pause").then({ state: { joining: "registering" }, effects: [effect("register")] });
      for (const event of again) at = at.when(event);
    }
    expect(pauses.slice(0, 3)).toEqual([4 * RETRY_MIN_MS, 8 * RETRY_MIN_MS, 16 * RETRY_MIN_MS]);
    expect(pauses.at(-1)).toBe(REGISTRATION_PAUSE_MAX_MS);
    at.when(forgotten, at.at + REGISTRATION_CALM_MS).then({
      state: { joining: "registering" },
      context: { forgotten: { times: 1 } },
    });
  });

  it.each([
    ["registering", "register", [forgotten]],
    ["preparing", "makePrekeys", [forgotten, registered]],
    ["publishing", "publishPrekeys", [forgotten, registered, prekeysMade(1, 51)]],
  ])("keeps nobody from the relay: after a restart while %s the link comes up as well", (state, type, history) => {
    pairingAfter(...paired, ...history)
      .whenResumed()
      .then({ state: { joining: state }, effects: [effect("connect"), effect(type)] });
  });
  it.each([
    ["register", "registeringLater", [forgotten, failed()]],
    ["publish", "publishingLater", [forgotten, registered, prekeysMade(1, 51), failed()]],
    ["be forgotten no more", "pausing", [forgotten, ...again, forgotten]],
  ])("nor while the member waits to %s", (_, state, history) => {
    pairingAfter(...paired, ...history)
      .whenResumed()
      .then({ state: { joining: state }, effects: [effect("connect")] });
  });

  it("keeps nobody from claiming another grant, which may name another registry", () => {
    pairingAfter(...paired, forgotten, failed())
      .when(started)
      .then({ state: "claiming", effects: [effect("claim")], context: { rejoining: false }, timers: {} })
      .when(claimed)
      .then({ state: { joining: "registering" } });
  });

  it("is no news while it is registered with", () => {
    for (const history of [[], [failed()], [registered]])
      pairingAfter(...paired, forgotten, ...history)
        .when(forgotten)
        .thenRefused();
    pairingAfter().when(forgotten).thenRefused();
  });
});

describe("a member that registered with an earlier version of the program", () => {
  const outdated: Event = { type: "OUTDATED" };

  it("registers again, and nobody says that it was forgotten", () => {
    pairingAfter(...paired)
      .when(outdated)
      .then({
        state: { joining: "registering" },
        effects: [effect("register")],
        context: { rejoining: true, announced: null, forgotten: null },
      })
      .when({ ...registered, extensions: "signed-knocks receipts" })
      .when(prekeysMade(1, 51))
      .when(published)
      .then({ state: "paired", context: { rejoining: false, announced: "signed-knocks receipts", forgotten: null } });
  });
  it("only once", () => {
    pairingAfter(...paired, outdated)
      .when(outdated)
      .thenRefused();
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
    forgotten,
    ...again,
    forgotten,
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
