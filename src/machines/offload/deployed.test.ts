import { describe, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws, MALLORY, T0, words } from "../../../test/specification.ts";
import { OFFLOAD_CANCEL_MS, OFFLOAD_HELLO_MS, OFFLOAD_STALL_MS } from "../../limits.ts";
import { PROBE_EVERY_MS, PROBE_GRACE_MS } from "./limits.ts";
import { offloadDefinition as offload } from "./machine.ts";

const WHOLE_MS = 60 * 60_000;
const requested = (files = 0): Event => ({
  type: "REQUESTED",
  controller: ALICE,
  target: {},
  timeout_minutes: 60,
  body: words("task"),
  files,
  bytes: files,
  plain: true,
});
const asked: Event = { type: "ASKED" };
const ready: Event = { type: "STATUS", phase: "ready", sandbox: "box", sandbox_did: null };
const greeted = (did = BOB): Event => ({ type: "GREETED", did, awaits_task: false });
const ponged = (did = BOB): Event => ({ type: "PONGED", did });
const uploaded: Event = { type: "UPLOADED" };
const started: Event = { type: "STARTED" };
const finished: Event = {
  type: "FINISHED",
  body: words("summary"),
  outputs: 0,
  tokens: null,
  duration_seconds: null,
};
const offloadAfter = (...events: readonly Event[]) => given(offload, "o", ...events);
const active = (phase: string) => ({ active: phase });
const effect = (type: string, reason?: string) => [type, { offload: "o", ...(reason && { reason }) }] as const;
const expecting = [requested(), asked, ready];

describe("a sandbox of a deployed cluster, of which only the name is known", () => {
  it("is at work once it says hello", () => {
    offloadAfter(...expecting)
      .then({
        state: active("expecting"),
        context: { sandbox: { name: "box", did: null }, readyAt: T0 },
        timers: { probe: PROBE_EVERY_MS, whole: WHOLE_MS },
      })
      .when(greeted())
      .then({ state: active("running"), context: { sandbox: { name: "box", did: BOB } } });
  });

  it("is done, though it does not send every file that it names", () => {
    offloadAfter(...expecting, greeted(), { ...finished, outputs: 2 })
      .then({ state: active("returning"), timers: { stall: OFFLOAD_STALL_MS, whole: WHOLE_MS } })
      .when({ type: "FILE_SAVED", body: words("file"), size: 1, sha256: "0".repeat(64) })
      .then({ state: active("returning") })
      .whenTimer("stall")
      .then({ state: "done", effects: [effect("cleanUp", "done"), ["queue", {}]] });
  });

  it("is given the files that were announced after its hello, and no task", () => {
    offloadAfter(requested(2), asked, ready)
      .when(greeted())
      .then({ state: active("delivering"), effects: [effect("deliver")], context: { handsTask: false } })
      .when({ type: "RESUMED" })
      .then({ state: active("delivering"), effects: [effect("deliver")] })
      .when(uploaded)
      .then({ state: active("running") });
  });

  it("is pinged when it says none, again and again, and lost when the time for it is over", () => {
    let at = offloadAfter(...expecting).whenTimer("probe");
    const rounds = OFFLOAD_HELLO_MS / PROBE_EVERY_MS;
    for (let round = 1; round < rounds; round++) {
      const helloLeft = OFFLOAD_HELLO_MS - round * PROBE_EVERY_MS;
      at.then({
        state: active("probing"),
        effects: [effect("probe")],
        timers: { probe: PROBE_EVERY_MS, helloLeft, whole: WHOLE_MS - round * PROBE_EVERY_MS },
      });
      if (round < rounds - 1) at = at.whenTimer("probe");
    }
    at.whenTimer("helloLeft").then({ state: "lost", effects: [effect("cleanUp", "discovery_timeout"), ["queue", {}]] });
  });

  it("that answers a ping has time to say hello: then it has its task", () => {
    offloadAfter(...expecting)
      .whenTimer("probe")
      .when(ponged())
      .then({
        state: active("ponged"),
        effects: [],
        context: { ponged: [BOB] },
        timers: { grace: PROBE_GRACE_MS, whole: WHOLE_MS - PROBE_EVERY_MS },
      })
      .when(greeted())
      .then({ state: active("running"), context: { handsTask: false } });
  });

  it("that only answers pings is given files and task, when it is the only one of its name that does", () => {
    offloadAfter(...expecting)
      .whenTimer("probe")
      .when(ponged())
      .whenTimer("grace")
      .then({
        state: active("delivering"),
        effects: [effect("deliver")],
        context: { handsTask: true, sandbox: { name: "box", did: BOB } },
      })
      .when(uploaded)
      .then({ state: active("starting") })
      .when(greeted())
      .thenRefused()
      .when(started)
      .then({ state: active("running") });
  });

  it("is not guessed among several that answer", () => {
    offloadAfter(...expecting)
      .whenTimer("probe")
      .when(ponged())
      .when(ponged(MALLORY))
      .then({ state: active("ponged"), context: { ponged: [BOB, MALLORY] } })
      .when(ponged(MALLORY))
      .thenRefused()
      .whenTimer("grace")
      .then({ state: "error", context: { failure: "peer_ambiguous", sandbox: { did: null } } });
    offloadAfter(...expecting)
      .whenTimer("probe")
      .when(ponged())
      .when(ponged(MALLORY))
      .when(greeted())
      .then({ state: active("running"), context: { sandbox: { name: "box", did: BOB } } });
  });

  it("is waited for as ever where a controller names its DID", () => {
    offloadAfter(requested(), asked)
      .when({ ...ready, sandbox_did: BOB })
      .then({ state: active("ready"), context: { readyAt: null } });
  });
});

describe("a cancellation", () => {
  it("that the cluster confirms is told from one that it does not", () => {
    const cancelling = offloadAfter(...expecting).when({ type: "CANCEL" });
    cancelling.then({ state: "cancelling", context: { confirmed: null }, timers: { cancel: OFFLOAD_CANCEL_MS } });
    cancelling.when({ type: "CANCELLED" }).then({ state: "cancelled", context: { confirmed: true } });
    cancelling.whenTimer("cancel").then({ state: "cancelled", context: { confirmed: false }, timers: {} });
  });
});

keepsTheLaws(offload, {
  life: [requested(1), asked, ready, greeted(), uploaded, finished],
  restful: ["new", "done", "error", "cancelled", "lost"],
});
