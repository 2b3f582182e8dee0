/** Wire equality: the ratchet's known answers, and one session walked by hand with node:crypto alone. */
import { createDecipheriv, createHmac, createPrivateKey, createPublicKey, diffieHellman, hkdfSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { decodeHeader, encodeHeader, hex, SUITE, sealMessage, utf8 } from "../../src/crypto/index.ts";
import { kdfCk } from "../../src/crypto/ratchet/chain-key.ts";
import { kdfRk } from "../../src/crypto/ratchet/root-key.ts";
import { CHAIN_KDF, ROOT_KDF } from "../vectors/wire.ts";
import { alice, bob, bobSignedPreKey, codeOf, ephemeral, newAlice, newBob, receive, send } from "./world.ts";

test("the suite's name", () => {
  expect(SUITE).toBe("AGENTMESH_X25519_CHACHA20POLY1305_SHA256");
});

test("KDF_RK gives the known answer", () => {
  const { rootKey, chainKey } = kdfRk(hex.decode(ROOT_KDF.rootKey), hex.decode(ROOT_KDF.dhOutput));
  expect(hex.encode(rootKey)).toBe(ROOT_KDF.nextRootKey);
  expect(hex.encode(chainKey)).toBe(ROOT_KDF.chainKey);
});

test("KDF_CK gives the known answer", () => {
  const { messageKey, chain } = kdfCk({ key: hex.decode(CHAIN_KDF.chainKey), n: 4 });
  expect(hex.encode(messageKey)).toBe(CHAIN_KDF.messageKey);
  expect(hex.encode(chain.key)).toBe(CHAIN_KDF.nextChainKey);
  expect(chain.n).toBe(5);
});

describe("the header", () => {
  const header = { dh: new Uint8Array(32).fill(0xab), pn: 0x01020304, n: 0xfffffffe };

  test("is dh, then pn and n as u32 big-endian: 40 bytes", () => {
    expect(hex.encode(encodeHeader(header))).toBe(`${"ab".repeat(32)}01020304fffffffe`);
    expect(decodeHeader(encodeHeader(header))).toEqual(header);
    expect(decodeHeader(Uint8Array.of(9, ...encodeHeader(header)).subarray(1))).toEqual(header);
  });

  test("holds numbers from 0 to 2^32 - 1", () => {
    const ends = { ...header, pn: 0, n: 0xffffffff };
    expect(decodeHeader(encodeHeader(ends))).toEqual(ends);
  });

  test.each([
    ["a short key", { ...header, dh: new Uint8Array(31) }],
    ["a long key", { ...header, dh: new Uint8Array(33) }],
    ["n of 2^32", { ...header, n: 2 ** 32 }],
    ["pn of 2^32", { ...header, pn: 2 ** 32 }],
    ["a negative n", { ...header, n: -1 }],
    ["a fractional pn", { ...header, pn: 0.5 }],
    ["n that is no number", { ...header, n: Number.NaN }],
  ])("with %s is refused", (_, bad) => {
    expect(codeOf(() => encodeHeader(bad))).toBe("header_invalid");
  });

  test.each([0, 39, 41])("of %d bytes is refused", (length) => {
    expect(codeOf(() => decodeHeader(new Uint8Array(length)))).toBe("header_invalid");
  });
});

describe("a session by hand", () => {
  // RFC 8410: the fixed heads of an X25519 key in PKCS #8 and SPKI.
  const dh = (secret: Uint8Array, publicKey: Uint8Array) =>
    diffieHellman({
      privateKey: createPrivateKey({
        key: Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), secret]),
        format: "der",
        type: "pkcs8",
      }),
      publicKey: createPublicKey({
        key: Buffer.concat([Buffer.from("302a300506032b656e032100", "hex"), publicKey]),
        format: "der",
        type: "spki",
      }),
    });
  const hkdf = (salt: Uint8Array, ikm: Uint8Array, info: string, length: number) =>
    Buffer.from(hkdfSync("sha256", ikm, salt, info, length));
  const step = (chainKey: Uint8Array, byte: number) =>
    createHmac("sha256", chainKey).update(Uint8Array.of(byte)).digest();
  const open = (key: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array) => {
    expect(aad).toHaveLength(187);
    const length = ciphertext.length - 28;
    const decipher = createDecipheriv("chacha20-poly1305", key, ciphertext.subarray(0, 12), { authTagLength: 16 });
    decipher.setAAD(aad, { plaintextLength: length });
    decipher.setAuthTag(ciphertext.subarray(12 + length));
    return Buffer.concat([decipher.update(ciphertext.subarray(12, 12 + length)), decipher.final()]).toString();
  };

  test("the wire's rules, followed with node:crypto, open what we seal in both directions", () => {
    const spk = bobSignedPreKey.keyPair;
    const dhs = [dh(alice.dhSecret, spk.public), dh(ephemeral.secret, bob.dhPublic), dh(ephemeral.secret, spk.public)];
    const ikm = Buffer.concat([Buffer.alloc(32, 0xff), ...dhs]);
    const sharedKey = hkdf(Buffer.alloc(32), ikm, "AgentMesh_X3DH_v1", 32);
    const ad = Buffer.concat([Buffer.from(`${alice.did}|${bob.did}`), alice.dhPublic, bob.dhPublic]);

    const ours = newAlice();
    const theirs = newBob();
    const first = send(ours, "first");
    const second = send(ours, "second");

    // Bob's side by hand: his first ratchet key is his signed prekey.
    const toBob = hkdf(sharedKey, dh(spk.secret, first.header.dh), "AgentMesh_Ratchet_v1", 64);
    const chain = toBob.subarray(32);
    expect(open(step(chain, 1), Buffer.concat([ad, encodeHeader(first.header)]), first.ciphertext)).toBe("first");
    const next = step(step(chain, 2), 1);
    expect(open(next, Buffer.concat([ad, encodeHeader(second.header)]), second.ciphertext)).toBe("second");

    // Bob's answer, opened by Alice's hand: the associated data keeps the initiator first.
    receive(theirs, first);
    const answer = send(theirs, "answer");
    const mine = ours.state.self.secret;
    const toAlice = hkdf(toBob.subarray(0, 32), dh(mine, answer.header.dh), "AgentMesh_Ratchet_v1", 64);
    const key = step(toAlice.subarray(32), 1);
    expect(open(key, Buffer.concat([ad, encodeHeader(answer.header)]), answer.ciphertext)).toBe("answer");
  });

  test("a sender can rebuild the identical frame from what it kept", () => {
    const party = newAlice();
    const { messageKey, nonce, header, ciphertext } = send(party, "again");
    expect(sealMessage(messageKey, nonce, party.associatedData, header, utf8.encode("again"))).toEqual(ciphertext);
    expect(ciphertext.subarray(0, 12)).toEqual(nonce);
    expect(ciphertext).toHaveLength(12 + 5 + 16);
  });
});
