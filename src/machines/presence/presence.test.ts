import { describe, expect, it } from "vitest";
import { type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import { PRESENCE_EVERY_MS, PRESENCE_JITTER_MS } from "./limits.ts";
import { presenceDefinition as presence } from "./machine.ts";

const up = (more: object = {}): Event => ({
  type: "UP",
  registry_url: "https://g",
  tells: false,
  chance: 1,
  ...more,
});
const down: Event = { type: "DOWN" };
const looked = (ours: boolean): Event => ({ type: "LOOKED", ours });
const beaten: Event = { type: "BEATEN" };
const failed = (more: object = {}): Event => ({
  type: "FAILED",
  code: "registry_unreachable",
  detail: "why",
  chance: 1,
  ...more,
});
const presenceAfter = (...events: Event[]) => given(presence, "registry", ...events);
const looking = (...events: Event[]) => presenceAfter(...events).whenTimer("arrival");
const look = ["look", {}] as const;
const beat = ["beat", {}] as const;

describe("the link comes up", () => {
  it.each([
    [0, 0],
    [1, PRESENCE_JITTER_MS],
  ])("the registry is asked after a moment that is left to chance (%s)", (chance, arrival) => {
    presenceAfter()
      .when(up({ chance }))
      .then({ state: "arriving", effects: [], timers: { arrival } })
      .whenTimer("arrival")
      .then({ state: "looking", effects: [look], timers: {} });
  });

  it("a registry of ours sees the connection to a relay of ours: it is asked once, and told nothing", () => {
    looking(up({ tells: true }))
      .when(looked(true), T0 + 9)
      .then({ state: "seen", effects: [], context: { ours: true, knownAt: T0 + 9 }, timers: {} });
  });

  it.each([
    ["the registry is plain", false, true],
    ["the relay is plain", true, false],
    ["both are", false, false],
  ])("where %s, the registry is told that this laptop is here", (_, ours, tells) => {
    looking(up({ tells }))
      .when(looked(ours))
      .then({ state: "beating", effects: [beat] });
  });

  it("a registry that is known to be plain is told at once when the link comes up again", () => {
    looking(up())
      .when(looked(false))
      .when(down)
      .when(up())
      .whenTimer("arrival")
      .then({ state: "beating", effects: [beat] });
  });

  it("another registry is asked what it is", () => {
    looking(up())
      .when(looked(false))
      .when(down)
      .when(up({ registry_url: "https://other" }))
      .then({ state: "arriving", context: { ours: null, knownAt: null } })
      .whenTimer("arrival")
      .then({ state: "looking", effects: [look] });
  });
});

describe("the link is up", () => {
  it("a plain registry is told so every half minute", () => {
    let at = looking(up()).when(looked(false));
    for (let beats = 0; beats < 3; beats++)
      at = at
        .when(beaten, T0 + beats)
        .then({
          state: "present",
          effects: [],
          context: { knownAt: T0 + beats, failure: null },
          timers: { beat: PRESENCE_EVERY_MS },
        })
        .whenTimer("beat")
        .then({ state: "beating", effects: [beat], timers: {} });
  });

  it.each([
    ["looking", "lookingLater", look, () => looking(up())],
    ["beating", "beatingLater", beat, () => looking(up()).when(looked(false))],
  ])("what fails while %s is tried again, and it is known why", (state, later, effect, begun) => {
    begun()
      .when(failed())
      .then({ state: later, effects: [], context: { failure: { code: "registry_unreachable", detail: "why" } } })
      .whenTimer("retry")
      .then({ state, effects: [effect] });
  });

  it.each([0, 1])("the pauses grow to the time of a heartbeat, half of each by chance (%s)", (chance) => {
    let at = looking(up()).when(looked(false));
    const pauses: number[] = [];
    for (let attempt = 0; attempt < 20; attempt++) {
      at = at.when(failed({ chance }));
      pauses.push(at.deadlines().retry ?? 0);
      at = at.whenTimer("retry");
    }
    for (const [index, pause] of pauses.slice(1).entries()) expect(pause).toBeGreaterThanOrEqual(pauses[index] ?? 0);
    expect(pauses.at(-1)).toBe(PRESENCE_EVERY_MS * (0.5 + chance / 2));
    at.when(beaten).then({ state: "present", context: { attempts: 0, failure: null } });
  });
});

describe("the link goes down", () => {
  it.each([
    ["arriving", () => presenceAfter(up())],
    ["looking", () => looking(up())],
    ["waiting to look again", () => looking(up()).when(failed())],
    ["seen", () => looking(up({ tells: true })).when(looked(true))],
    ["beating", () => looking(up()).when(looked(false))],
    ["present", () => looking(up()).when(looked(false)).when(beaten)],
  ])("while it is %s, nothing is asked any more, and late answers mean nothing", (_, begun) => {
    begun()
      .when(down)
      .then({ state: "away", effects: [], context: { failure: null }, timers: {} });
    for (const event of [down, looked(true), beaten, failed()]) begun().when(down).when(event).thenRefused();
  });
});

it("is not journaled: it starts anew with the process", () => {
  expect(presence.live).toBe(true);
});

keepsTheLaws(presence, { life: [up(), down, up({ tells: true }), down], restful: ["away", "seen"] });
