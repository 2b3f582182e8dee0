/** The words of a deployed controller, as they are read. */
import { describe, expect, it } from "vitest";
import { offloadRefusal, PlainMessage, pairRefusal, plainForms, readControllerWords } from "../../src/wire/legacy.ts";

describe("a refusal without a code", () => {
  it.each([
    ["invalid pairing token", "token_invalid"],
    ["Token not found", "token_invalid"],
    ["TOKEN_ALREADY_CONSUMED", "token_used"],
    ["pairing token has already been used", "token_used"],
    ["this pairing is already bound to another laptop", "token_used"],
    ["Token expired at 2026-01-01", "token_expired"],
    ["pairing_revoked", "token_revoked"],
    ["internal error", "cluster_refused"],
    ["Internal: invalid response of the API server", "cluster_refused"],
    ["", "cluster_refused"],
    ["something new", "cluster_refused"],
  ])("of a token, %j is %s", (words, code) => expect(pairRefusal(words)).toBe(code));

  it.each([
    ["laptop is not paired", "not_paired"],
    ["No pairing found for this AMID", "not_paired"],
    ["pairing is not active (phase: Revoked)", "token_revoked"],
    ["pairing is not active (phase: Expired)", "token_expired"],
    ["pairing is not active", "token_revoked"],
    ["No free slots (2/2)", "no_free_slot"],
    ["capability_missing: offload", "capability_missing"],
    ["token budget exhausted", "budget_exhausted"],
    ["sandbox failed to start", "cluster_refused"],
    ["timed out waiting for the sandbox", "cluster_refused"],
  ])("of an offload, %j is %s", (words, code) => expect(offloadRefusal(words)).toBe(code));
});

describe("plaintext words", () => {
  const frame = {
    v: 1,
    type: "message",
    from: `did:mesh:${"a".repeat(32)}`,
    to: `did:mesh:${"b".repeat(32)}`,
    id: "1",
  };
  const read = (more: object) => {
    const { data } = PlainMessage.safeParse({ ...frame, plaintext: true, ...more });
    return data && readControllerWords(data);
  };
  const status = { type: "offload_status", request_id: "r", phase: "spawning" };

  it("are read in either form, or in both when they say the same, in whatever order", () => {
    const { ciphertext, payload } = plainForms(status);
    for (const form of [{ ciphertext }, { payload }, { payload: JSON.stringify(status) }, { ciphertext, payload }])
      expect(read(form)).toEqual(status);
    const reversed = Object.fromEntries(Object.entries(status).reverse());
    expect(read({ ciphertext, payload: reversed })).toEqual(status);
    expect(read({ ciphertext, payload: { ...status, phase: "ready" } })).toBeUndefined();
    expect(read({})).toBeUndefined();
  });

  it("say nothing where they say null, and nothing that only sealed ones may say", () => {
    expect(read({ payload: { ...status, sandbox_name: null, message: null, sandbox_did: frame.from } })).toEqual(
      status,
    );
    const refusal = { type: "offload_error", request_id: "r", error: "no" };
    expect(read({ payload: { ...refusal, code: "token_used" } })).toEqual(refusal);
  });

  it("are no plaintext when the frame does not say so, or names nobody", () => {
    for (const more of [
      { plaintext: false },
      { plaintext: "true" },
      { from: "somebody" },
      { from: "did:mesh:1" },
      { to: "x" },
    ])
      expect(read({ payload: status, ...more })).toBeUndefined();
  });
});
