import { describe, it } from "vitest";
import { ALICE, BOB, type Event, given, T0, words } from "../../../test/specification.ts";
import { OFFLOAD_STALL_MS } from "../../limits.ts";
import { offloadDefinition as offload } from "./machine.ts";

const WHOLE_MS = 60 * 60_000;
const requested: Event = {
  type: "REQUESTED",
  controller: ALICE,
  target: {},
  timeout_minutes: 60,
  body: words("task"),
  files: 2,
  bytes: 300,
};
const ready: Event = { type: "STATUS", phase: "ready", sandbox: "box", sandbox_did: BOB };
const greeted: Event = { type: "GREETED", did: BOB, awaits_task: true };
const offered: Event = { type: "OFFERED" };
const started: Event = { type: "STARTED" };
const moved = (way: "up" | "down", bytes: number): Event => ({ type: "TRANSFERRED", way, bytes, total: 300 });
const finished: Event = { type: "FINISHED", body: words("summary"), outputs: 1, tokens: null, duration_seconds: 1 };
const saved: Event = { type: "FILE_SAVED", body: words("f"), size: 1, sha256: "0".repeat(64) };

const uploading = [requested, { type: "ASKED" }, ready, greeted];
const pulled = [...uploading, offered];
const running = [...pulled, started];
const offloadAfter = (...events: readonly Event[]) => given(offload, "o", ...events);
const timers = { whole: WHOLE_MS, stall: OFFLOAD_STALL_MS };

describe("a sandbox that pulls its files", () => {
  it("is given time as long as it pulls", () => {
    offloadAfter(...uploading)
      .when(offered)
      .then({ state: { active: { uploading: "pulled" } }, effects: [], timers });
    offloadAfter(...pulled)
      .when(moved("up", 100), T0 + 1000)
      .then({
        state: { active: { uploading: "pulled" } },
        effects: [],
        context: { moved: { way: "up", bytes: 100, total: 300 }, lastHeard: T0 + 1000 },
        timers: { whole: WHOLE_MS - 1000, stall: OFFLOAD_STALL_MS },
      });
    offloadAfter(...pulled)
      .whenTimer("stall")
      .then({ state: "lost" });
  });

  it("begins when it has them", () => {
    offloadAfter(...pulled)
      .when(started)
      .then({ state: { active: "running" }, effects: [], timers });
  });

  it("is offered them once: after a restart it goes on pulling", () => {
    offloadAfter(...pulled)
      .whenResumed()
      .thenRefused();
  });

  it("may fail or be cancelled meanwhile", () => {
    offloadAfter(...pulled)
      .when({ type: "FAILED", code: "file_refused", note: words("no") })
      .then({ state: "error", context: { failure: "file_refused" } });
    offloadAfter(...pulled)
      .when({ type: "CANCEL" })
      .then({ state: "cancelling" });
    offloadAfter(...pulled, { type: "CANCEL" })
      .when(moved("up", 200))
      .thenRefused();
  });
});

describe("result files that come piece by piece", () => {
  it.each([
    ["running", running],
    ["returning", [...running, finished]],
  ])("are a sign of life (%s)", (phase, history) => {
    offloadAfter(...history)
      .when(moved("down", 10), T0 + 5)
      .then({
        state: { active: phase },
        context: { moved: { way: "down", bytes: 10, total: 300 } },
        timers: { whole: WHOLE_MS - 5, stall: OFFLOAD_STALL_MS },
      });
  });

  it("end it when all of them are here", () => {
    offloadAfter(...running, finished, moved("down", 1))
      .when(saved)
      .then({ state: "done" });
  });
});
