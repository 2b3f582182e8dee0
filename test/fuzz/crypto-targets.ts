/** The encodings, ratchets and bundles of the protocol. */
import {
  applySkipped,
  base64,
  base64url,
  CryptoError,
  concat,
  decodeHeader,
  encodeHeader,
  hex,
  isDid,
  type PreKeyBundle,
  parseRatchet,
  serializeRatchet,
  utf8,
  verifyBundle,
} from "../../src/crypto/index.ts";
import { asAddress } from "../../src/wire/text.ts";
import { bob, bobBundle, newAlice, newBob, attempt as open, receive, send, snapshot } from "../crypto/world.ts";
import { assertEqual, json } from "./check.ts";
import { attempt, type Outcome, type Target } from "./fuzz.ts";

const [alice, responder] = [newAlice(), newBob()];
const states = [serializeRatchet(alice.state), serializeRatchet(responder.state)];
receive(responder, send(alice, "first"));
states.push(serializeRatchet(responder.state));
receive(alice, send(responder, "second"));
states.push(serializeRatchet(alice.state));

/** A ratchet that has skipped a message, and frames for it: the skipped one, the next, and one after a turn. */
const missed = send(alice, "missed");
receive(responder, send(alice, "third"));
const next = send(alice, "next");
const frames = [missed, next].map(({ header, ciphertext }) => concat(encodeHeader(header), ciphertext));

const encodings: readonly (readonly [string, typeof base64, readonly string[]])[] = [
  ["base64", base64, ["Zm9vYmE=", "Zm9vYg==", "Zm9vYmFy"]],
  ["base64url", base64url, ["Zm9vYmE", "Zm9vYg", "Zm9v-w"]],
  ["hex", hex, ["00ff", "ABcd"]],
];

const bundle = (text: string): PreKeyBundle | undefined => {
  const read = json(text)?.value;
  if (typeof read !== "object" || read === null || !("spk" in read) || !("ed" in read) || !("ik" in read))
    return undefined;
  const { spk, ed, ik, sig, id } = { sig: "", id: 0, ...read };
  const bytes = (value: unknown) => (typeof value === "string" ? base64url.decode(value) : new Uint8Array());
  return {
    did: bob.did,
    identityKey: bytes(ik),
    identityKeyEd: bytes(ed),
    signedPreKey: { keyId: typeof id === "number" ? id : -1, publicKey: bytes(spk), signature: bytes(sig) },
  };
};

export const cryptoTargets: readonly Target[] = [
  {
    name: "ratchet",
    kind: "json",
    samples: states,
    take: (text) =>
      attempt(() => {
        const state = parseRatchet(json(text)?.value);
        assertEqual(parseRatchet(serializeRatchet(state)), state, "a ratchet that does not come back");
      }),
  },
  {
    name: "message",
    kind: "bytes",
    samples: frames,
    // What differs in any bit opens nothing and moves nothing; what does not, opens.
    async take(bytes): Promise<Outcome> {
      const before = snapshot(responder);
      const outcome = await attempt(() => {
        const header = decodeHeader(bytes.subarray(0, 40));
        const got = open(responder, { header, ciphertext: bytes.subarray(40) });
        applySkipped(responder.skipped, got);
        if (!frames.some((frame) => Buffer.compare(frame, bytes) === 0)) throw new Error("a forged message opened");
      });
      assertEqual(snapshot(responder), before, "a message moved a ratchet that nobody kept");
      return outcome;
    },
  },
  {
    name: "header",
    kind: "bytes",
    samples: [encodeHeader(next.header)],
    take: (bytes) =>
      attempt(() => {
        assertEqual(encodeHeader(decodeHeader(bytes)), Uint8Array.from(bytes), "a header that does not come back");
      }),
  },
  {
    name: "bundle",
    kind: "json",
    samples: [
      {
        ik: base64url.encode(bobBundle.identityKey),
        ed: base64url.encode(bobBundle.identityKeyEd),
        spk: base64url.encode(bobBundle.signedPreKey.publicKey),
        sig: base64url.encode(bobBundle.signedPreKey.signature),
        id: 7,
      },
    ],
    take: (text) =>
      attempt(() => {
        const read = bundle(text);
        if (!read) throw new CryptoError("bundle_invalid", "no bundle");
        verifyBundle(bob.did, read);
        assertEqual({ ...read.signedPreKey, keyId: 7 }, { ...bobBundle.signedPreKey, keyId: 7 }, "a forged bundle");
      }),
  },
  {
    name: "utf8",
    kind: "bytes",
    samples: [utf8.encode("words é 😀")],
    take: (bytes) =>
      attempt(() => {
        assertEqual(utf8.encode(utf8.decode(bytes)), Uint8Array.from(bytes), "UTF-8 that does not come back");
      }),
  },
  {
    name: "did",
    kind: "text",
    samples: [bob.did, bob.did.replace("mesh", "agentmesh").toUpperCase()],
    take(text) {
      const address = asAddress(text);
      if (asAddress(address) !== address) throw new Error("an address that is read otherwise the second time");
      return isDid(address) ? "taken" : "refused";
    },
  },
  ...encodings.map(
    ([name, encoding, samples]): Target => ({
      name,
      kind: "text",
      samples,
      take: (text) =>
        attempt(() => {
          const same = encoding.encode(encoding.decode(text)) === (name === "hex" ? text.toLowerCase() : text);
          if (!same) throw new Error("a second text of the same bytes");
        }),
    }),
  ),
];
