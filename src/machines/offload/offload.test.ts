import { describe, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws, MALLORY, T0, words } from "../../../test/specification.ts";
import { FILES_MAX, OFFLOAD_CANCEL_MS, OFFLOAD_HELLO_MS, OFFLOAD_READY_MS, OFFLOAD_STALL_MS } from "../../limits.ts";
import { offloadDefinition as offload } from "./machine.ts";

const WHOLE_MS = 60 * 60_000;
const requested: Event = {
  type: "REQUESTED",
  controller: ALICE,
  target: { name: "builder" },
  timeout_minutes: 60,
  body: words("task"),
  files: 2,
  bytes: 99,
};
const asked: Event = { type: "ASKED" };
const status = (phase: string, more: object = {}): Event => ({
  type: "STATUS",
  phase,
  sandbox: null,
  sandbox_did: null,
  ...more,
});
const ready = status("ready", { sandbox: "box", sandbox_did: BOB });
const greeted = (awaits_task = true, did = BOB): Event => ({ type: "GREETED", did, awaits_task });
const uploaded: Event = { type: "UPLOADED" };
const started: Event = { type: "STARTED" };
const progressed = (pct: number | null = 10): Event => ({
  type: "PROGRESSED",
  stage: "running",
  pct,
  note: words("line"),
});
const saved = (name = "f"): Event => ({ type: "FILE_SAVED", body: words(name), size: 1, sha256: "0".repeat(64) });
const finished = (outputs = 0): Event => ({
  type: "FINISHED",
  body: words("summary"),
  outputs,
  tokens: { prompt: 1, completion: 2 },
  duration_seconds: 3,
});
const failed: Event = { type: "FAILED", code: "budget_exhausted", note: words("why") };
const cancel: Event = { type: "CANCEL" };
const cancelled: Event = { type: "CANCELLED" };
const cleanedUp: Event = { type: "CLEANED_UP" };

const phases: Readonly<Record<string, readonly Event[]>> = {
  requested: [requested],
  accepted: [requested, asked],
  spawning: [requested, asked, status("spawning")],
  ready: [requested, asked, ready],
  uploading: [requested, asked, ready, greeted()],
  starting: [requested, asked, ready, greeted(), uploaded],
  running: [requested, asked, ready, greeted(), uploaded, started],
  returning: [requested, asked, ready, greeted(), uploaded, started, finished(1)],
};
const ends: Readonly<Record<string, readonly Event[]>> = {
  done: [...(phases.running ?? []), finished()],
  error: [requested, failed],
  cancelled: [requested, cancel, cancelled],
};
const offloadAfter = (...events: readonly Event[]) => given(offload, "o", ...events);
/** Whoever waits for a slot is looked for. */
const NEXT = ["queue", {}] as const;
const effect = (type: string, reason?: string) => [type, { offload: "o", ...(reason && { reason }) }] as const;
const active = (phase: string) => ({ active: phase === "uploading" ? { uploading: "offering" } : phase });

