import { describe, expect, it } from "vitest";
import { type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import {
  HEARTBEAT_MS,
  LINK_BACKOFF_MAX_MS,
  LINK_BACKOFF_MIN_MS,
  LINK_OPEN_TIMEOUT_MS,
  LINK_RESTART_MAX_MS,
} from "../../limits.ts";
import { linkDefinition as link } from "./machine.ts";

const connect = (url = "wss://relay/ws"): Event => ({ type: "CONNECT", url });
const opened = (pending = 0): Event => ({ type: "OPENED", extensions: ["accepted"], pending });
const closed = (more: object = {}): Event => ({
  type: "CLOSED",
  code: 1006,
  reason: "",
  final: false,
  chance: 0,
  ...more,
});
const disconnect: Event = { type: "DISCONNECT" };
const linkAfter = (...events: Event[]) => given(link, "relay", ...events);
const online = { online: "quiet" };

describe("the link comes up", () => {
  it("opens a socket, and gives it a time", () => {
    linkAfter()
      .when(connect())
      .then({
        state: "connecting",
        effects: [["open", { url: "wss://relay/ws" }]],
        timers: { open: LINK_OPEN_TIMEOUT_MS },
      });
  });
  it("what is pending goes on the wire as soon as the relay has let it in", () => {
    linkAfter(connect())
      .when(opened(), T0 + 7)
      .then({
        state: online,
        effects: [["resume", {}]],
        context: { extensions: ["accepted"], since: T0 + 7, caughtUp: true, attempts: 0 },
        timers: { heartbeat: HEARTBEAT_MS },
      });
  });
  it("has not caught up while mail waits at the relay", () => {
    linkAfter(connect())
      .when(opened(3))
      .then({ state: online, context: { caughtUp: false } })
      .when({ type: "CAUGHT_UP" })
      .then({ state: online, effects: [], context: { caughtUp: true } });
  });
  it("a second CONNECT means nothing while it comes up or is up", () => {
    linkAfter(connect()).when(connect()).thenRefused();
    linkAfter(connect(), opened()).when(connect()).thenRefused();
  });
  it("a socket that stays silent is given up, and tried again", () => {
    linkAfter(connect())
      .whenTimer("open")
      .then({ state: "waiting", effects: [["close", {}]] })
      .whenTimer("backoff")
      .then({ state: "connecting" });
  });
});

describe("the link is up", () => {
  it("says so to the relay at every heartbeat", () => {
    let up = linkAfter(connect(), opened());
    for (let beat = 0; beat < 3; beat++)
      up = up
        .whenTimer("heartbeat")
        .then({ state: online, effects: [["heartbeat", {}]], timers: { heartbeat: HEARTBEAT_MS } });
  });
});

describe("the link goes down", () => {
  it("comes back after a pause", () => {
    linkAfter(connect(), opened())
      .when(closed({ code: 1001, reason: "restart" }))
      .then({
        state: "waiting",
        effects: [],
        context: { closed: { code: 1001, reason: "restart" }, since: null, caughtUp: false },
        timers: { backoff: LINK_BACKOFF_MIN_MS },
      })
      .whenTimer("backoff")
      .then({
        state: "connecting",
        effects: [["open", { url: "wss://relay/ws" }]],
        timers: { open: LINK_OPEN_TIMEOUT_MS },
      });
  });

  it.each([0, 1])("the pauses grow to a limit, half of each by chance (%s)", (chance) => {
    let down = linkAfter(connect());
    const pauses: number[] = [];
    for (let attempt = 0; attempt < 20; attempt++) {
      down = down.when(closed({ chance }));
      pauses.push(down.deadlines().backoff ?? 0);
      down = down.whenTimer("backoff");
    }
    for (const [index, pause] of pauses.slice(1).entries()) expect(pause).toBeGreaterThanOrEqual(pauses[index] ?? 0);
    expect(pauses.at(-1)).toBe(LINK_BACKOFF_MAX_MS * (0.5 + chance / 2));
  });

  it.each([1012, 1013])("while the relay restarts (%s) they stay short, half of each by chance", (code) => {
    let down = linkAfter(connect(), opened()).when(closed({ code, chance: 1 }));
    down.then({ state: "waiting", timers: { backoff: 2 * LINK_BACKOFF_MIN_MS } });
    for (let attempt = 0; attempt < 20; attempt++) down = down.whenTimer("backoff").when(closed({ code }));
    down.then({ state: "waiting", timers: { backoff: LINK_RESTART_MAX_MS / 2 } });
  });

  it("they begin anew once it was up", () => {
    linkAfter(connect(), closed(), connect(), closed(), connect(), opened())
      .when(closed())
      .then({ state: "waiting", timers: { backoff: LINK_BACKOFF_MIN_MS } });
  });

  it("someone who cannot wait may connect at once, and elsewhere", () => {
    linkAfter(connect(), closed())
      .when(connect("wss://other/ws"))
      .then({
        state: "connecting",
        effects: [["open", { url: "wss://other/ws" }]],
        timers: { open: LINK_OPEN_TIMEOUT_MS },
      });
  });

  it.each([
    ["before it was up", [connect()]],
    ["after it was up", [connect(), opened()]],
  ])("a refusal that will not change is not answered by trying again (%s)", (_, history) => {
    linkAfter(...history)
      .when(closed({ code: 4006, reason: "replaced", final: true }))
      .then({ state: "refused", effects: [], context: { closed: { code: 4006, reason: "replaced" } }, timers: {} })
      .when(connect())
      .then({ state: "connecting" });
  });
});

describe("the link is taken down", () => {
  it.each([
    ["connecting", [connect()]],
    ["up", [connect(), opened()]],
    ["waiting", [connect(), closed()]],
    ["refused", [connect(), closed({ final: true })]],
  ])("when it is %s, and stays down", (_, history) => {
    linkAfter(...history)
      .when(disconnect)
      .then({ state: "down", effects: [["close", {}]], timers: {} })
      .when(closed())
      .thenRefused()
      .when(opened())
      .thenRefused();
  });
});

it("is not journaled: it starts anew with the process", () => {
  expect(link.live).toBe(true);
  linkAfter(connect(), opened()).whenResumed().thenRefused();
});

keepsTheLaws(link, {
  life: [
    connect(),
    closed(),
    connect(),
    opened(2),
    { type: "CAUGHT_UP" },
    closed({ final: true }),
    connect(),
    opened(),
    disconnect,
  ],
  restful: ["down", "refused"],
});
