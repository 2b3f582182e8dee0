import { asMeshError } from "../errors.ts";
import { RECEIPT_DELAY_MS, RECEIPT_IDS } from "../limits.ts";
import { type ConversationContext, isHeld } from "../machines/conversation/events.ts";
import { type Core, conversationOf } from "./core.ts";
import { compose } from "./drafts.ts";

// Receipts: peers that know what they are learn what became of their messages. What is owed to one is gathered for a while and
// told in one message, end-to-end encrypted like any other.

export class Receipts {
  readonly #core: Core;
  /** What takes the telling back, by peer. */
  readonly #armed = new Map<string, () => void>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** Tells a peer what is owed to it: at once when that is much, else soon. */
  soon(peer: string): void {
    const context: ConversationContext | undefined = this.#core.system.state(conversationOf(peer))?.snapshot.context;
    if ((context?.owed.delivered.length ?? 0) >= RECEIPT_IDS) {
      this.#armed.get(peer)?.();
      this.#armed.delete(peer);
      this.#tell(peer);
      return;
    }
    if (this.#armed.has(peer)) return;
    const { clock } = this.#core.ports;
    const disarm = clock.at(clock.now() + RECEIPT_DELAY_MS, () => {
      this.#armed.delete(peer);
      this.#tell(peer);
    });
    this.#armed.set(peer, disarm);
  }

  /** Tells everyone at once. Gives whether there was anything to tell. */
  flush(): boolean {
    const peers = [...this.#armed.keys()];
    this.close();
    return peers.map((peer) => this.#tell(peer)).includes(true);
  }

  /** Tells nobody any more: what is owed is asked for again by the next start. */
  close(): void {
    for (const disarm of this.#armed.values()) disarm();
    this.#armed.clear();
  }

  #tell(peer: string): boolean {
    const { system, note } = this.#core;
    const stream = conversationOf(peer);
    const snapshot = system.decided(stream)?.snapshot;
    const context: ConversationContext | undefined = snapshot?.context;
    // A receipt is not worth a session of its own; and who is held since it was gathered is told nothing.
    if (!context || !snapshot?.matches("open") || isHeld(context)) return false;
    const { delivered, read } = context.owed;
    if (delivered.length + read.length === 0) return false;
    const says = { delivered: [...delivered], read: [...read] };
    const { entries, secrets, before } = compose(this.#core, peer, { type: "mesh:receipt", ...says });
    const receipted = { stream, event: { type: "RECEIPTED", ...says } };
    const { accepted, durable } = system.commit([...entries, receipted], { atomic: true, secrets, before });
    durable.catch((error: unknown) => {
      // A disk that refuses is reported once, by the store. The receipt stays owed.
      if (asMeshError(error).code !== "store_io") note(`A receipt for ${peer} could not be queued: ${String(error)}`);
    });
    return accepted.includes(true);
  }
}
