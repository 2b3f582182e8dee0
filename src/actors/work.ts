import { asMeshError } from "../errors.ts";
import { type ConversationContext, isHeld } from "../machines/conversation/events.ts";
import { type Payload, parsePayload } from "../wire/payload.ts";
import { type Core, conversationOf } from "./core.ts";
import { type Draft, entriesOnly, join } from "./outgoing.ts";
import { Transfers } from "./transfers.ts";

// Work that was received: it stays in its conversation until whom it concerns has taken it over.

/** A piece of work that a peer sent. */
export interface Work {
  readonly peer: string;
  readonly id: string;
  readonly payload: Payload;
  /** It came in chunks: the id is their transfer's. */
  readonly inChunks?: true;
}

/**
 * Takes work over: gives the events that follow from it, which are committed together with its HANDLED. It may be called
 * again for the same work after a crash.
 */
export type WorkHandler = (work: Work) => Promise<Verdict>;

/** What follows; nothing; or `later`: it stays, with all behind it, until it is handled `again`. */
export type Verdict = Follow | "later" | undefined;

/** What follows from a piece of work: events, and what is begun once they are durable. */
export interface Follow extends Draft {
  readonly begin?: () => void;
}

export class Handling {
  readonly #core: Core;
  readonly #handler: WorkHandler;
  readonly #transfers = new Map<string, Transfers>();

  constructor(core: Core, handler: WorkHandler) {
    this.#core = core;
    this.#handler = handler;
  }

  /** The words of a peer were destroyed: what was begun with parts of them is over. */
  forget(peer: string): void {
    this.#transfers.delete(peer);
  }

  /** Handles what a peer said that was put off. */
  again(peer: string): void {
    this.handle(peer, [peer]).catch((error: unknown) => {
      const { code, message } = asMeshError(error);
      if (code !== "closed" && code !== "store_io") this.#core.note(`Work of ${peer} could not be handled: ${message}`);
    });
  }

  /** Hands work over, in order. Parts of a larger payload wait here until they are all there. */
  async handle(peer: string, ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#core.lanes.run(`work ${peer}`, () => this.#handleAll(peer));
  }

  async #handleAll(peer: string): Promise<void> {
    const context = (): ConversationContext | undefined =>
      this.#core.system.state(conversationOf(peer))?.snapshot.context;
    const bodyOf = (id: string) => context()?.handling.find((item) => item.id === id)?.body;
    const transfers = this.#transfers.get(peer) ?? new Transfers(this.#core.bodies, peer);
    this.#transfers.set(peer, transfers);
    for (const item of context()?.handling ?? []) {
      const now: ConversationContext | undefined = this.#core.system.decided(conversationOf(peer))?.snapshot.context;
      if (!now || isHeld(now)) return;
      if (item.kind === "part") {
        const arrived = await transfers.take(item.id, item.body, bodyOf);
        const whole = arrived && ({ peer, id: arrived.id, payload: arrived.payload, inChunks: true } as const);
        if (whole && !(await this.#handOver(whole, arrived.ids))) return;
        continue;
      }
      const text = await this.#core.bodies.open(peer, item.body);
      if (!(await this.#handOver({ peer, id: item.id, payload: parsePayload(text) }, [item.id]))) return;
    }
  }

  /** @returns false when it is put off */
  async #handOver(
    work: Omit<Work, "payload"> & { readonly payload: Payload | undefined },
    ids: readonly string[],
  ): Promise<boolean> {
    const { system, note } = this.#core;
    const { peer, payload } = work;
    const done = entriesOnly({ stream: conversationOf(peer), event: { type: "HANDLED", ids } });
    let follows: Follow | undefined;
    if (payload) {
      try {
        const verdict = await this.#handler({ ...work, payload });
        if (verdict === "later") return false;
        follows = verdict;
      } catch (error) {
        const failure = asMeshError(error);
        if (failure.code === "closed" || failure.code === "store_io") throw failure;
        note(`${payload.type} from ${peer} could not be handled: ${failure.message}`);
      }
    } else note(`A message from ${peer} was in no form that is understood.`);
    const draft = follows ? join(follows, done) : done;
    await system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
    follows?.begin?.();
    return true;
  }
}