describe("an errand, from the request to the result", () => {
  it("is asked of the controller", () => {
    offloadAfter()
      .when(requested, T0 + 1)
      .then({
        state: active("requested"),
        effects: [effect("request")],
        context: {
          controller: ALICE,
          target: { name: "builder" },
          request: words("task"),
          files: { count: 2, bytes: 99 },
          requestedAt: T0 + 1,
        },
        timers: { whole: WHOLE_MS },
      })
      .when(asked)
      .then({ state: active("accepted"), effects: [], timers: { whole: WHOLE_MS + 0, ready: OFFLOAD_READY_MS } });
  });
  it("the controller says how far it is", () => {
    offloadAfter(requested, asked)
      .when(status("validating"))
      .then({ state: active("accepted"), context: { stage: "validating" } })
      .when(status("spawning", { sandbox: "box" }))
      .then({ state: active("spawning"), context: { stage: "spawning", sandbox: { name: "box", did: null } } })
      .when(status("scheduled"))
      .then({ state: active("spawning"), context: { stage: "scheduled", sandbox: { name: "box", did: null } } })
      .when(status("ready", { sandbox_did: BOB }))
      .then({
        state: active("ready"),
        context: { sandbox: { name: "box", did: BOB } },
        timers: { whole: WHOLE_MS, hello: OFFLOAD_HELLO_MS },
      });
  });
  it.each(["accepted", "spawning", "ready"])("a sandbox that wants its task gets it (%s)", (phase) => {
    offloadAfter(...(phases[phase] ?? []))
      .when(greeted())
      .then({
        state: active("uploading"),
        effects: [effect("upload")],
        context: { sandbox: { did: BOB } },
        timers: { whole: WHOLE_MS },
      });
  });
  it.each(["accepted", "spawning", "ready"])("one that has its task already runs (%s)", (phase) => {
    offloadAfter(...(phases[phase] ?? []))
      .when(greeted(false))
      .then({ state: active("running"), effects: [], timers: { whole: WHOLE_MS, stall: OFFLOAD_STALL_MS } });
  });
  it("runs when the sandbox says so, by whatever sign", () => {
    offloadAfter(...(phases.uploading ?? []))
      .when(uploaded)
      .then({ state: active("starting"), timers: { whole: WHOLE_MS, stall: OFFLOAD_STALL_MS } });
    offloadAfter(...(phases.starting ?? []))
      .when(started)
      .then({ state: active("running") });
    offloadAfter(...(phases.starting ?? []))
      .when(progressed())
      .then({ state: active("running"), context: { stage: "running", pct: 10 } });
  });
  it("progress tells the last line, and gives it time again", () => {
    offloadAfter(...(phases.running ?? []))
      .when(progressed(), T0 + 1000)
      .then({
        state: active("running"),
        context: { pct: 10, note: words("line"), lastHeard: T0 + 1000 },
        timers: { whole: WHOLE_MS - 1000, stall: OFFLOAD_STALL_MS },
      })
      .when({ type: "PROGRESSED", stage: null, pct: null })
      .then({ state: active("running"), context: { stage: "running", pct: 10, note: words("line") } });
  });
  it("without results it is done when the sandbox is", () => {
    offloadAfter(...(phases.running ?? []))
      .when(finished(), T0 + 5)
      .then({
        state: "done",
        effects: [effect("cleanUp", "done"), NEXT],
        context: {
          summary: words("summary"),
          tokens: { prompt: 1, completion: 2 },
          durationSeconds: 3,
          endedAt: T0 + 5,
        },
        timers: {},
      });
  });
  it("with results it is done when the last of them lies here, in whatever order they come", () => {
    offloadAfter(...(phases.running ?? []), saved("a"))
      .when(finished(2))
      .then({ state: active("returning"), effects: [], timers: { whole: WHOLE_MS, stall: OFFLOAD_STALL_MS } })
      .when(saved("b"), T0 + 7)
      .then({
        state: "done",
        context: { results: [{ body: words("a") }, { body: words("b") }], endedAt: T0 + 7 },
        timers: {},
      });
  });
  it("is requested once", () => {
    offloadAfter(requested).when(requested).thenRefused();
  });
});

describe("only the sandbox that the controller named may greet", () => {
  it("a stranger's greeting is refused", () => {
    offloadAfter(requested, asked, ready).when(greeted(true, MALLORY)).thenRefused();
    offloadAfter(requested, asked, ready).when(greeted(false, MALLORY)).thenRefused();
    offloadAfter(requested, asked, status("spawning", { sandbox_did: BOB }))
      .when(greeted(true, MALLORY))
      .thenRefused();
  });
  it("a second greeting changes nothing, whoever it is from", () => {
    for (const phase of ["uploading", "starting", "running", "returning"]) {
      offloadAfter(...(phases[phase] ?? []))
        .when(greeted())
        .thenRefused();
      offloadAfter(...(phases[phase] ?? []))
        .when(greeted(true, MALLORY))
        .thenRefused();
    }
  });
});

describe.each(Object.entries(phases))("while %s", (phase, history) => {
  it("it can be cancelled", () => {
    offloadAfter(...history)
      .when(cancel)
      .then({ state: "cancelling", effects: [effect("cleanUp", "cancelled")], timers: { cancel: OFFLOAD_CANCEL_MS } });
  });
  it("it can fail, with the reason", () => {
    offloadAfter(...history)
      .when(failed, T0 + 2)
      .then({
        state: "error",
        effects: [effect("cleanUp", "error"), NEXT],
        context: { failure: "budget_exhausted", note: words("why"), endedAt: T0 + 2 },
        timers: {},
      });
  });
  it("it is lost when its whole time is up", () => {
    offloadAfter(...history)
      .whenTimer("whole")
      .then({
        state: "lost",
        effects: [effect("cleanUp", "discovery_timeout"), NEXT],
        context: { endedAt: T0 + WHOLE_MS },
        timers: {},
      });
  });
  it("a result file is kept whenever it comes", () => {
    const over = phase === "returning";
    offloadAfter(...history)
      .when(saved())
      .then({ state: over ? "done" : active(phase), context: { results: [{ size: 1 }], lastHeard: T0 } });
  });
});

