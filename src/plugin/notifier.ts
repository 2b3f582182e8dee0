import { setTimeout as sleep } from "node:timers/promises";
import type { News } from "../actors/news.ts";
import { WAIT_MAX_MS } from "../limits.ts";
import type { AgentEvent, HostEvents, HostSystem } from "./api.ts";
import type { NotifyPolicy } from "./config.ts";
import { NEWS_GATHER_MS, NEWS_RETRY_MS } from "./limits.ts";
import type { PluginNode } from "./node.ts";
import { type Origin, parseOrigin } from "./origin.ts";
import { failureOf, renderNews } from "./render.ts";

// Tells sessions what there is for them, as events of the system: each session all of its news in one event, which replaces the one
// that it has not seen yet. OpenClaw keeps such events in memory and gives them to the session's next turn. So news counts as
// told when a turn that began with it has ended; what a process did not live to see told is told by the next one.

export interface NotifierOptions {
  readonly node: PluginNode;
  readonly system: HostSystem;
  /** Absent in an OpenClaw that does not tell of turns: there news counts as told when the event is taken. */
  readonly events: HostEvents | undefined;
  readonly policy: Exclude<NotifyPolicy, "off">;
  /** Where news goes that nobody asked for. */
  readonly main: () => Origin;
  readonly note: (text: string) => void;
}

/** One event for all news of a session: the next takes its place. */
const CONTEXT_KEY = "kars-mesh:news";

interface Shown {
  readonly mark: number;
  readonly session: string;
}

export class Notifier {
  readonly #options: NotifierOptions;
  /** What sessions were given and no turn has ended with yet, by what it is about. */
  readonly #shown = new Map<string, Shown>();
  /** What the turns that run now began with, by run. */
  readonly #turns = new Map<string, readonly [subject: string, mark: number][]>();

  constructor(options: NotifierOptions) {
    this.#options = options;
  }

  /** Tells news until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { node, events, note } = this.#options;
    const unsubscribe = events?.onAgentEvent((event) => this.#onAgentEvent(event));
    try {
      while (!signal.aborted) {
        try {
          await node.opened(signal);
          await node.call("news", { known: this.#known(), wait_ms: WAIT_MAX_MS }, { signal, repeatable: true });
          await sleep(NEWS_GATHER_MS, undefined, { signal });
          const { news } = await node.call("news", {}, { signal, repeatable: true });
          await this.#tell(news);
        } catch (error) {
          if (signal.aborted) return;
          note(`News is looked for again: ${failureOf(error).message}`);
          await sleep(NEWS_RETRY_MS, undefined, { signal }).catch(() => undefined);
        }
      }
    } finally {
      unsubscribe?.();
    }
  }

  #known() {
    return [...this.#shown].map(([subject, { mark }]) => ({ subject, mark }));
  }

  async #tell(news: readonly News[]): Promise<void> {
    const { main, events } = this.#options;
    const subjects = new Set(news.map(({ subject }) => subject));
    // What was read meanwhile is no news any more.
    for (const subject of this.#shown.keys()) if (!subjects.has(subject)) this.#shown.delete(subject);
    const sessions = Map.groupBy(news, ({ origin }) => JSON.stringify(parseOrigin(origin) ?? main()));
    for (const [text, all] of sessions) {
      const origin = parseOrigin(text) ?? main();
      const fresh = all.filter(({ subject, mark }) => mark > (this.#shown.get(subject)?.mark ?? -1));
      if (fresh.length === 0) continue;
      try {
        this.#give(origin, all);
      } catch (error) {
        // The session may be of an agent that is no more.
        this.#options.note(`${origin.session} takes no news: ${failureOf(error).message}`);
        this.#give(main(), all);
      }
      if (events) for (const { subject, mark } of all) this.#shown.set(subject, { mark, session: origin.session });
      else await this.#told(all.map(({ subject, mark }) => [subject, mark]));
    }
  }

  #give({ session, agent, chat }: Origin, news: readonly News[], wakes = this.#options.policy === "wake"): void {
    const { system } = this.#options;
    const owner = { sessionKey: session, ...(agent === undefined ? {} : { agentId: agent }) };
    system.enqueueSystemEvent(renderNews(news), {
      ...owner,
      contextKey: CONTEXT_KEY,
      replace: true,
      ...(chat === undefined ? {} : { deliveryContext: chat }),
    });
    if (!wakes) return;
    const wish = { ...owner, reason: "kars-mesh", heartbeat: { target: "last" } } as const;
    if (system.requestHeartbeat) system.requestHeartbeat({ source: "other", intent: "event", ...wish });
    else system.requestHeartbeatNow?.(wish);
  }

  #onAgentEvent({ runId, stream, data, sessionKey }: AgentEvent): void {
    if (stream !== "lifecycle") return;
    if (data.phase === "start") {
      const given = [...this.#shown].filter(([, { session }]) => session === sessionKey);
      if (given.length > 0)
        this.#turns.set(
          runId,
          given.map(([subject, { mark }]) => [subject, mark]),
        );
      return;
    }
    const turn = this.#turns.get(runId);
    if (!turn || (data.phase !== "end" && data.phase !== "error")) return;
    this.#turns.delete(runId);
    const ending = data.phase === "end" ? this.#told(turn) : this.#giveAgain(turn);
    ending.catch((error: unknown) => this.#options.note(`News is told again later: ${failureOf(error).message}`));
  }

  /** A turn failed, and the event went with it: the session's next turn gets it, which this one does not ask for. */
  async #giveAgain(turn: readonly (readonly [subject: string, mark: number])[]): Promise<void> {
    const { node, main } = this.#options;
    const subjects = new Set(turn.map(([subject]) => subject));
    const { news } = await node.call("news", {}, { repeatable: true });
    const [first, ...others] = news.filter(({ subject }) => subjects.has(subject));
    if (first) this.#give(parseOrigin(first.origin) ?? main(), [first, ...others], false);
  }

  async #told(news: readonly (readonly [subject: string, mark: number])[]): Promise<void> {
    const told = news.map(([subject, mark]) => ({ subject, mark }));
    await this.#options.node.call("told", { told }, { repeatable: true });
    for (const { subject, mark } of told) if (this.#shown.get(subject)?.mark === mark) this.#shown.delete(subject);
  }
}
