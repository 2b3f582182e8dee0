import type { Kdf } from "../crypto/index.ts";
import { SESSIONS_PER_PEER_MAX } from "../limits.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { SessionContext } from "../machines/session/events.ts";
import type { Entry } from "../store/journal.ts";
import { type Core, conversationOf, sessionOf } from "./core.ts";
import type { MessageEntry } from "./projections/messages.ts";

// Which sessions there are with a peer, and what they show of it.

export class PeerSessions {
  readonly #core: Pick<Core, "system">;
  /** Sessions by peer, the oldest first. */
  readonly #byPeer = new Map<string, string[]>();
  /** When a peer's last knock was taken by this process. */
  readonly #knocked = new Map<string, number>();

  constructor(core: Pick<Core, "system">) {
    this.#core = core;
  }

  #context(session: string): SessionContext | undefined {
    return this.#core.system.state(sessionOf(session))?.snapshot.context;
  }

  /** All sessions that there ever were with a peer, the oldest first. */
  all(peer: string): readonly string[] {
    return this.#byPeer.get(peer) ?? [];
  }

  /** Sessions with a peer that can still be read with, the newest first. */
  of(peer: string): string[] {
    return this.all(peer)
      .filter((id) => this.#context(id)?.closed === null)
      .reverse();
  }

  /** Builds the index by peer from what was recovered, and keeps it from then on. */
  index(): void {
    for (const [, state] of this.#core.system.streams("session")) this.#note(state.snapshot.context);
    this.#core.system.subscribe(({ stream, event, state, at }) => {
      if (!stream.startsWith("session/") || (event.type !== "INITIATED" && event.type !== "ACCEPTED")) return;
      this.#note(state.snapshot.context);
      if (event.type === "ACCEPTED") this.#knocked.set(state.snapshot.context.peer, at);
    });
  }

  #note({ peer, id }: SessionContext): void {
    const ids = this.#byPeer.get(peer);
    if (ids) ids.push(id);
    else this.#byPeer.set(peer, [id]);
  }

  /** Those that make room for one more. A knock proves nothing: those in which the peer has spoken go last. */
  surplus(peer: string): string[] {
    const isHeard = (id: string) => Number(this.#context(id)?.lastHeard !== null);
    const open = this.of(peer).reverse();
    return open.sort((a, b) => isHeard(a) - isHeard(b)).slice(0, Math.max(0, open.length + 1 - SESSIONS_PER_PEER_MAX));
  }

  /** When the last knock of a peer was taken, in epoch milliseconds; long ago when not since this process began. */
  lastKnock(peer: string): number {
    return this.#knocked.get(peer) ?? Number.NEGATIVE_INFINITY;
  }

  /** When a peer's message was last decrypted, in epoch milliseconds; a time long ago if none was. */
  lastHeard(peer: string): number {
    let last = Number.NEGATIVE_INFINITY;
    for (const id of this.all(peer)) last = Math.max(last, this.#context(id)?.lastHeard ?? 0);
    return last;
  }

  /**
   * Whether a plain peer was restarted since the last session with it was opened. A plain peer makes a new signed prekey when it
   * starts, and its sessions are lost then.
   * @param spkKey the signed prekey that the peer publishes now, in base64
   */
  wasRestarted(peer: string, spkKey: string): boolean {
    const last = this.all(peer)
      .map((id) => this.#core.system.decided(sessionOf(id))?.snapshot.context)
      .findLast((context: SessionContext | undefined) => context?.spkKey);
    return last !== undefined && last.spkKey !== spkKey;
  }

  /** Whether a plain peer published the same signed prekey when these two sessions were opened. */
  areOfOneProcess(one: string, other: string): boolean {
    const [first, second] = [one, other].map((id) => this.#core.system.decided(sessionOf(id))?.snapshot.context.spkKey);
    return first === second;
  }

  /**
   * The event for a plain peer that lost its sessions: nobody knows whether it read the messages sent since it was last heard.
   * @param sent our sent messages, to any peer
   * @param held a session that the peer did not lose
   */
  uncertain(peer: string, sent: Iterable<MessageEntry>, held: string | null = null): Entry[] {
    const stream = conversationOf(peer);
    const context: ConversationContext | undefined = this.#core.system.decided(stream)?.snapshot.context;
    const heard = this.lastHeard(peer);
    const ids = new Set(context?.unconfirmed.map(({ id }) => id));
    for (const { id, peer: to, state, at } of sent) if (to === peer && state === "sent" && at >= heard) ids.add(id);
    for (const { id, sealed } of context?.unconfirmed ?? [])
      if (held !== null && sealed?.session === held) ids.delete(id);
    return ids.size === 0 ? [] : [{ stream, event: { type: "UNCERTAIN", ids: [...ids] } }];
  }

  /** The KDF that a peer spoke last, as its messages proved it. */
  spokenBy(peer: string): Kdf | undefined {
    const contexts = this.all(peer).map((id) => this.#context(id));
    return contexts.findLast((context) => context && context.lastHeard !== null)?.kdf ?? undefined;
  }

  /** Whether a knock of the peer with this ephemeral key was taken before: an initiator makes a new one for each. */
  hasKnocked(peer: string, ek: string): boolean {
    return this.all(peer).some((id) => this.#context(id)?.role === "responder" && this.#context(id)?.ek === ek);
  }

  /**
   * Whether a session of the peer began with this ratchet key before. An initiator makes a new one for each: who uses one
   * again gives again an old knock that took no one-time prekey, under other ids, and the messages after it.
   */
  isReplay(peer: string, began: string): boolean {
    const { system } = this.#core;
    return this.all(peer).some((id) => system.decided(sessionOf(id))?.snapshot.context.began === began);
  }
}