describe("it is lost when nothing is heard for too long", () => {
  it.each([
    ["accepted", "ready", OFFLOAD_READY_MS],
    ["spawning", "ready", OFFLOAD_READY_MS],
    ["ready", "hello", OFFLOAD_HELLO_MS],
    ["starting", "stall", OFFLOAD_STALL_MS],
    ["running", "stall", OFFLOAD_STALL_MS],
    ["returning", "stall", OFFLOAD_STALL_MS],
  ])("%s: %s", (phase, timer, limit) => {
    offloadAfter(...(phases[phase] ?? []))
      .whenTimer(timer)
      .then({
        state: "lost",
        effects: [effect("cleanUp", "discovery_timeout"), NEXT],
        context: { endedAt: T0 + limit },
        timers: {},
      });
  });
});

describe("a cancellation", () => {
  it("is over when the cluster confirms it, whatever it says", () => {
    for (const word of [cancelled, failed])
      offloadAfter(requested, cancel)
        .when(word, T0 + 4)
        .then({ state: "cancelled", effects: [NEXT], context: { endedAt: T0 + 4 }, timers: {} });
  });
  it("or after a time without a word", () => {
    offloadAfter(requested, cancel, cleanedUp)
      .whenTimer("cancel")
      .then({ state: "cancelled", context: { endedAt: T0 + OFFLOAD_CANCEL_MS }, timers: {} });
  });
  it("cannot be taken back by a result that comes late", () => {
    for (const late of [finished(), saved(), progressed(), greeted(), started])
      offloadAfter(...(phases.running ?? []), cancel)
        .when(late)
        .thenRefused();
  });
});

describe("after a restart", () => {
  it("the request and the upload are done again, the rest waits for the cluster", () => {
    for (const [phase, history] of Object.entries(phases)) {
      const resumed = offloadAfter(...history).whenResumed();
      if (phase === "requested") resumed.then({ state: active(phase), effects: [effect("request")] });
      else if (phase === "uploading") resumed.then({ state: active(phase), effects: [effect("upload")] });
      else resumed.thenRefused();
    }
  });
  it.each([
    ["cancelling", "cancelled", [requested, cancel]],
    ["done", "done", ends.done ?? []],
    ["error", "error", ends.error ?? []],
  ])("%s: the cluster is told until it was", (state, reason, history) => {
    offloadAfter(...history)
      .whenResumed()
      .then({ state, effects: [effect("cleanUp", reason)] })
      .when(cleanedUp)
      .then({ state, effects: [], context: { cleanedUp: true } })
      .whenResumed()
      .thenRefused();
  });
  it("lost: the same", () => {
    offloadAfter(requested)
      .whenTimer("whole")
      .whenResumed()
      .then({ state: "lost", effects: [effect("cleanUp", "discovery_timeout")] })
      .when(cleanedUp)
      .whenResumed()
      .thenRefused();
  });
});

it.each(Object.entries(ends))("%s is an end: nothing that comes later changes it", (_, history) => {
  for (const event of [
    requested,
    asked,
    ready,
    greeted(),
    uploaded,
    started,
    progressed(),
    saved(),
    finished(),
    failed,
    cancel,
    cancelled,
  ])
    offloadAfter(...history)
      .when(event)
      .thenRefused();
});

describe("its words are forgotten", () => {
  const forgotten: Event = { type: "FORGOTTEN" };
  it.each(Object.entries(ends))("%s: what it was and how it ended stays", (state, history) => {
    const before = offloadAfter(...history).state.snapshot.context;
    offloadAfter(...history)
      .when(forgotten)
      .then({
        state,
        effects: [],
        context: { ...before, request: null, note: null, summary: null },
      });
  });
  it("of result files size and hash", () => {
    offloadAfter(...(phases.running ?? []), saved(), finished(1))
      .when(forgotten)
      .then({ state: "done", context: { results: [{ body: null, size: 1, sha256: "0".repeat(64) }] } });
  });
  it.each(Object.entries(phases))("%s: not while it is under way", (_, history) => {
    offloadAfter(...history)
      .when(forgotten)
      .thenRefused();
  });
});

it("keeps a bounded number of results", () => {
  const full = offloadAfter(
    ...(phases.running ?? []),
    ...Array.from({ length: FILES_MAX }, (_, index) => saved(`${index}`)),
  );
  full.when(saved("one more")).thenRefused();
});

keepsTheLaws(offload, {
  life: [
    requested,
    asked,
    status("spawning"),
    ready,
    greeted(),
    uploaded,
    started,
    progressed(),
    saved(),
    finished(2),
    saved(),
    cleanedUp,
    { type: "FORGOTTEN" },
  ],
  restful: ["new", "done", "error", "cancelled", "lost"],
});
