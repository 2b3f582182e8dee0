/**
 * The primitives by node:crypto, that is OpenSSL: pure functions, the one file of this room that imports the platform.
 *
 * A runtime may lack an algorithm (a FIPS build does), and then its function throws: `chosen.ts` asks before it trusts.
 * One answer differs from noble's, and `chosen.ts` makes it equal: `ed25519Verify` refuses a signature that only the
 * cofactored equation of RFC 8032 takes, and may take a key of small order or in another encoding (OpenSSL 3.0 does).
 *
 * Key objects of curves cost about as much to make as to use, so they are kept as long as the byte array that they were made
 * from: a WeakMap holds them, and neither lives longer than its owner lets it.
 *
 * Node 24 asks whether an argument is a key object by catching the exception if it is none, two to four times a call, and
 * the stacks of these exceptions cost more than a kilobyte of ChaCha20 or half an X25519. What is a key object already
 * raises none, and `stackless` spares the stacks where nothing else can be passed.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  hash,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import type { Primitives } from "./primitives.ts";

const CIPHER = "chacha20-poly1305";
const TAG_BYTES = 16;
const HASH_BYTES = 32;
const HMAC_BLOCK_BYTES = 64;

type Curve = "x25519" | "ed25519";
// RFC 8410 sections 7 and 10.3: the fixed heads of 32 byte secret keys in PKCS #8. A JWK of one would ask for the public key.
const PKCS8_HEADS: Readonly<Record<Curve, Uint8Array>> = {
  x25519: Uint8Array.of(48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 110, 4, 34, 4, 32),
  ed25519: Uint8Array.of(48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32),
};

/** Node gives Buffers, some of them windows on a pool that others share: `slice` of one is no copy. */
const plain = (buffer: Buffer): Uint8Array => new Uint8Array(buffer);

/** SHA-256 as 32 characters, one a byte: a string is half the price of a Buffer. */
const digest = (message: Uint8Array): string => hash("sha256", message, "binary");

function write(characters: string, into: Uint8Array, at: number): Uint8Array {
  for (let index = 0; index < characters.length; index++) into[at + index] = characters.charCodeAt(index);
  return into;
}

const sha256 = (message: Uint8Array): Uint8Array => write(digest(message), new Uint8Array(HASH_BYTES), 0);

/**
 * What HMAC hashes, written over again each time and wiped after: an array of more than 64 bytes costs as much to make as to
 * hash. The inner one has room for what X3DH and the ratchet derive from.
 */
const innerBlocks = new Uint8Array(4 * HMAC_BLOCK_BYTES);
const outerBlocks = new Uint8Array(HMAC_BLOCK_BYTES + HASH_BYTES);

/** What `make` gives. Errors meanwhile have no stack; where `Error` is frozen they have. */
function stackless<T>(make: () => T): T {
  const limit = Error.stackTraceLimit;
  Reflect.set(Error, "stackTraceLimit", 0);
  try {
    return make();
  } finally {
    Reflect.set(Error, "stackTraceLimit", limit);
  }
}

/** Key objects of one kind, by the byte array that they were made from. */
function keyObjects(make: (key: Uint8Array) => KeyObject): (key: Uint8Array) => KeyObject {
  const known = new WeakMap<Uint8Array, { readonly bytes: Uint8Array; readonly object: KeyObject }>();
  // An array is readonly by agreement only: one that has changed since is another key.
  const same = (a: Uint8Array, b: Uint8Array) => {
    let difference = 0;
    for (let at = 0; at < a.length; at++) difference |= (a[at] ?? 0) ^ (b[at] ?? 0);
    return difference === 0;
  };
  return (key) => {
    const found = known.get(key);
    if (found !== undefined && same(found.bytes, key)) return found.object;
    const object = stackless(() => make(key));
    known.set(key, { bytes: new Uint8Array(key), object });
    return object;
  };
}

function fromRaw(curve: Curve, key: Uint8Array): KeyObject {
  const bytes = Buffer.from(key.buffer, key.byteOffset, key.length);
  return createPrivateKey({ key: bytes, format: "raw-private", asymmetricKeyType: curve });
}

