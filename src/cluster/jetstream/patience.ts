import { MeshError } from "../../errors.ts";
import { type Bus, unavailable } from "./bus.ts";
import { RETRY_REST_MS } from "./limits.ts";

/** NATS has no room: a stream is full in one of its ways, or its server is. */
export const isFull = (error: unknown): boolean =>
  error instanceof Error && /maximum (messages|bytes)|resource limits exceeded|insufficient/i.test(error.message);

/**
 * Asks NATS again while it elects and heals, unless it has no room.
 * @param between what is done before it is asked again
 * @throws MeshError `nats_unavailable` (of which `isFull` may hold), `closed`
 */
export async function patiently<T>(
  { nats }: Bus,
  patienceMs: number,
  ask: () => Promise<T>,
  between: () => Promise<unknown> | undefined = () => undefined,
): Promise<T> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const begun = Date.now();
    try {
      return await ask();
    } catch (error) {
      if (nats.isClosed()) throw new MeshError("closed", undefined, { cause: error });
      if (isFull(error) || Date.now() > deadline) throw unavailable(error);
    }
    // What failed at once would fail at once again.
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, begun + RETRY_REST_MS - Date.now())));
    await between();
  }
}
