import { type ConversationContext, isHeld } from "../machines/conversation/events.ts";
import type { OffloadContext } from "../machines/offload/events.ts";
import { until } from "./inbox.ts";
import type { MeshNode } from "./node.ts";
import type { Clock } from "./ports.ts";

// Settling: what a process that will not stay gives its node before it goes.

/** Everything that waits to leave, over all peers. */
export function queued(node: MeshNode): number {
  let count = 0;
  for (const [, state] of node.core.system.streams("conversation")) {
    const context: ConversationContext = state.snapshot.context;
    count += context.outbox.length;
  }
  return count;
}

/** Whether something is under way that will leave soon. What waits for a later attempt does not hold anyone up. */
function isBusy(node: MeshNode): boolean {
  const { system } = node.core;
  for (const [, { snapshot }] of system.streams("conversation")) {
    const context: ConversationContext = snapshot.context;
    if (
      (context.handling.length > 0 && !isHeld(context)) ||
      (context.outbox.length > 0 && !snapshot.matches("waiting"))
    )
      return true;
  }
  for (const [, { snapshot }] of system.streams("offload")) {
    const context: OffloadContext = snapshot.context;
    if (["requested", "uploading", "delivering"].some((active) => snapshot.matches({ active }))) return true;
    if (!context.cleanedUp && ["done", "error", "lost", "cancelling"].some((state) => snapshot.matches(state)))
      return true;
  }
  return false;
}

/** Resolves when the work has ended, or at that time. */
export function noLaterThan(clock: Clock, time: number, work: Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    const disarm = clock.at(time, resolve);
    work.then(resolve, reject).finally(disarm);
  });
}

const KINDS: ReadonlySet<string> = new Set(["conversation", "session", "offload", "link"]);

/** Fetches what waits at the relay and sends what is queued, for so long at the most. */
export async function settle(node: MeshNode, waitMs: number, signal: AbortSignal): Promise<void> {
  const { link, lanes, ports } = node.core;
  const deadline = ports.clock.now() + waitMs;
  const isSettled = () => link.caughtUp && !isBusy(node);
  const concerns = (stream: string) => KINDS.has(stream.slice(0, stream.indexOf("/")));
  // What was fetched may want an answer, which is queued in its turn.
  while (node.membership.current && ports.clock.now() < deadline) {
    if (!(await until(node, isSettled, { timeoutMs: deadline - ports.clock.now(), signal, concerns }))) return;
    // What asks a registry that does not answer runs for as long as that lasts.
    await noLaterThan(ports.clock, deadline, lanes.idle());
    await node.journal.drained();
    node.arrivals.flush();
    if (!node.receipts.flush() && isSettled()) return;
  }
}
