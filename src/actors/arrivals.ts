import { base64, didOf, sign, utf8, verify } from "../crypto/index.ts";
import { ARRIVALS_MAX, UNJUDGED_PEERS_MAX } from "../limits.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import { arrivedText, type KnockAccept } from "../wire/frame.ts";
import { type Core, conversationOf, isoNow, sessionOf } from "./core.ts";
import { Keyring } from "./keyring.ts";
import { ARRIVAL_DELAY_MS, MISSING_EVERY_MS, RESEND_MAX_MS, RESEND_MIN_MS } from "./limits.ts";
import { lineOf, type OutgoingMail, resendable } from "./outgoing.ts";
import type { Sessions } from "./sessions.ts";
import { uuidFrom } from "./uuid.ts";

// End-to-end acknowledgement over a relay that may lose mail. A plain relay never stores what it routes live, forgets its
// mail when it restarts, and does not tell a sender about acks. So each side confirms what is on its disk with a signed arrival
// notice, and each message is sent again, identical and in its order, until the peer has confirmed it. A notice stands outside
// the ratchet: it may be lost or repeated, since a message that comes again is confirmed again.

/** The next arrival notice for one peer. */
interface Notice {
  readonly arrived: Set<string>;
  missing: boolean;
  disarm: (() => void) | undefined;
}

/** How the wait for one peer's confirmations stands. */
interface Waiting {
  /** How often a message was sent again without an answer. */
  attempts: number;
  /** The id of the message that was sent again alone, to see whether the peer is online. */
  probe: string | undefined;
  disarm: (() => void) | undefined;
}

export class Arrivals {
  readonly #core: Core;
  readonly #sessions: Sessions;
  readonly #outgoing: OutgoingMail;
  readonly #notices = new Map<string, Notice>();
  readonly #waiting = new Map<string, Waiting>();
  /** When this side last told each peer that messages are missing, and when each peer last said so. */
  readonly #toldMissing = new Map<string, number>();
  readonly #heardMissing = new Map<string, number>();

  constructor(core: Core, sessions: Sessions, outgoing: OutgoingMail) {
    this.#core = core;
    this.#sessions = sessions;
    this.#outgoing = outgoing;
  }

  // The receiving side

  /** Records that a peer's message is on the disk, for the next notice to that peer. */
  confirm(peer: string, id: string): void {
    const notice = this.#noticeFor(peer);
    notice.arrived.add(id);
    if (notice.arrived.size >= ARRIVALS_MAX) this.#tell(peer, notice);
  }

