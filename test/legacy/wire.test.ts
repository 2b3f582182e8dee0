/** The words of a deployed controller, as they are read. */
import { describe, expect, it } from "vitest";
import { offloadRefusal, PlainMessage, pairRefusal, plainForms, readControllerWords } from "../../src/wire/legacy.ts";

describe("a refusal without a code", () => {
  it.each([
    // What deployed controllers say.
    ["Invalid pairing token", "token_invalid"],
    ["Pairing is Active — token already consumed or expired", "token_used"],
    ["Pairing is Revoked — token already consumed or expired", "token_revoked"],
    ["Pairing is Expired — token already consumed or expired", "token_expired"],
    ["Pairing token has expired", "token_expired"],
    ["Internal error — could not verify token", "cluster_refused"],
    ["Internal error — could not bind identity", "cluster_refused"],
    // What others might.
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
    // What deployed controllers say.
    ["No pairing found for AMID did:mesh:0. Pair first with mesh_pair.", "not_paired"],
    ["Pairing is 'Revoked' — must be Active", "token_revoked"],
    ["Pairing is 'Expired' — must be Active", "token_expired"],
    ["Pairing is '' — must be Active", "token_revoked"],
    ["Pairing has expired", "token_expired"],
    ["No available slots (2/2 used)", "no_free_slot"],
    ["Pairing does not include 'offload' capability", "capability_missing"],
    ["Internal error — could not list pairings: timeout", "cluster_refused"],
    ["Failed to create sandbox: forbidden", "cluster_refused"],
    ["Sandbox failed to start: Sandbox pod failed before becoming ready", "cluster_refused"],
    ["Sandbox timed out waiting to become ready", "cluster_refused"],
    // What others might.
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
  const frame = { type: "message", from: `did:mesh:${"a".repeat(32)}`, to: `did:mesh:${"b".repeat(32)}`, id: "1" };
  const read = (more: object) => {
    const { data } = PlainMessage.safeParse({ ...frame, ...more });
    return data && readControllerWords(data);
  };
  const base64 = (words: unknown) => Buffer.from(JSON.stringify(words)).toString("base64");
  const status = { type: "offload_status", request_id: "r", phase: "spawning" };

  it("are read from the payload alone, as older controllers write them, and from what newer ones write", () => {
    const { payload, ciphertext, plaintext } = plainForms(status);
    expect(payload).toBe(base64(status));
    for (const form of [{ payload }, { payload, ciphertext, plaintext }, { ciphertext, plaintext }, { v: 1, payload }])
      expect(read(form)).toEqual(status);
    const reversed = Object.fromEntries(Object.entries(status).reverse());
    expect(read({ ciphertext, payload: base64(reversed), plaintext })).toEqual(status);
    expect(read({ ciphertext, payload: base64({ ...status, phase: "ready" }), plaintext })).toBeUndefined();
    expect(read({ plaintext })).toBeUndefined();
  });

  it("say nothing where they say null, and nothing that only sealed ones may say", () => {
    const said = { ...status, sandbox_name: null, message: null, sandbox_did: frame.from };
    expect(read({ payload: base64(said) })).toEqual(status);
    const refusal = { type: "offload_error", request_id: "r", error: "no" };
    expect(read({ payload: base64({ ...refusal, code: "token_used" }) })).toEqual(refusal);
  });

  it.each([
    ["an object, which no controller writes", { payload: status }],
    ["JSON that is not base64", { payload: JSON.stringify(status) }],
    ["a ciphertext that is not marked as plaintext", { ciphertext: base64(status) }],
    ["marked as anything else", { payload: base64(status), plaintext: false }],
    ["marked by a text", { payload: base64(status), plaintext: "true" }],
    ["of another version", { payload: base64(status), v: 2 }],
    ["from nobody", { payload: base64(status), from: "somebody" }],
    ["from half a DID", { payload: base64(status), from: "did:mesh:1" }],
    ["to nobody", { payload: base64(status), to: "x" }],
  ])("are none when they are %s", (_, more) => expect(read(more)).toBeUndefined());
});
