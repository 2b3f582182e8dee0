import { describe, expect, test } from "vitest";
import { base64url, parseRatchet, type RatchetJson, serializeRatchet } from "../../src/crypto/index.ts";
import { codeOf, newAlice, newBob, receive, send } from "./world.ts";

function settledJson(): RatchetJson {
  const [alice, bob] = [newAlice(), newBob()];
  receive(bob, send(alice, "hello"));
  return serializeRatchet(bob.state);
}

describe("a ratchet state as JSON", () => {
  test("comes back from every stage of a session", () => {
    const [alice, bob] = [newAlice(), newBob()];
    const through = () => {
      for (const { state } of [alice, bob]) {
        expect(parseRatchet(JSON.parse(JSON.stringify(serializeRatchet(state))))).toEqual(state);
      }
    };
    through();
    receive(bob, send(alice, "first"));
    through();
    receive(alice, send(bob, "second"));
    through();
  });

  test("is base64url strings and numbers", () => {
    const json = settledJson();
    expect(json).toEqual({
      rootKey: expect.stringMatching(/^[\w-]{43}$/),
      self: { secret: expect.stringMatching(/^[\w-]{43}$/), public: expect.stringMatching(/^[\w-]{43}$/) },
      peer: expect.stringMatching(/^[\w-]{43}$/),
      sending: { key: expect.stringMatching(/^[\w-]{43}$/), n: 0 },
      receiving: { key: expect.stringMatching(/^[\w-]{43}$/), n: 1 },
      previousCount: 0,
    });
  });

  const json = settledJson();
  const key = json.rootKey;
  const short = base64url.encode(new Uint8Array(31));
  const damages: readonly [string, unknown][] = [
    ["nothing", undefined],
    ["null", null],
    ["a text", "state"],
    ["an array", []],
    ["no root key", { ...json, rootKey: undefined }],
    ["a root key of 31 bytes", { ...json, rootKey: short }],
    ["a root key in another encoding", { ...json, rootKey: `${key}=` }],
    ["a root key that is a number", { ...json, rootKey: 1 }],
    ["no key pair", { ...json, self: null }],
    ["half a key pair", { ...json, self: { secret: key } }],
    ["a short peer key", { ...json, peer: short }],
    ["no peer member", { ...json, peer: undefined }],
    ["a peer but no sending chain", { ...json, sending: null }],
    ["a sending chain but no peer", { ...json, peer: null }],
    ["a receiving chain but no peer", { ...json, peer: null, sending: null }],
    ["a chain without a key", { ...json, sending: { n: 1 } }],
    ["a chain with a negative number", { ...json, sending: { key, n: -1 } }],
    ["a chain with a fractional number", { ...json, receiving: { key, n: 0.5 } }],
    ["a chain with a number above 2^32", { ...json, receiving: { key, n: 2 ** 32 + 1 } }],
    ["a chain with a number as text", { ...json, receiving: { key, n: "1" } }],
    ["a count of 2^32", { ...json, previousCount: 2 ** 32 }],
    ["no count", { ...json, previousCount: undefined }],
  ];

  test.each(damages)("with %s is refused", (_, value) => {
    expect(codeOf(() => parseRatchet(value))).toBe("encoding");
  });

  test("with members of a later version is still read", () => {
    expect(parseRatchet({ ...json, later: true })).toEqual(parseRatchet(json));
  });
});