  /** Records that a peer's message came although an earlier one has not. */
  missing(peer: string): void {
    if (mayHappen(this.#toldMissing, peer, this.#core.ports.clock.now())) this.#noticeFor(peer).missing = true;
  }

  /** Sends all notices now. */
  flush(): void {
    for (const [peer, notice] of [...this.#notices]) this.#tell(peer, notice);
  }

  #noticeFor(peer: string): Notice {
    const known = this.#notices.get(peer);
    if (known) return known;
    const { clock } = this.#core.ports;
    const notice: Notice = { arrived: new Set(), missing: false, disarm: undefined };
    notice.disarm = clock.at(clock.now() + ARRIVAL_DELAY_MS, () => this.#tell(peer, notice));
    this.#notices.set(peer, notice);
    return notice;
  }

  #tell(peer: string, notice: Notice): void {
    notice.disarm?.();
    notice.disarm = undefined;
    const { keyring, link, ports } = this.#core;
    // A relay delivers mail before the link counts as up. The notice about that mail waits until the link is up.
    if (!link.online) return;
    const [...arrived] = notice.arrived;
    const more = arrived.splice(ARRIVALS_MAX);
    this.#notices.delete(peer);
    const { identity } = keyring;
    const id = uuidFrom(ports.random);
    const frame: KnockAccept = {
      v: 1,
      type: "knock_accept",
      from: identity.did,
      to: peer,
      id,
      knock_id: id,
      ts: isoNow(this.#core),
      arrived,
      missing: notice.missing,
      public_key: base64.encode(identity.publicKey),
    };
    const signature = base64.encode(sign(identity, utf8.encode(arrivedText(frame))));
    link.transmit({ ...frame, signature }, () => undefined);
    for (const id of more) this.confirm(peer, id);
  }

  // The sending side

  #contextOf(peer: string): ConversationContext | undefined {
    return this.#core.system.decided(conversationOf(peer))?.snapshot.context;
  }

  /** Starts to wait for a peer's confirmation, because a message to it is on the wire. */
  watch(peer: string): void {
    const known = this.#waiting.get(peer);
    if (known?.disarm) return;
    const waiting = known ?? { attempts: 0, probe: undefined, disarm: undefined };
    this.#waiting.set(peer, waiting);
    this.#arm(peer, waiting);
  }

  #arm(peer: string, waiting: Waiting): void {
    const { clock } = this.#core.ports;
    const pause = Math.min(RESEND_MAX_MS, RESEND_MIN_MS * 2 ** Math.min(waiting.attempts, 16));
    waiting.disarm = clock.at(clock.now() + pause, () => {
      waiting.disarm = undefined;
      this.#probe(peer, waiting);
    });
  }

  /** Sends one message again, which is enough to see whether the peer is online. The others follow when it answers. */
  #probe(peer: string, waiting: Waiting): void {
    const [first] = resendable(this.#contextOf(peer));
    // While the link is down nothing more can be lost, and every message is sent again when the link comes up.
    if (!first || !this.#core.link.isPlain) {
      this.#waiting.delete(peer);
      return;
    }
    waiting.attempts++;
    waiting.probe = first.id;
    this.#arm(peer, waiting);
    this.#sendAgain(peer, [first.id]);
  }

  #sendAgain(peer: string, ids: readonly string[]): void {
    const { link, note } = this.#core;
    const items = lineOf(this.#contextOf(peer)).filter(({ id }) => ids.includes(id));
    for (const session of new Set(items.flatMap(({ sealed }) => sealed?.session ?? []))) this.#knockAgain(session);
    link.disown(items.map(({ id, sealed }) => sealed?.frame ?? id));
    this.#outgoing
      .transmit(peer, ids)
      .catch((error: unknown) => note(`Messages to ${peer} could not be sent again: ${String(error)}`));
  }

  /** Repeats the knock of one of our sessions until the peer shows that it has it. A peer that confirms recognises a repeated knock. */
  #knockAgain(session: string): void {
    const { link, system } = this.#core;
    const state = system.state(sessionOf(session));
    const peer: string = state?.snapshot.context.peer ?? "";
    if (link.isPlain && state?.snapshot.matches({ open: "knocked" }) && confirms(this.#contextOf(peer)))
      this.#sessions.knock(session);
  }

  /** Takes a peer's arrival notice if the key behind the peer's DID signed it. Ignores it otherwise. */
  async onNotice(notice: KnockAccept): Promise<void> {
    const { link, ports, system } = this.#core;
    const { from: peer, arrived = [], missing = false, public_key = "", signature = "" } = notice;
    if (public_key === "" || signature === "") return;
    const key = base64.decode(public_key);
    if (didOf(key) !== peer || !verify(key, utf8.encode(arrivedText(notice)), base64.decode(signature))) return;
    const waiting = this.#waiting.get(peer);
    const ids = new Set(arrived);
    const items = lineOf(this.#contextOf(peer)).filter(({ id }) => ids.has(id));
    if (items.length > 0) {
      const proved = [...new Set(items.flatMap(({ sealed }) => sealed?.session ?? []))];
      link.disown(items.map(({ id, sealed }) => sealed?.frame ?? id));
      const there = items.map(({ id }) => id);
      const { durable } = system.commit(
        [
          ...proved.flatMap((session) => [
            { stream: sessionOf(session), event: { type: "CONFIRMED", by: "message" } },
            { stream: conversationOf(peer), event: { type: "CONFIRMED", session } },
          ]),
          { stream: conversationOf(peer), event: { type: "ARRIVED", ids: there } },
        ],
        { forgotten: Keyring.sentNames(peer, there) },
      );
      await durable;
    }
    const left = resendable(this.#contextOf(peer)).map(({ id }) => id);
    if (waiting && items.length > 0) waiting.attempts = 0;
    if (waiting && left.length === 0) {
      waiting.disarm?.();
      this.#waiting.delete(peer);
    }
    if (left.length === 0) return;
    const isThere = waiting?.probe !== undefined && ids.has(waiting.probe);
    if (isThere) waiting.probe = undefined;
    const isAsked = missing && mayHappen(this.#heardMissing, peer, ports.clock.now());
    if (isThere || isAsked) this.#sendAgain(peer, left);
  }

  /** Called when the link comes up, before messages go again: resets the waiting, and repeats knocks, which may have been lost. */
  onUp(): void {
    const { link, system } = this.#core;
    this.#stopWaiting();
    this.flush();
    if (!link.isPlain) return;
    for (const [, { snapshot }] of system.streams("session")) this.#knockAgain(snapshot.context.id);
  }

  /** Stops sending messages to a peer again, because its conversation was forgotten. */
  forget(peer: string): void {
    this.#waiting.get(peer)?.disarm?.();
    this.#waiting.delete(peer);
  }

  /** Sends all notices now, and sends no message again. */
  close(): void {
    this.flush();
    this.#stopWaiting();
  }

  #stopWaiting(): void {
    for (const { disarm } of this.#waiting.values()) disarm?.();
    this.#waiting.clear();
  }
}

/** Whether a peer confirms what arrives. */
export const confirms = (context: ConversationContext | undefined): boolean =>
  context?.extensions.includes("arrivals") === true;

/** Whether MISSING_EVERY_MS has passed for a peer since the last time. If so, this is the new last time. */
function mayHappen(last: Map<string, number>, peer: string, now: number): boolean {
  const since = now - (last.get(peer) ?? Number.NEGATIVE_INFINITY);
  // A clock that was set back must not silence a peer until it has caught up.
  if (since >= 0 && since < MISSING_EVERY_MS) return false;
  last.delete(peer);
  last.set(peer, now);
  const [oldest] = last.size > UNJUDGED_PEERS_MAX ? last.keys() : [];
  if (oldest !== undefined) last.delete(oldest);
  return true;
}
