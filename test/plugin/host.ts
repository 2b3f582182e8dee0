import type { AgentEvent, DeliveryContext, PluginApi } from "../../src/plugin/api.ts";

// The part of OpenClaw by which sessions hear of things, as it was seen to behave: an event stays in memory until a turn of its
// session takes it; one with the same key goes in its place; a turn that was asked for runs a moment later.

export interface Given {
  readonly session: string;
  readonly text: string;
  readonly chat: DeliveryContext | undefined;
}

export interface Host extends Pick<PluginApi, "config" | "runtime"> {
  /** What waits for the next turn of a session. */
  waiting(session: string): string[];
  /** The sessions for which a turn was asked for, in order. */
  readonly wakes: string[];
  readonly given: Given[];
  /** Resolves when there is something that waits for a session. */
  something(session: string): Promise<string[]>;
  /** Runs a turn of a session, which takes what waits for it. */
  turn(session: string, end?: "end" | "error"): string[];
}

export function openHost(options: { readonly tellsTurns?: boolean; readonly refuses?: string } = {}): Host {
  const { tellsTurns = true, refuses } = options;
  const queues = new Map<string, Map<string, string>>();
  const listeners = new Set<(event: AgentEvent) => void>();
  const looking = new Set<() => void>();
  const [wakes, given]: [string[], Given[]] = [[], []];
  let runs = 0;
  const waiting = (session: string) => [...(queues.get(session)?.values() ?? [])];
  const events = {
    onAgentEvent(listener: (event: AgentEvent) => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return {
    config: { session: { mainKey: "home" }, agents: { list: [{ id: "other" }, { id: "ours", default: true }] } },
    runtime: {
      system: {
        enqueueSystemEvent(text, { sessionKey, contextKey, deliveryContext }) {
          if (sessionKey === refuses) throw new Error("there is no such agent");
          const queue = queues.get(sessionKey) ?? new Map<string, string>();
          queues.set(sessionKey, queue.set(contextKey, text));
          given.push({ session: sessionKey, text, chat: deliveryContext });
          for (const look of looking) look();
        },
        requestHeartbeat: ({ sessionKey }) => wakes.push(sessionKey),
      },
      ...(tellsTurns ? { events } : {}),
    },
    waiting,
    wakes,
    given,
    async something(session) {
      while (waiting(session).length === 0)
        await new Promise<void>((resolve) => {
          const look = () => {
            looking.delete(look);
            resolve();
          };
          looking.add(look);
        });
      return waiting(session);
    },
    turn(session, end = "end") {
      const runId = `run-${runs++}`;
      const tell = (phase: string) => {
        for (const listener of listeners)
          listener({ runId, stream: "lifecycle", data: { phase }, sessionKey: session });
      };
      tell("start");
      const taken = waiting(session);
      queues.delete(session);
      tell(end);
      return taken;
    },
  };
}
