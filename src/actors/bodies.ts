import { deflateRawSync, inflateRawSync } from "node:zlib";
import { MeshError } from "../errors.ts";
import { BODY_INLINE_SIZE_MAX, DEFLATE_SHORT_SIZE_MAX, DEFLATE_SIZE_MIN, FRAME_SIZE_MAX } from "../limits.ts";
import type { Body } from "../machines/definition.ts";
import { release } from "../memory.ts";
import type { Blobs } from "../store/blobs.ts";
import { type Random, seal, unseal } from "../store/seal.ts";
import type { SecretPatch } from "../store/secrets.ts";
import type { Keyring } from "./keyring.ts";

// Words at rest. A scope (a peer's DID, an offload's id) has one content key; destroying it makes its words unreadable.
//
// Text is deflated before it is sealed, each for itself: its size tells how much it repeats itself and nothing of any other.

/** A body to put into an event, and what its commit must carry with it. */
export interface SealedBody {
  readonly body: Body;
  readonly size: number;
  readonly secrets: SecretPatch;
  readonly before?: () => Promise<void>;
}

/** Stands in place of words that were destroyed. */
export const FORGOTTEN = "(forgotten)";

const utf8 = (text: string) => new Uint8Array(Buffer.from(text, "utf8"));

/** Neither UTF-8 nor a piece of a file begins with this byte: what follows it is deflated. */
const DEFLATED = 0xff;

/** What looks back no further than DEFLATE_SHORT_SIZE_MAX. */
const SHORT = { level: 3, windowBits: 12, memLevel: 5 };

/** The bytes to seal. What is too large to stay in the journal is not worth the time. */
function pack(bytes: Uint8Array): Uint8Array {
  if (bytes.length < DEFLATE_SIZE_MIN || bytes.length > BODY_INLINE_SIZE_MAX) return bytes;
  const deflated = deflateRawSync(
    bytes,
    bytes.length > DEFLATE_SHORT_SIZE_MAX ? {} : { ...SHORT, chunkSize: bytes.length },
  );
  if (deflated.length + 1 >= bytes.length) return bytes;
  const packed = new Uint8Array(deflated.length + 1);
  packed[0] = DEFLATED;
  packed.set(deflated, 1);
  return packed;
}

function unpack(packed: Uint8Array): Buffer {
  if (packed[0] === DEFLATED) return inflateRawSync(packed.subarray(1), { maxOutputLength: FRAME_SIZE_MAX });
  return Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
}

export class Bodies {
  readonly #keyring: Keyring;
  readonly #blobs: Blobs;
  readonly #random: Random;

  constructor(keyring: Keyring, blobs: Blobs, random: Random) {
    this.#keyring = keyring;
    this.#blobs = blobs;
    this.#random = random;
  }

  /** Seals words or bytes. `spill`: a large one goes into a blob file, which lasts only as long as it is of use. */
  seal(scope: string, content: string | Uint8Array, spill = false): SealedBody {
    const { key, patch } = this.#keyring.contentKeyOrNew(scope);
    const bytes = typeof content === "string" ? utf8(content) : content;
    const sealed = seal(key, pack(bytes), `body/${scope}`, this.#random);
    if (!spill || sealed.length <= BODY_INLINE_SIZE_MAX) {
      return { body: { sealed: Buffer.from(sealed).toString("base64") }, size: bytes.length, secrets: patch };
    }
    const { ref, write } = this.#blobs.reserve(sealed);
    return { body: { ...ref }, size: bytes.length, secrets: patch, before: write };
  }

  /** Opens an inline body at once. @throws MeshError `store_damaged` when it does not open */
  openInline(scope: string, sealed: string): string {
    return this.#unseal(scope, new Uint8Array(Buffer.from(sealed, "base64"))).toString("utf8");
  }

  async open(scope: string, body: Body): Promise<string> {
    return (await this.openBytes(scope, body)).toString("utf8");
  }

  /** What was sealed, whether it was words or bytes. */
  async openBytes(scope: string, body: Body): Promise<Buffer> {
    if ("sealed" in body) return this.#unseal(scope, new Uint8Array(Buffer.from(body.sealed, "base64")));
    const sealed = await this.#blobs.read({ blob: body.blob, size: body.size });
    const bytes = this.#unseal(scope, sealed);
    release(sealed);
    return bytes;
  }

  /** As `open`, but words whose key was destroyed come back as null. */
  async peek(scope: string, body: Body): Promise<string | null> {
    return this.#keyring.contentKey(scope) ? this.open(scope, body) : null;
  }

  async discard(bodies: readonly Body[]): Promise<void> {
    for (const body of bodies) if ("blob" in body) await this.#blobs.remove(body);
  }

  #unseal(scope: string, sealed: Uint8Array): Buffer {
    const key = this.#keyring.contentKey(scope);
    if (!key) throw new MeshError("store_damaged", `The content key of ${scope} is gone, so its words cannot be read.`);
    try {
      return unpack(unseal(key, sealed, `body/${scope}`));
    } catch (cause) {
      throw new MeshError("store_damaged", `A body of ${scope} does not open.`, { cause });
    }
  }
}
