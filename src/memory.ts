/** Less than this is not worth it. */
const LONG_SIZE = 64 * 1024;

/**
 * Gives back the memory of long bytes at once: what waits for the collector counts for it, and brings it about. Nobody may read
 * them any more. What shares its memory with others is left alone.
 */
export function release(bytes: unknown): void {
  if (!(bytes instanceof Uint8Array) || bytes.byteLength < LONG_SIZE) return;
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength) buffer.transfer(0);
}
