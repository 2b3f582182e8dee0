import { describe, it } from "vitest";
import { ALICE, type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import { sessionDefinition as session } from "./machine.ts";

const agreement = { peer: ALICE, knock: "k", ik: `${"A".repeat(43)}=`, ek: `${"B".repeat(42)}A=`, spk: 3, otk: 7 };
const initiated: Event = { type: "INITIATED", ...agreement };
const accepted: Event = { type: "ACCEPTED", ...agreement };
const knockSent: Event = { type: "KNOCK_SENT" };
const confirmed: Event = { type: "CONFIRMED", by: "knock_accept" };
const header = { dh: `${"A".repeat(43)}=`, pn: 0, n: 0 };
const encrypted: Event = { type: "ENCRYPTED", message: "m", header };
const decrypted = (more: object = {}): Event => ({
  type: "DECRYPTED",
  message: "m",
  header,
  turned: false,
  skipped: 0,
  late: false,
  ...more,
});
const closed: Event = { type: "CLOSED", reason: "refused" };
const sessionAfter = (...events: Event[]) => given(session, "k", ...events);
const knock = ["knock", { session: "k" }] as const;
const answer = ["answer", { session: "k" }] as const;

describe("we open it", () => {
  it("it knocks, with the public keys that were agreed on", () => {
    sessionAfter()
      .when(initiated)
      .then({
        state: { open: "knocking" },
        effects: [knock],
        context: { role: "initiator", peer: ALICE, spk: 3, otk: 7 },
      });
  });
  it("knocks again after a restart, until the relay has the knock", () => {
    sessionAfter(initiated)
      .whenResumed()
      .then({ state: { open: "knocking" }, effects: [knock] });
    sessionAfter(initiated, knockSent)
      .then({ state: { open: "knocked" } })
      .whenResumed()
      .thenRefused();
  });
  it("is established when the peer accepts, before or after the relay said that it has the knock", () => {
    sessionAfter(initiated, knockSent)
      .when(confirmed)
      .then({ state: { open: "established" } });
    sessionAfter(initiated)
      .when(confirmed)
      .then({ state: { open: "established" } });
  });
  it("or by the first message that it reads: nobody else could have written it", () => {
    sessionAfter(initiated, knockSent)
      .when(decrypted(), T0 + 5)
      .then({ state: { open: "established" }, context: { decrypted: 1, lastHeard: T0 + 5 } });
    sessionAfter(initiated)
      .when(decrypted())
      .then({ state: { open: "established" } });
  });
  it("can be written with before it is established", () => {
    sessionAfter(initiated)
      .when(encrypted)
      .then({ state: { open: "knocking" }, context: { encrypted: 1 }, effects: [] });
  });
});

describe("the peer opens it", () => {
  it("it answers, and again after a restart, until the relay has the answer", () => {
    sessionAfter()
      .when(accepted)
      .then({ state: { open: "answering" }, effects: [answer], context: { role: "responder" } })
      .whenResumed()
      .then({ state: { open: "answering" }, effects: [answer] })
      .when(knockSent)
      .then({ state: { open: "established" }, effects: [] })
      .whenResumed()
      .thenRefused();
  });
  it("reads messages while the answer is under way", () => {
    sessionAfter(accepted)
      .when(decrypted())
      .then({ state: { open: "answering" }, context: { decrypted: 1 } });
  });
});

describe("which KDF the initiator used", () => {
  it("is known to the initiator, and was not asked before there were two", () => {
    sessionAfter()
      .when({ ...initiated, kdf: "npm4" })
      .then({ state: { open: "knocking" }, context: { kdf: "npm4" } });
    sessionAfter(initiated, decrypted()).then({ state: { open: "established" }, context: { kdf: "current" } });
    sessionAfter(accepted, decrypted()).then({ state: { open: "answering" }, context: { kdf: "current" } });
  });
  it("is not known to the responder until its first message settles it, for good", () => {
    sessionAfter({ ...accepted, kdf: null }, knockSent)
      .then({ state: { open: "established" }, context: { kdf: null } })
      .when(decrypted({ kdf: "npm4" }))
      .then({ state: { open: "established" }, context: { kdf: "npm4" } })
      .when(decrypted())
      .then({ state: { open: "established" }, context: { kdf: "npm4" } });
  });
});

describe("it moves", () => {
  it("counts messages, turns and the keys that are set aside", () => {
    sessionAfter(accepted, knockSent, decrypted({ turned: true, skipped: 3 }))
      .when(decrypted({ late: true }))
      .then({ state: { open: "established" }, context: { decrypted: 2, turns: 1, skipped: 2, began: header.dh } });
  });
});

describe("it is closed", () => {
  it.each([
    ["while it knocks", [initiated]],
    ["when it has knocked", [initiated, knockSent]],
    ["while it answers", [accepted]],
    ["when it is established", [accepted, knockSent]],
  ])("%s, and then nothing moves it", (_, history) => {
    const over = sessionAfter(...history)
      .when(closed)
      .then({ state: "closed", context: { closed: "refused" }, effects: [] });
    for (const event of [
      initiated,
      accepted,
      knockSent,
      confirmed,
      encrypted,
      decrypted(),
      closed,
      { type: "RESUMED" },
    ])
      over.when(event).thenRefused();
  });
});

describe("it is opened once", () => {
  it("a second agreement under its name is refused, and nothing happens to a session that was never opened", () => {
    sessionAfter(initiated).when(accepted).thenRefused();
    sessionAfter(accepted).when(initiated).thenRefused();
    for (const event of [knockSent, confirmed, encrypted, decrypted(), closed, { type: "RESUMED" }])
      sessionAfter().when(event).thenRefused();
  });
});

keepsTheLaws(session, {
  life: [initiated, encrypted, knockSent, confirmed, decrypted({ turned: true }), encrypted, closed],
  restful: [
    "fresh",
    { open: "knocking" },
    { open: "knocked" },
    { open: "answering" },
    { open: "established" },
    "closed",
  ],
});
