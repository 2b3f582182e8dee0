import { base64 } from "../crypto/index.ts";
import { asMeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { SessionContext } from "../machines/session/events.ts";
import type { Entry } from "../store/journal.ts";
import type { KnockReject } from "../wire/frame.ts";
import { type Core, conversationOf, isoNow, sessionOf } from "./core.ts";
import { RENEW_AFTER_MS, RENEW_EVERY_MAX_MS, RENEW_QUIET_MS, SUPERSEDED_LATE_MS } from "./limits.ts";
import type { PeerSessions } from "./peer-sessions.ts";
import { uuidFrom } from "./uuid.ts";

// Sessions with plain peers. A plain peer keeps its sessions in memory, loses them without saying so, and loses both sessions when
// two knocks cross. This laptop therefore knocks again when the peer may have lost the session: before a message that follows a
// silence, and after both sides knocked at once. A new session costs little, and a message in a lost session is lost, so a doubt
// is enough. Older sessions stay readable.
//
// A plain peer that received a knock cannot speak until it has read a message in the new session. So a silence after a message is
// no reason to knock: the peer may be about to answer. The registry shows whether the peer was restarted.

/** What this process remembers about a plain peer. */
interface Standing {
  /** When the last frame and the last knock went to the peer. */
  sentAt: number;
  knockedAt: number;
  /** How often this laptop knocked again since the peer was last heard. */
  renewals: number;
  /** How often this laptop asked the registry about the peer since the peer was last heard. */
  looks: number;
  /** The peer has lost the session that sends, or speaks in one that is not here. The next message goes in another session. */
  isLost: boolean;
  /** When this laptop last told the peer to let go of its session. */
  resetAt: number;
  /** Both sides knocked. Neither session sends until it is settled which one the peer holds. */
  isCrossed: boolean;
  /** Our session whose knock last crossed the peer's. */
  crossed: string | undefined;
  /** That session is given up as soon as the relay has every message that is sealed in it. */
  isEnding: boolean;
  /** Our newest session, if its knock goes behind a reject: the peer lets go of every other session and takes this one. */
  replacing: string | undefined;
  /** The session whose knock the peer sent before it had that reject. */
  replaced: string | undefined;
  disarm: (() => void) | undefined;
}

const NEVER = Number.NEGATIVE_INFINITY;

/** The first pause, doubled so many times. */
const doubled = (times: number): number => Math.min(RENEW_EVERY_MAX_MS, RENEW_AFTER_MS * 2 ** Math.min(times, 16));

/** Whether a peer announced no extensions, and speaks encrypted. */
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
      // A knock_accept and a message both show that the peer is online and holds the session.
      if (stream.startsWith("session/") && (event.type === "DECRYPTED" || event.type === "CONFIRMED"))
        this.#heard(snapshot.context.peer, event.type === "DECRYPTED" ? snapshot.context.id : undefined);
      if (stream.startsWith("conversation/") && event.type === "TRANSMITTED") this.#endCrossed(snapshot.context.peer);
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
      looks: 0,
      isLost: false,
      resetAt: NEVER,
      isCrossed: false,
      crossed: undefined,
      isEnding: false,
      replacing: undefined,
      replaced: undefined,
      disarm: undefined,
    };
    this.#byPeer.set(peer, standing);
    return standing;
  }

  /** @param session the session in which the peer spoke */
  #heard(peer: string, session: string | undefined): void {
    const standing = this.#byPeer.get(peer);
    if (!standing) return;
    if (session !== undefined && session === standing.crossed) {
      standing.isCrossed = false;
      standing.isEnding = false;
    }
    standing.renewals = 0;
    standing.looks = 0;
    standing.isLost = false;
    standing.disarm?.();
    standing.disarm = undefined;
  }

  /** When the peer last showed that it holds a session, or last got a knock. */
  #lastSure(peer: string): number {
    return Math.max(this.#byPeer.get(peer)?.knockedAt ?? NEVER, this.#known.lastHeard(peer));
  }

  /** Whether the peer knocked and has not spoken in that session yet. */
  #isAwaited(peer: string): boolean {
    return this.#known.of(peer).some((id) => {
      const session: SessionContext | undefined = this.#core.system.decided(sessionOf(id))?.snapshot.context;
      return session?.role === "responder" && session.lastHeard === null;
    });
  }

  /**
   * The silence after which a session is in doubt. It doubles with each knock that brought no answer. A look at the registry does not
   * count: it shows that the peer still runs, but not that both sides hold the session. They do not after this home was restored.
   */
  #patience({ renewals }: Standing): number {
    return doubled(renewals);
  }

  /** The silence after which the registry is asked about a peer. It doubles with each knock and each look that brought no answer. */
  #lookAfter({ renewals, looks }: Standing): number {
    return doubled(renewals + looks);
  }

  /** The event that precedes a message to a peer whose session is in doubt; none when the session is trusted. */
  beforeSending(peer: string): Entry[] {
    const context = this.#contextOf(peer);
    return context && context.outbox.length === 0 ? this.renewing(peer) : [];
  }

  /** Whether the session with a plain peer is in doubt. */
  isInDoubt(peer: string): boolean {
    const context = this.#contextOf(peer);
    if (!isPlain(context) || !context?.session) return false;
    const standing = this.#standing(peer);
    return standing.isLost || this.#core.ports.clock.now() - this.#lastSure(peer) >= this.#patience(standing);
  }

  /** The event that opens another session with a plain peer whose session is in doubt; none when the session is trusted. */
  renewing(peer: string): Entry[] {
    if (!this.isInDoubt(peer)) return [];
    this.#standing(peer).renewals++;
    return [{ stream: conversationOf(peer), event: { type: "RENEW" } }];
  }

  /** Called when a message to a peer is on the wire. If a silence follows, the registry is asked about the peer. */
  sent(peer: string): void {
    if (!isPlain(this.#contextOf(peer))) return;
    const { clock } = this.#core.ports;
    const standing = this.#standing(peer);
    standing.sentAt = clock.now();
    standing.disarm ??= clock.at(clock.now() + this.#lookAfter(standing), () => {
      standing.disarm = undefined;
      standing.looks++;
      this.#look(peer).catch((error: unknown) => {
        const { code, message } = asMeshError(error);
        if (code !== "closed" && code !== "store_io")
          this.#core.note(`Whether ${peer} was restarted is unknown: ${message}`);
      });
    });
  }

  /** Finds out at the registry whether a peer was restarted. If so, the messages sent since it was last heard become uncertain. */
  async #look(peer: string): Promise<void> {
    const { link, messages, registry, system } = this.#core;
    if (!isPlain(this.#contextOf(peer)) || !link.online) return;
    const { signedPreKey } = await registry().bundle(peer);
    if (!this.#known.wasRestarted(peer, base64.encode(signedPreKey.publicKey))) return;
    this.#standing(peer).isLost = true;
    await system.commit(this.#known.uncertain(peer, messages.sent())).durable;
  }

  /** Opens another session with a plain peer by a new knock. */
  renew(peer: string): void {
    const { link, note, system } = this.#core;
    if (!isPlain(this.#contextOf(peer)) || !link.online) return;
    system
      .commit([{ stream: conversationOf(peer), event: { type: "RENEW" } }])
      .durable.catch((error: unknown) => note(`The session with ${peer} could not be renewed: ${String(error)}`));
  }

  /**
   * Called when a plain peer's knock was taken. If our own knock is under way to the peer, the two have crossed, and it depends on the
   * kind of client which session it keeps. Neither session sends until the peer speaks in ours, or knocks again because it has none,
   * or our next message goes with a further knock. If a reject went before our knock, every kind keeps ours: the TypeScript client
   * lets go of the session that it opened, and the Python client takes every knock.
   * @param knock the id of the peer's knock
   */
  knocked(peer: string, knock: string): void {
    const ours = this.#crossing(peer);
    const standing = this.#standing(peer);
    if (!isPlain(this.#contextOf(peer))) return;
    if (standing.isCrossed) {
      standing.isCrossed = false;
      return;
    }
    if (ours === undefined) return;
    if (ours === standing.replacing && standing.replaced === undefined && this.#known.areOfOneProcess(ours, knock)) {
      standing.replaced = knock;
      return;
    }
    standing.isCrossed = true;
    standing.crossed = ours;
    standing.isEnding = true;
    this.#core.note(
      `${peer} knocked while a knock was on its way to it; the next message to it goes with another knock.`,
    );
    this.#endCrossed(peer);
  }

  /**
   * Gives up the session whose knock crossed the peer's, unless a message sealed in it is still on its way to the relay. The peer may
   * read that message, so it must not be sealed in another session as well. If the peer passed over our knock, it says so.
   */
  #endCrossed(peer: string): void {
    const standing = this.#byPeer.get(peer);
    if (!standing?.isEnding) return;
    const session = standing.crossed;
    if (this.#contextOf(peer)?.outbox.some(({ sealed }) => sealed?.session === session)) return;
    standing.isEnding = false;
    const { note, system } = this.#core;
    system
      .commit([{ stream: conversationOf(peer), event: { type: "SESSION_LOST", session, code: "peer_refused" } }])
      .durable.catch((error: unknown) => note(`A crossed knock of ${peer} could not be noted: ${String(error)}`));
  }

  /** Our session whose knock went to the peer recently and is not answered yet. */
  #crossing(peer: string): string | undefined {
    const { clock } = this.#core.ports;
    if (clock.now() - (this.#byPeer.get(peer)?.knockedAt ?? NEVER) > SUPERSEDED_LATE_MS) return undefined;
    return this.#known.of(peer).find((id) => {
      const snapshot = this.#core.system.decided(sessionOf(id))?.snapshot;
      return snapshot?.matches({ open: "knocking" }) || snapshot?.matches({ open: "knocked" });
    });
  }

  /** Whether the peer opened this session and let go of it when it got our knock, which it had crossed. */
  wasReplaced(peer: string, session: string): boolean {
    return this.#byPeer.get(peer)?.replaced === session;
  }

  /** Whether two knocks have crossed, and it is not settled yet which session the peer holds. */
  isCrossed(peer: string): boolean {
    return this.#byPeer.get(peer)?.isCrossed === true;
  }

  /** Whether a message in this session settles it, because it shows that the peer took our knock in place of its own. */
  settles(peer: string, session: string): boolean {
    return this.#byPeer.get(peer)?.crossed === session;
  }

  /**
   * Whether a peer that accepts this knock has ignored its keys. A client that knocked before accepts our knock, but keeps the
   * session that it has.
   */
  wasPassedOver(peer: string, session: string): boolean {
    return this.#byPeer.get(peer)?.crossed === session;
  }

  /**
   * Called when no session can read a message. A peer that was not heard recently then speaks in a session that this laptop lacks. This
   * laptop rejects that session, and knocks only when it has a message that the peer can read.
   */
  unread(peer: string): void {
    if (!isPlain(this.#contextOf(peer)) || this.isCrossed(peer)) return;
    const now = this.#core.ports.clock.now();
    if (now - this.#lastSure(peer) <= RENEW_AFTER_MS || this.#isAwaited(peer)) return;
    const standing = this.#standing(peer);
    standing.isLost = true;
    const before = this.#known.all(peer).at(-1);
    if (before === undefined || now - standing.resetAt <= RENEW_AFTER_MS) return;
    standing.resetAt = now;
    this.#core.note(
      `${peer} speaks in a session that is not here; what it says cannot be read. A message to it opens another one.`,
    );
    this.reset(peer, before);
  }

  /**
   * Rejects a session at a plain client, because a client that has a session ignores the keys of a knock. The reject ends its session. A
   * client without a session, and the Python client, ignore the reject.
   * @param before a session with the peer
   */
  reset(peer: string, before: string): void {
    const { keyring, link, ports } = this.#core;
    const frame: KnockReject = {
      v: 1,
      type: "knock_reject",
      from: keyring.identity.did,
      to: peer,
      id: uuidFrom(ports.random),
      knock_id: before,
      reason: "session_replaced",
      ts: isoNow(this.#core),
    };
    link.transmit(frame, () => undefined);
  }

  /**
   * Whether a message in a session older than the sending one shows that the peer still uses the older session. Soon after our
   * knock it does not, because the peer may have sent the message before the knock arrived. Later it shows that the knock was lost.
   */
  outlived(peer: string): boolean {
    return this.#core.ports.clock.now() - (this.#byPeer.get(peer)?.knockedAt ?? NEVER) > SUPERSEDED_LATE_MS;
  }

  /** Resolves when a plain client has dropped the frames that it could not read. A new knock before that would make it try them again. */
  async quiet(peer: string): Promise<void> {
    const { clock } = this.#core.ports;
    const until = (this.#byPeer.get(peer)?.sentAt ?? NEVER) + RENEW_QUIET_MS;
    if (clock.now() < until) await new Promise<void>((resolve) => clock.at(until, resolve));
  }

  /**
   * Called when a session with a plain peer was opened, and the knock goes out.
   * @param replacing the session, if its knock goes behind a reject
   */
  opened(peer: string, replacing?: string): void {
    const standing = this.#standing(peer);
    standing.replacing = replacing;
    standing.replaced = undefined;
    standing.knockedAt = this.#core.ports.clock.now();
    standing.isCrossed = false;
    standing.isEnding = false;
    standing.isLost = false;
  }

  close(): void {
    for (const { disarm } of this.#byPeer.values()) disarm?.();
    this.#byPeer.clear();
  }
}
