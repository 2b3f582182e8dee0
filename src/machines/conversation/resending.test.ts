import { describe, it } from "vitest";
import { conversationWith, established, header, received, send } from "../../../test/conversations.ts";
import type { Event } from "../../../test/specification.ts";

const OTHER_CHAIN = `${"B".repeat(42)}A=`;
const sealedAs = (id: string, n: number, dh = header.dh): Event => ({
  type: "SEALED",
  id,
  session: "s1",
  header: { dh, pn: 0, n },
  nonce: "nonce",
});
const written = (...ids: string[]): Event => ({ type: "TRANSMITTED", ids, proof: "written", resend: true });
const unsent = (...ids: string[]): Event => ({ type: "UNSENT", ids });

describe("a message that a plain relay took", () => {
  it("waits behind those that went before it, also when the ratchet turned in between", () => {
    conversationWith(established(), send("m1"), sealedAs("m1", 4), written("m1"), received("r1"), send("m2"))
      .when(sealedAs("m2", 0, OTHER_CHAIN))
      .when(written("m2"))
      .then({ state: "open", context: { outbox: [], unconfirmed: [{ id: "m1" }, { id: "m2" }] } });
  });

  it("keeps its place when it is sealed anew, behind one that was sealed meanwhile", () => {
    const resealed = [send("m1"), send("m2"), sealedAs("m1", 0), sealedAs("m2", 1), written("m1"), unsent("m1")];
    const again = conversationWith(established(), ...resealed, sealedAs("m1", 2), written("m1"));
    again
      .when(written("m2"))
      .then({ state: "open", context: { outbox: [], unconfirmed: [{ id: "m1" }, { id: "m2" }] } });
    again
      .when(unsent("m1"))
      .then({ state: "open", context: { outbox: [{ id: "m1" }, { id: "m2" }], unconfirmed: [] } });
  });
});

it("a message that the peer acknowledges is done with, whether it was noted that it went or not", () => {
  const acknowledged: Event = { type: "ACKNOWLEDGED", id: "a1", session: "s1", delivered: ["m1"], read: [] };
  conversationWith(established(), send("m1"), sealedAs("m1", 0))
    .when(acknowledged)
    .then({ state: "open", effects: [], context: { outbox: [], unconfirmed: [], sent: 1 } });
  conversationWith(established(), send("m1"), sealedAs("m1", 0), written("m1"))
    .when(acknowledged)
    .then({ state: "open", effects: [], context: { outbox: [], unconfirmed: [], sent: 1 } });
});