function fromPkcs8(curve: Curve, key: Uint8Array): KeyObject {
  const head = PKCS8_HEADS[curve];
  // Not Buffer.concat: its pool would keep a copy of the secret.
  const der = Buffer.alloc(head.length + key.length);
  der.set(head);
  der.set(key, head.length);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

/** Node 24 takes a secret key as it is, Node 22 does not. What OpenSSL does to decode another form is a fifth of the whole. */
function takesRaw(): boolean {
  try {
    fromRaw("x25519", new Uint8Array(HASH_BYTES));
    return true;
  } catch {
    // It does not know the format, or not the curve; then the other way fails too, and `chosen.ts` finds out.
    return false;
  }
}

const create = takesRaw() ? fromRaw : fromPkcs8;
const secretObjects = (curve: Curve) => keyObjects((key) => create(curve, key));
const publicObjects = (crv: string) =>
  keyObjects((key) => {
    const x = Buffer.from(key.buffer, key.byteOffset, key.length).toString("base64url");
    return createPublicKey({ key: { kty: "OKP", crv, x }, format: "jwk" });
  });

const x25519Secret = secretObjects("x25519");
const x25519PublicKey = publicObjects("X25519");
const ed25519Seed = secretObjects("ed25519");
const ed25519PublicKey = publicObjects("Ed25519");

/** The raw public key of a secret one. A JWK is the cheapest form that it leaves in. */
function publicOf(secret: KeyObject): Uint8Array {
  const { x } = createPublicKey(secret).export({ format: "jwk" });
  return plain(Buffer.from(x ?? "", "base64url"));
}

export const native: Primitives = {
  sha256,

  // Two one-shot hashes: an Hmac object costs several times as much.
  hmacSha256(key, message) {
    const pad = key.length > HMAC_BLOCK_BYTES ? sha256(key) : key;
    const length = HMAC_BLOCK_BYTES + message.length;
    const inner = length <= innerBlocks.length ? innerBlocks.subarray(0, length) : new Uint8Array(length);
    inner.fill(0x36, 0, HMAC_BLOCK_BYTES);
    outerBlocks.fill(0x5c, 0, HMAC_BLOCK_BYTES);
    for (let at = 0; at < pad.length; at++) {
      const byte = pad[at] ?? 0;
      inner[at] = byte ^ 0x36;
      outerBlocks[at] = byte ^ 0x5c;
    }
    inner.set(message, HMAC_BLOCK_BYTES);
    const result = sha256(write(digest(inner), outerBlocks, HMAC_BLOCK_BYTES));
    inner.fill(0);
    outerBlocks.fill(0);
    return result;
  },

  aeadSeal(key, nonce12, plaintext, aad, head) {
    const cipher = createCipheriv(CIPHER, createSecretKey(key), nonce12, { authTagLength: TAG_BYTES });
    cipher.setAAD(aad, { plaintextLength: plaintext.length });
    const ciphertext = cipher.update(plaintext);
    cipher.final();
    const out = new Uint8Array(head.length + plaintext.length + TAG_BYTES);
    out.set(head);
    out.set(ciphertext, head.length);
    out.set(cipher.getAuthTag(), head.length + plaintext.length);
    return out;
  },

  aeadOpen(key, nonce12, sealed, aad) {
    const length = sealed.length - TAG_BYTES;
    const decipher = createDecipheriv(CIPHER, createSecretKey(key), nonce12, { authTagLength: TAG_BYTES });
    decipher.setAAD(aad, { plaintextLength: length });
    decipher.setAuthTag(sealed.subarray(length));
    const { buffer, byteOffset } = decipher.update(sealed.subarray(0, length));
    try {
      decipher.final();
    } catch {
      // The only thing that is decided here is the tag.
      return undefined;
    }
    return new Uint8Array(buffer, byteOffset, length);
  },

  x25519(secret, publicKey) {
    const options = { privateKey: x25519Secret(secret), publicKey: x25519PublicKey(publicKey) };
    try {
      return plain(diffieHellman(options));
    } catch {
      // OpenSSL refuses a result of zeros, and there is nothing else to refuse.
      return undefined;
    }
  },

  x25519Public: (secret) => publicOf(x25519Secret(secret)),
  ed25519Public: (seed) => publicOf(ed25519Seed(seed)),
  ed25519Sign: (seed, message) => plain(sign(null, message, ed25519Seed(seed))),
  ed25519Verify: (publicKey, message, signature) => verify(null, message, ed25519PublicKey(publicKey), signature),
};
