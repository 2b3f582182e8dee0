import { SEALED_FRAMES_SIZE_KEPT } from "../limits.ts";
import { release } from "../memory.ts";

// Ciphertexts between their sealing and the relay's word that it has them. What does not fit is built again when
// it is needed.

export class SealedFrames {
  readonly #frames = new Map<string, Uint8Array>();
  #size = 0;

  get(peer: string, id: string): Uint8Array | undefined {
    return this.#frames.get(keyOf(peer, id));
  }

  set(peer: string, id: string, ciphertext: Uint8Array): void {
    this.delete(peer, id);
    if (this.#size + ciphertext.length > SEALED_FRAMES_SIZE_KEPT) return;
    this.#frames.set(keyOf(peer, id), ciphertext);
    this.#size += ciphertext.length;
  }

  delete(peer: string, id: string): void {
    this.#drop(keyOf(peer, id));
  }

  /** All of one peer. */
  forget(peer: string): void {
    for (const key of this.#frames.keys()) if (key.startsWith(keyOf(peer, ""))) this.#drop(key);
  }

  #drop(key: string): void {
    this.#size -= this.#frames.get(key)?.length ?? 0;
    release(this.#frames.get(key));
    this.#frames.delete(key);
  }
}

const keyOf = (peer: string, id: string) => `${peer} ${id}`;
