import { base64 } from "../crypto/index.ts";
import { asMeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { Entry } from "../store/journal.ts";
import { type Core, conversationOf, sessionOf } from "./core.ts";
import { RENEW_AFTER_MS, RENEW_EVERY_MAX_MS, RENEW_QUIET_MS, SUPERSEDED_LATE_MS } from "./limits.ts";
import type { PeerSessions } from "./peer-sessions.ts";

// Sessions with plain peers, which keep them in memory, lose them without a word, and let two knocks that cross each other
// end both. Such a peer is knocked at anew when it may have lost the session: before a message to it after a silence, or after
// both sides knocked at once. A new session costs little and a message to a lost one is lost, so a doubt is enough. Older
// sessions stay readable.
//
// A plain peer that was knocked at cannot speak until it has read a message in the new session. So a silence that follows a
// message is no reason to knock: the peer may just be about to answer. The registry shows whether it was restarted.

/** What is remembered of a plain peer while the process runs. */
interface Standing {
  /** When the last frame was sent to it, and when it was knocked at last. */
  sentAt: number;
  knockedAt: number;
  /** How often it was knocked at anew, or looked for at the registry, since it was heard. */
  renewals: number;
  /** It was restarted since the session was opened that sends: the next message goes in another one. */
  isRestarted: boolean;
  /** Both sides knocked: neither session is to send until a further knock has settled which one there is. */
  isCrossed: boolean;
  /** Our session whose knock was crossed last. */
  crossed: string | undefined;
  disarm: (() => void) | undefined;
}

const NEVER = Number.NEGATIVE_INFINITY;

/** Whether a peer announced nothing that goes beyond the plain protocol, and speaks sealed. */
export const isPlain = (context: ConversationContext | undefined): boolean =>
  context !== undefined && context.extensions.length === 0 && !context.plain;

export class Renewal {
  readonly #core: Core;
  readonly #known: PeerSessions;
  readonly #byPeer = new Map<string, Standing>();

  constructor(core: Core, known: PeerSessions) {
    this.#core = core;
    this.#known = known;
    core.system.subscribe(({ stream, event, state: { snapshot } }) => {
      // A knock_accept and a message both show that the peer is there and holds the session.
      if (stream.startsWith("session/") && (event.type === "DECRYPTED" || event.type === "CONFIRMED"))
        this.#heard(snapshot.context.peer, event.type === "DECRYPTED" ? snapshot.context.id : undefined);
    });
  }

  #contextOf(peer: string): ConversationContext | undefined {
    return this.#core.system.decided(conversationOf(peer))?.snapshot.context;
  }

  #standing(peer: string): Standing {
    const known = this.#byPeer.get(peer);
    if (known) return known;
    const standing = {
      sentAt: NEVER,
      knockedAt: NEVER,
      renewals: 0,
      isRestarted: false,
      isCrossed: false,
      crossed: undefined,
      disarm: undefined,
    };
    this.#byPeer.set(peer, standing);
    return standing;
  }

  /** @param session in which the peer spoke */
  #heard(peer: string, session: string | undefined): void {
    const standing = this.#byPeer.get(peer);
    if (!standing) return;
    if (session !== undefined && session === standing.crossed) standing.isCrossed = false;
    standing.renewals = 0;
    standing.disarm?.();
    standing.disarm = undefined;
  }

  /** When the peer was last known to hold a session of ours, or was given a new one. */
  #lastSure(peer: string): number {
    return Math.max(this.#byPeer.get(peer)?.knockedAt ?? NEVER, this.#known.lastHeard(peer));
  }

  /** How long a silence is doubtful: longer after each knock that changed nothing. */
  #patience(peer: string): number {
    return Math.min(RENEW_EVERY_MAX_MS, RENEW_AFTER_MS * 2 ** Math.min(this.#byPeer.get(peer)?.renewals ?? 0, 16));
  }

  /** The event that goes before a message to a peer that was silent for long; none when the session is to be trusted. */
  beforeSending(peer: string): Entry[] {
    const context = this.#contextOf(peer);
    if (!isPlain(context) || !context?.session || context.outbox.length > 0) return [];
    const isSure = this.#core.ports.clock.now() - this.#lastSure(peer) < this.#patience(peer);
    if (isSure && this.#byPeer.get(peer)?.isRestarted !== true) return [];
    this.#standing(peer).renewals++;
    return [{ stream: conversationOf(peer), event: { type: "RENEW" } }];
  }

  /** A message to a peer is on the wire: a silence after it is noticed. */
  sent(peer: string): void {
    if (!isPlain(this.#contextOf(peer))) return;
    const { clock } = this.#core.ports;
    const standing = this.#standing(peer);
    standing.sentAt = clock.now();
    standing.disarm ??= clock.at(clock.now() + this.#patience(peer), () => {
      standing.disarm = undefined;
      standing.renewals++;
      this.#look(peer).catch((error: unknown) => {
        const { code, message } = asMeshError(error);
        if (code !== "closed" && code !== "store_io")
          this.#core.note(`Whether ${peer} was restarted is unknown: ${message}`);
      });
    });
  }

  /** Finds out at the registry whether a peer was restarted. What it was sent since it was heard last is uncertain then. */
  async #look(peer: string): Promise<void> {
    const { link, messages, registry, system } = this.#core;
    if (!isPlain(this.#contextOf(peer)) || !link.online) return;
    const { signedPreKey } = await registry().bundle(peer);
    if (!this.#known.wasRestarted(peer, base64.encode(signedPreKey.publicKey))) return;
    this.#standing(peer).isRestarted = true;
    await system.commit(this.#known.uncertain(peer, messages.sent())).durable;
  }

  /** Opens another session with a plain peer, which is knocked at. */
  renew(peer: string): void {
    const { link, note, system } = this.#core;
    if (!isPlain(this.#contextOf(peer)) || !link.online) return;
    system
      .commit([{ stream: conversationOf(peer), event: { type: "RENEW" } }])
      .durable.catch((error: unknown) => note(`The session with ${peer} could not be renewed: ${String(error)}`));
  }

  /**
   * A plain peer's knock was taken. When a knock of ours is under way to it, the two have crossed, and which session each kind of
   * client keeps differs. Neither sends until the peer has spoken in ours, or knocks again because it has none, or the next
   * message of ours goes with a further knock.
   */
  knocked(peer: string): void {
    const { note, system } = this.#core;
    const ours = this.#crossing(peer);
    const standing = this.#standing(peer);
    if (!isPlain(this.#contextOf(peer))) return;
    if (standing.isCrossed) {
      standing.isCrossed = false;
      return;
    }
    if (ours === undefined) return;
    standing.isCrossed = true;
    standing.crossed = ours;
    note(`${peer} knocked while it was knocked at; the next message to it goes with another knock.`);
    system
      .commit([{ stream: conversationOf(peer), event: { type: "SESSION_LOST", session: ours, code: "peer_refused" } }])
      .durable.catch((error: unknown) => note(`A crossed knock of ${peer} could not be noted: ${String(error)}`));
  }

  /** Our session whose knock went to the peer lately and was not answered. */
  #crossing(peer: string): string | undefined {
    const { clock } = this.#core.ports;
    if (clock.now() - (this.#byPeer.get(peer)?.knockedAt ?? NEVER) > SUPERSEDED_LATE_MS) return undefined;
    return this.#known.of(peer).find((id) => {
      const snapshot = this.#core.system.decided(sessionOf(id))?.snapshot;
      return snapshot?.matches({ open: "knocking" }) || snapshot?.matches({ open: "knocked" });
    });
  }

  /** Whether it is open after two crossed knocks which session the peer has. */
  isCrossed(peer: string): boolean {
    return this.#byPeer.get(peer)?.isCrossed === true;
  }

  /** Whether a message in this session settles that: the peer has taken our knock in the place of its own. */
  settles(peer: string, session: string): boolean {
    return this.#byPeer.get(peer)?.crossed === session;
  }

  /**
   * Whether a peer that accepts this knock of ours has passed over its keys: it had knocked before, and a client that accepts knocks
   * then keeps the session that it has.
   */
  wasPassedOver(peer: string, session: string): boolean {
    return this.#byPeer.get(peer)?.crossed === session;
  }

  /** A message came that no session reads: a peer that was not heard lately speaks in a session that is not here. */
  unread(peer: string): void {
    if (!isPlain(this.#contextOf(peer)) || this.isCrossed(peer)) return;
    if (this.#core.ports.clock.now() - this.#lastSure(peer) > RENEW_AFTER_MS) this.renew(peer);
  }

  /**
   * Whether a message in an older session than the one that sends speaks for the older one. The peer may have sent it before it
   * was knocked at; later it shows that our knock did not reach it.
   */
  outlived(peer: string): boolean {
    return this.#core.ports.clock.now() - (this.#byPeer.get(peer)?.knockedAt ?? NEVER) > SUPERSEDED_LATE_MS;
  }

  /** Resolves when a plain client no longer keeps frames that it could not read, which a new knock would have it try. */
  async quiet(peer: string): Promise<void> {
    const { clock } = this.#core.ports;
    const until = (this.#byPeer.get(peer)?.sentAt ?? NEVER) + RENEW_QUIET_MS;
    if (clock.now() < until) await new Promise<void>((resolve) => clock.at(until, resolve));
  }

  /** A session with a plain peer was opened: it is knocked at. */
  opened(peer: string): void {
    const standing = this.#standing(peer);
    standing.knockedAt = this.#core.ports.clock.now();
    standing.isCrossed = false;
    standing.isRestarted = false;
  }

  close(): void {
    for (const { disarm } of this.#byPeer.values()) disarm?.();
    this.#byPeer.clear();
  }
}
