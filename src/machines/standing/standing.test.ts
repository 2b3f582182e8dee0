import { describe, it } from "vitest";
import { ALICE, type Event, given, keepsTheLaws } from "../../../test/specification.ts";
import { STANDING_RETRY_MAX_MS, STANDING_RETRY_MIN_MS } from "./limits.ts";
import { standingDefinition as standing } from "./machine.ts";

const opened: Event = { type: "OPENED", capabilities: ["gpu"] };
const spawned: Event = { type: "SPAWNED", pid: 7 };
const ready: Event = { type: "READY", did: ALICE };
const exited: Event = { type: "EXITED", detail: "it ended (exit 1)" };
const closed: Event = { type: "CLOSED" };
const removed: Event = { type: "REMOVED" };
const resumed: Event = { type: "RESUMED" };
const box = (...events: Event[]) => given(standing, "box", ...events);
const start = ["start", { name: "box" }] as const;
const remove = ["remove", { name: "box" }] as const;

describe("a sandbox that stands", () => {
  it("is started when it is opened, and is ready when it is on the mesh", () => {
    box()
      .when(opened)
      .then({ state: { open: "starting" }, effects: [start], context: { name: "box", capabilities: ["gpu"] } })
      .when(spawned)
      .then({ state: { open: "starting" }, effects: [], context: { pid: 7 } })
      .when(ready)
      .then({ state: { open: "ready" }, effects: [], context: { did: ALICE } });
  });
  it("is opened once", () => {
    box(opened).when(opened).thenRefused();
    box(opened, spawned, ready).when(opened).thenRefused();
  });
  it("is started again when its process ended: later and later, and at once again when it was up between", () => {
    box(opened, exited)
      .then({ state: { open: "resting" }, context: { failures: 1 }, timers: { rest: STANDING_RETRY_MIN_MS } })
      .whenTimer("rest")
      .then({ state: { open: "starting" }, effects: [start], timers: {} })
      .when(exited)
      .then({ state: { open: "resting" }, context: { failures: 2 }, timers: { rest: 2 * STANDING_RETRY_MIN_MS } });
    let falling = box(opened, exited);
    for (let count = 0; count < 10; count++) falling = falling.whenTimer("rest").when(exited);
    falling
      .then({ state: { open: "resting" }, timers: { rest: STANDING_RETRY_MAX_MS } })
      .whenTimer("rest")
      .when(spawned)
      .when(ready)
      .then({ state: { open: "ready" }, context: { failures: 0, detail: null, did: ALICE } });
  });
  it("is started again with its cluster, as who it was", () => {
    box(opened, spawned, ready)
      .when(resumed)
      .then({ state: { open: "ready" }, effects: [start], context: { did: ALICE } });
    box(opened)
      .when(resumed)
      .then({ state: { open: "starting" }, effects: [start] });
  });
  it("is removed when it is closed, also by a cluster that was started again; and may be opened anew", () => {
    box(opened, spawned, ready, closed)
      .then({ state: "closing" })
      .when(resumed)
      .then({ state: "closing", effects: [remove] })
      .when(removed)
      .then({ state: "gone", effects: [], context: { did: null, capabilities: [] } })
      .when(opened)
      .then({ state: { open: "starting" }, effects: [start] });
    box().when(closed).thenRefused();
    box(opened, closed).when(opened).thenRefused();
  });
});

keepsTheLaws(standing, { life: [opened, spawned, ready, exited, closed, removed], restful: ["gone"] });
