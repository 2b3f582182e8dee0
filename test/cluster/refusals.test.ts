import { describe, expect, it } from "vitest";
import { Refusals } from "../../src/cluster/refusals.ts";
import { REFUSED_RECIPIENTS_KEPT, RELAY_REFUSE_MS } from "../../src/limits.ts";

const FULL = { code: "mailbox_full", message: "The mailbox is full. Try again later." };

/** What a relay says to these frames of one sender for one recipient, one after the other, at one time. */
const said = (refusals: Refusals, ids: readonly string[], now = 0) =>
  ids.map((id) => (typeof refusals.turnOf("bob", id, now) === "number" ? id : "refused"));

describe("behind a refused frame", () => {
  it("those that were under way with it come again in the order in which they first came", () => {
    const refusals = new Refusals();
    const turns = ["a", "b"].map((id) => [id, Number(refusals.turnOf("bob", id, 0))] as const);
    // Both were being stored when the disk refused them.
    for (const [id, turn] of turns) refusals.refused("bob", id, turn, FULL, 0);
    expect(said(refusals, ["c", "b", "c"])).toEqual(["refused", "refused", "refused"]);
    expect(said(refusals, ["a", "b", "c", "d"])).toEqual(["a", "b", "c", "d"]);
  });

  it("one that is refused a second time stays the first", () => {
    const refusals = new Refusals();
    const first = Number(refusals.turnOf("bob", "a", 0));
    refusals.refused("bob", "a", first, FULL, 0);
    expect(said(refusals, ["b"])).toEqual(["refused"]);
    const again = Number(refusals.turnOf("bob", "a", 1));
    refusals.refused("bob", "a", again, FULL, 1);
    expect(said(refusals, ["b", "a", "b"])).toEqual(["refused", "a", "b"]);
  });

  it("frames for another recipient are taken", () => {
    const refusals = new Refusals();
    refusals.refused("bob", "a", Number(refusals.turnOf("bob", "a", 0)), FULL, 0);
    expect(refusals.turnOf("carol", "b", 0)).toBeTypeOf("number");
  });

  it("others are taken without it when it does not come again", () => {
    const refusals = new Refusals();
    refusals.refused("bob", "a", Number(refusals.turnOf("bob", "a", 0)), FULL, 0);
    expect(said(refusals, ["b"], RELAY_REFUSE_MS - 1)).toEqual(["refused"]);
    expect(said(refusals, ["b"], RELAY_REFUSE_MS)).toEqual(["b"]);
  });

  it("is kept of so many recipients, and forgotten of the one that was refused longest ago", () => {
    const refusals = new Refusals();
    const recipients = Array.from({ length: REFUSED_RECIPIENTS_KEPT + 1 }, (_, n) => `recipient ${n}`);
    for (const to of recipients) refusals.refused(to, "a", Number(refusals.turnOf(to, "a", 0)), FULL, 0);
    const behind = recipients.map((to) => typeof refusals.turnOf(to, "b", 0));
    expect(behind).toEqual(["number", ...recipients.slice(1).map(() => "object")]);
  });
});
