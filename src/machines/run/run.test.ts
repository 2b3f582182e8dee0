import { describe, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import { OFFLOAD_CANCEL_MS, OFFLOAD_HELLO_MS } from "../../limits.ts";
import { runDefinition as run } from "./machine.ts";

const WHOLE_MS = 10 * 60_000;
const requested: Event = {
  type: "REQUESTED",
  request: "q",
  grant: "laptop",
  laptop: ALICE,
  sandbox: "box",
  capabilities: ["offload"],
  timeout_minutes: 10,
};
const spawned: Event = { type: "SPAWNED", pid: 42 };
const ready: Event = { type: "READY", did: BOB };
const stop = (reason = "done"): Event => ({ type: "STOP", reason });
const exited = (code: number | null = 0): Event => ({ type: "EXITED", code, tokens: 0 });
const failed: Event = { type: "FAILED", code: "internal", detail: "no such program" };
const settled: Event = { type: "SETTLED" };
const runAfter = (...events: Event[]) => given(run, "r", ...events);
const effect = (type: string, more: object = {}) => [type, { run: "r", ...more }] as const;

describe("a sandbox comes up", () => {
  it("the laptop is told, and its process is started", () => {
    runAfter()
      .when(requested, T0 + 3)
      .then({
        state: { alive: "spawning" },
        effects: [effect("tell", { phase: "spawning" }), effect("spawn")],
        context: { laptop: ALICE, startedAt: T0 + 3 },
        timers: { whole: WHOLE_MS },
      });
  });
  it("its process has a time to join the mesh", () => {
    runAfter(requested)
      .when(spawned)
      .then({
        state: { alive: "booting" },
        effects: [],
        context: { pid: 42 },
        timers: { whole: WHOLE_MS, boot: OFFLOAD_HELLO_MS },
      });
  });
  it("the laptop is told when it is there", () => {
    runAfter(requested, spawned)
      .when(ready)
      .then({
        state: { alive: "ready" },
        effects: [effect("tell", { phase: "ready" })],
        context: { did: BOB },
        timers: { whole: WHOLE_MS },
      });
  });
  it("has no process id where it is no process of this machine", () => {
    runAfter(requested)
      .when({ type: "SPAWNED", pid: null })
      .then({ state: { alive: "booting" }, effects: [], context: { pid: null } });
  });
  it.each([
    { history: [requested], state: "spawning" },
    { history: [requested, spawned], state: "booting" },
  ])("the laptop is told what its start waits for ($state)", ({ history, state }) => {
    const words = "no node has room";
    runAfter(...history)
      .when({ type: "STARTING", phase: "spawning", words })
      .then({
        state: { alive: state },
        effects: [effect("tell", { phase: "spawning", words })],
        context: { waits: words },
      });
  });
  it("that is of no interest once it is there, or over", () => {
    const starting: Event = { type: "STARTING", phase: "scheduled", words: "it has a node" };
    runAfter(requested, spawned, ready).when(starting).thenRefused();
    runAfter(requested, stop()).when(starting).thenRefused();
    runAfter(requested, failed).when(starting).thenRefused();
  });
  it("begins once", () => {
    runAfter(requested).when(requested).thenRefused();
  });
});

describe("after a restart of the controller", () => {
  it("a process that was to be started is started, one that was started is looked for", () => {
    runAfter(requested)
      .whenResumed()
      .then({ state: { alive: "spawning" }, effects: [effect("spawn")] });
    runAfter(requested, spawned)
      .whenResumed()
      .then({ state: { alive: "booting" }, effects: [effect("reclaim")] });
    runAfter(requested, spawned, ready)
      .whenResumed()
      .then({ state: { alive: "ready" }, effects: [effect("reclaim")] });
  });
  it("one that was to end is ended, and what is not settled is settled", () => {
    runAfter(requested, stop("cancelled"))
      .whenResumed()
      .then({ state: "stopping", effects: [effect("stop")] });
    runAfter(requested, stop(), exited())
      .whenResumed()
      .then({ state: "ended", effects: [effect("settle", { ok: true })] });
    runAfter(requested, failed)
      .whenResumed()
      .then({ state: "failed", effects: [effect("settle", { ok: false })] });
  });
  it("nothing is asked for once it is settled", () => {
    runAfter(requested, stop(), exited(), settled).whenResumed().thenRefused();
    runAfter(requested, failed, settled).whenResumed().thenRefused();
    runAfter().whenResumed().thenRefused();
  });
});

describe("it ends as it should", () => {
  it.each([[[requested]], [[requested, spawned]], [[requested, spawned, ready]]])(
    "on the laptop's word",
    (...[history]) => {
      runAfter(...history)
        .when(stop())
        .then({
          state: "stopping",
          effects: [effect("stop")],
          context: { reason: "done" },
          timers: { kill: OFFLOAD_CANCEL_MS },
        })
        .when(exited(), T0 + 9)
        .then({
          state: "ended",
          effects: [effect("settle", { ok: true })],
          context: { endedAt: T0 + 9, failure: null },
          timers: {},
        })
        .when(settled)
        .then({ state: "ended", effects: [], context: { settled: true } });
    },
  );
  it.each(["error", "cancelled", "discovery_timeout", "revoked"])("%s is an end, and no success", (reason) => {
    runAfter(requested, stop(reason))
      .when(exited())
      .then({ state: "ended", effects: [effect("settle", { ok: false })] });
  });
  it("also when its process does not end", () => {
    runAfter(requested, spawned, ready, stop()).whenTimer("kill").then({ state: "ended", timers: {} });
  });
  it("a second word changes nothing", () => {
    runAfter(requested, stop("done")).when(stop("cancelled")).thenRefused();
  });
});

const used = (tokens: number): Event => ({ type: "USED", tokens });
const finished: Event = { type: "FINISHED", ok: false, exit: 3, code: "limit_reached", reason: "too much" };
const begun: Event = { type: "BEGUN", files: 1, bytes: 5 };

describe("what its sandbox tells of the task", () => {
  it.each([
    ["while it runs", [requested, spawned, ready], { alive: "ready" }],
    ["while it is ended", [requested, spawned, ready, stop("cancelled")], "stopping"],
    ["when it has ended, and is not settled", [requested, spawned, ready, stop("cancelled"), exited()], "ended"],
    ["when it has failed, and is not settled", [requested, spawned, ready, failed], "failed"],
  ])("counts %s", (_, history, state) => {
    runAfter(...history)
      .when(used(10))
      .then({ state, effects: [], context: { tokens: 10 } })
      .when(used(25))
      .then({ state, context: { tokens: 25 } })
      .when(finished)
      .then({
        state,
        effects: [],
        context: { result: { ok: false, exit: 3, code: "limit_reached", reason: "too much" } },
      });
  });
  it("never takes tokens back, and ends once", () => {
    runAfter(requested, used(10)).when(used(10)).thenRefused();
    runAfter(requested, used(10)).when(used(3)).thenRefused();
    runAfter(requested, finished).when(finished).thenRefused();
    runAfter(requested, begun).when(begun).thenRefused();
    runAfter(requested, used(10))
      .when({ type: "EXITED", code: 0, tokens: 4 })
      .then({ state: "failed", context: { tokens: 10 } });
    runAfter(requested, stop(), used(10))
      .when({ type: "EXITED", code: 0, tokens: 14 })
      .then({ state: "ended", context: { tokens: 14 } });
  });
  it("means nothing before there is a task, or when it was settled", () => {
    for (const event of [used(1), finished, begun]) {
      runAfter().when(event).thenRefused();
      runAfter(requested, stop(), exited(), settled).when(event).thenRefused();
      runAfter(requested, failed, settled).when(event).thenRefused();
    }
  });
});

describe("it fails", () => {
  it.each([[[requested]], [[requested, spawned]], [[requested, spawned, ready]]])(
    "when its process ends by itself or cannot start",
    (...[history]) => {
      runAfter(...history)
        .when(exited(3), T0 + 9)
        .then({
          state: "failed",
          effects: [effect("settle", { ok: false })],
          context: { endedAt: T0 + 9, failure: { code: "cluster_refused" } },
          timers: {},
        });
      runAfter(...history)
        .when(failed)
        .then({ state: "failed", context: { failure: { code: "internal", detail: "no such program" } }, timers: {} });
    },
  );
  it("with what its start waited for, when it does not come up in time", () => {
    const words = "no node has room: 0/3 nodes are available";
    runAfter(requested, spawned, { type: "STARTING", phase: "spawning", words })
      .whenTimer("boot")
      .then({
        state: "failed",
        context: { failure: { code: "limit_reached", detail: `the sandbox did not come up in its time: ${words}` } },
      });
  });
  it("when it does not come up in its time: then its process is ended", () => {
    runAfter(requested, spawned)
      .whenTimer("boot")
      .then({
        state: "failed",
        effects: [effect("stop"), effect("settle", { ok: false })],
        context: { endedAt: T0 + OFFLOAD_HELLO_MS, failure: { code: "limit_reached" } },
        timers: {},
      });
  });
  it.each([[[requested]], [[requested, spawned]], [[requested, spawned, ready]]])(
    "when its whole time is up",
    (...[history]) => {
      runAfter(...history)
        .whenTimer("whole")
        .then({
          state: "failed",
          effects: [effect("stop"), effect("settle", { ok: false })],
          context: {
            endedAt: T0 + WHOLE_MS,
            failure: { code: "limit_reached", detail: "its time was up: 10 minutes" },
          },
          timers: {},
        });
    },
  );
  it("and what it says later means nothing", () => {
    for (const event of [spawned, ready, stop(), exited(), failed, requested])
      runAfter(requested, failed).when(event).thenRefused();
  });
});

keepsTheLaws(run, {
  life: [requested, spawned, ready, begun, used(5), stop("cancelled"), finished, exited(), settled],
  restful: ["new", "ended", "failed"],
});
