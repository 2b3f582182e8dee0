import { CLOSE } from "../wire/frame.ts";
import type { Connection } from "./connection.ts";
import { DRAIN_CALM_MS, DRAIN_EVERY_MS, DRAIN_MS, DRAIN_SLICE } from "./limits.ts";

// Connections of a relay that goes away, handed over to those that stay.

const MESSAGE = "The relay is restarting. Come again at once.";

/**
 * Closes connections with 1012, a few at a time, each after what is under way of it was made durable and answered. What it
 * sends until it has heard of it is taken as well: a client of the reference wire never offers anything twice.
 * Resolves when all have ended.
 */
export async function handOver(
  connections: readonly Connection[],
  after: (milliseconds: number, task: () => void) => () => void,
): Promise<void> {
  const slice = Math.max(DRAIN_SLICE, Math.ceil((connections.length * DRAIN_EVERY_MS) / DRAIN_MS));
  for (let first = 0; first < connections.length; first += slice) {
    if (first > 0) await new Promise<void>((resolve) => void after(DRAIN_EVERY_MS, resolve));
    for (const connection of connections.slice(first, first + slice))
      void connection.handOver(CLOSE.restart, MESSAGE, DRAIN_CALM_MS);
  }
  await Promise.all(connections.map(({ ended }) => ended));
}
