import { describe, expect, it } from "vitest";
import { BOB, type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import {
  ONE_TIME_PREKEYS,
  ONE_TIME_PREKEYS_LOW,
  PREKEYS_CHECK_MS,
  PREKEYS_RETRY_MAX_MS,
  RETRY_MIN_MS,
  SIGNED_PREKEY_KEPT_MS,
  SIGNED_PREKEY_MS,
  SIGNED_PREKEYS_KEPT,
} from "../../limits.ts";
import { prekeysDefinition as prekeys } from "./machine.ts";

const adopted = (signed = 1, next = 51): Event => ({ type: "ADOPTED", signed, next });
const checked = (left: number | null = ONE_TIME_PREKEYS, ours = ONE_TIME_PREKEYS): Event => ({
  type: "CHECKED",
  left,
  ours,
});
const made = (signed = 1, dropped: number[] = []): Event => ({ type: "MADE", signed, first: 51, count: 50, dropped });
const published: Event = { type: "PUBLISHED", signed: 1 };
const drained: Event = { type: "DRAINED" };
const usedUp: Event = { type: "USED_UP" };
const failed: Event = { type: "FAILED", code: "registry_unreachable", detail: "why" };
const prekeysAfter = (...events: Event[]) => given(prekeys, BOB, ...events);
const effect = (type: string, more = {}) => [type, { controller: BOB, ...more }] as const;
const making = (rotate: boolean, count: number) => effect("make", { wanted: { rotate, count } });

describe("prekeys that pairing published", () => {
  it("are looked after from then on", () => {
    prekeysAfter()
      .when(adopted())
      .then({
        state: "fresh",
        effects: [],
        context: { signed: 1, signedAt: T0, next: 51, kept: [] },
        timers: { check: PREKEYS_CHECK_MS },
      });
  });
  it("under a new address begin anew, and the ones before are kept for a while", () => {
    prekeysAfter(adopted())
      .when(adopted(2, 101), T0 + 5)
      .then({
        state: "fresh",
        context: { signed: 2, signedAt: T0 + 5, kept: [{ id: 1, until: T0 + 5 + SIGNED_PREKEY_KEPT_MS }] },
        timers: { check: PREKEYS_CHECK_MS },
      });
  });
});

describe("one-time prekeys", () => {
  it("are counted by and by, and nothing happens while there are enough", () => {
    prekeysAfter(adopted())
      .whenTimer("check")
      .then({ state: "checking", effects: [effect("check")] })
      .when(checked(ONE_TIME_PREKEYS_LOW), T0 + PREKEYS_CHECK_MS)
      .then({ state: "fresh", effects: [], timers: { check: PREKEYS_CHECK_MS } });
  });
  it("are made and published when few are left", () => {
    prekeysAfter(adopted())
      .whenTimer("check")
      .when(checked(ONE_TIME_PREKEYS_LOW - 1), T0 + PREKEYS_CHECK_MS)
      .then({ state: "making", effects: [making(false, ONE_TIME_PREKEYS)] })
      .when(made())
      .then({ state: "publishing", effects: [effect("publish")], context: { signed: 1, first: 51, next: 101 } })
      .when(published)
      .then({ state: "fresh", effects: [] });
  });
  it("are made at once when they are used up here", () => {
    prekeysAfter(adopted())
      .when(usedUp)
      .then({ state: "making", effects: [making(false, ONE_TIME_PREKEYS)] });
  });
});

describe("one-time prekeys at a registry that does not say how many it has", () => {
  const later = T0 + PREKEYS_CHECK_MS;
  const looked = (ours: number) => prekeysAfter(adopted()).whenTimer("check").when(checked(null, ours), T0);

  it("are left alone while our own count says that there are enough", () => {
    looked(ONE_TIME_PREKEYS_LOW).then({ state: "fresh", effects: [] });
  });
  it("are made and published when our own count says that few are left", () => {
    looked(ONE_TIME_PREKEYS_LOW - 1).then({ state: "making", effects: [making(false, ONE_TIME_PREKEYS)] });
  });
  it("are made by and by when a knock came without one, since somebody may fetch them for nothing", () => {
    prekeysAfter(adopted())
      .when(drained)
      .then({ state: "fresh", effects: [], context: { drained: true }, timers: { check: PREKEYS_CHECK_MS } })
      .when(drained)
      .thenRefused();
    prekeysAfter(adopted(), drained)
      .whenTimer("check")
      .when(checked(null), later)
      .then({ state: "making", effects: [making(false, ONE_TIME_PREKEYS)] })
      .when(made(), later)
      .when(published, later)
      .then({ state: "fresh", context: { drained: false, lotAt: later } });
  });
  it("are made at once then, when they were made some time ago", () => {
    prekeysAfter(adopted())
      .when(drained, later)
      .then({ state: "checking", effects: [effect("check")] })
      .when(checked(null), later)
      .then({ state: "making", effects: [making(false, ONE_TIME_PREKEYS)] });
  });
  it("are published with everything else that is, since the reference registry drops those before", () => {
    const many = Array.from({ length: SIGNED_PREKEYS_KEPT + 1 }, (_, n) => adopted(n + 2, 51));
    prekeysAfter(adopted(), ...many)
      .whenTimer("check")
      .when(checked(null), T0)
      .then({ state: "making", effects: [making(false, ONE_TIME_PREKEYS)] });
  });
  it("a registry that counts is believed: a knock without one means nothing there", () => {
    prekeysAfter(adopted()).whenTimer("check").when(checked(), T0).when(drained, later).thenRefused();
    prekeysAfter(adopted(), drained)
      .whenTimer("check")
      .when(checked(ONE_TIME_PREKEYS_LOW), later)
      .then({ state: "fresh", context: { drained: false } });
  });
});

describe("the signed prekey", () => {
  const old = T0 + SIGNED_PREKEY_MS;
  const rotated = () => prekeysAfter(adopted()).whenTimer("check").when(checked(), old);

  it("is replaced when it is old, and the one before is kept for knocks that are under way", () => {
    rotated()
      .then({ state: "making", effects: [making(true, 0)] })
      .when(made(2), old)
      .then({
        state: "publishing",
        context: { signed: 2, signedAt: old, kept: [{ id: 1, until: old + SIGNED_PREKEY_KEPT_MS }] },
      });
  });
  it("is looked at no later than it is old", () => {
    const late = T0 + SIGNED_PREKEY_MS - 5;
    prekeysAfter(adopted())
      .whenTimer("check")
      .when(checked(), late)
      .then({ state: "fresh", timers: { check: 5 } });
  });
  it("is forgotten when too many were replaced after it", () => {
    const many = Array.from({ length: SIGNED_PREKEYS_KEPT + 1 }, (_, n) => adopted(n + 2, 51));
    prekeysAfter(adopted(), ...many)
      .whenTimer("check")
      .when(checked(), T0)
      .then({ state: "making", effects: [making(false, 0)] })
      .when(made(SIGNED_PREKEYS_KEPT + 2, [1]), T0)
      .when(published)
      .whenTimer("check")
      .when(checked(), T0)
      .then({ state: "fresh" });
  });
  it("is forgotten when it was kept long enough", () => {
    const time = old + SIGNED_PREKEY_KEPT_MS;
    rotated()
      .when(made(2), old)
      .when(published, old)
      .whenTimer("check")
      .when(checked(), time)
      .then({ state: "making" })
      .when(made(3, [1]), time)
      .then({ state: "publishing", context: { signed: 3, kept: [{ id: 2, until: time + SIGNED_PREKEY_KEPT_MS }] } });
  });
});

describe("what does not succeed", () => {
  it.each([
    ["checking", "check", () => prekeysAfter(adopted()).whenTimer("check")],
    ["publishing", "publish", () => prekeysAfter(adopted(), usedUp, made())],
  ])("%s is tried again", (state, type, begun) => {
    begun()
      .when(failed)
      .then({ state: `${state}Later`, effects: [], timers: { retry: RETRY_MIN_MS * 2 } })
      .whenTimer("retry")
      .then({ state, effects: [effect(type)] });
  });
  it("the pauses double up to a limit", () => {
    let at = prekeysAfter(adopted(), usedUp, made());
    let pause = 0;
    for (let attempt = 0; attempt < 30; attempt++) {
      at = at.when(failed);
      pause = at.deadlines().retry ?? 0;
      at = at.whenTimer("retry");
    }
    expect(pause).toBe(PREKEYS_RETRY_MAX_MS);
  });
});

it.each([
  ["checking", [effect("check")], () => prekeysAfter(adopted()).whenTimer("check")],
  ["making", [making(false, ONE_TIME_PREKEYS)], () => prekeysAfter(adopted(), usedUp)],
  ["publishing", [effect("publish")], () => prekeysAfter(adopted(), usedUp, made())],
])("%s is taken up again after a restart", (state, effects, begun) => {
  begun().whenResumed().then({ state, effects });
});

keepsTheLaws(prekeys, {
  life: [adopted(), usedUp, made(), failed, adopted(2, 101), usedUp, made(3), published],
  restful: ["absent", "checking", "making", "publishing"],
});
