import { base64, sign, utf8, verify } from "../crypto/index.ts";
import { UNREADABLE_DELAY_MS, UNREADABLE_EVERY_MS, UNREADABLE_FRAMES_MAX } from "../limits.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { Entry, Journal } from "../store/journal.ts";
import { type KnockReject, unreadableText } from "../wire/frame.ts";
import { type Core, conversationOf, isoNow } from "./core.ts";
import { lineOf, resendable } from "./outgoing.ts";
import { identityOf } from "./peer-keys.ts";
import { closing } from "./session-end.ts";
import { wordedAt } from "./words.ts";

// Frames that nobody can read: of a home that was restored from a copy, or whose sessions were closed by a repair. Who cannot
// read them says so, signed, and whoever sent them seals them anew in another session. A frame proves nothing of who sent it,
// so saying so moves nothing here and is bounded; the signature is what moves the other side.

interface Reading {
  readonly frames: Set<string>;
  /** When the peer was told last. */
  toldAt: number;
  disarm: (() => void) | undefined;
}

export class Unreadable {
  readonly #core: Core;
  readonly #journal: Journal;
  readonly #byPeer = new Map<string, Reading>();
  /** When a session was given up last at a peer's word. */
  readonly #healedAt = new Map<string, number>();

  constructor(core: Core, journal: Journal) {
    this.#core = core;
    this.#journal = journal;
  }

  #contextOf(peer: string): ConversationContext | undefined {
    return this.#core.system.decided(conversationOf(peer))?.snapshot.context;
  }

  /** A frame of a peer came that no session reads. Peers that know what to do about it are told, soon and now and then. */
  came(peer: string, frame: string): void {
    if (!this.#contextOf(peer)?.extensions.includes("resends")) return;
    const reading = this.#byPeer.get(peer) ?? {
      frames: new Set(),
      toldAt: Number.NEGATIVE_INFINITY,
      disarm: undefined,
    };
    this.#byPeer.set(peer, reading);
    if (reading.frames.size < UNREADABLE_FRAMES_MAX) reading.frames.add(frame);
    const { clock } = this.#core.ports;
    const due = Math.max(clock.now() + UNREADABLE_DELAY_MS, reading.toldAt + UNREADABLE_EVERY_MS);
    reading.disarm ??= clock.at(due, () => this.#tell(peer, reading));
  }

  close(): void {
    for (const { disarm } of this.#byPeer.values()) disarm?.();
    this.#byPeer.clear();
  }

  #tell(peer: string, reading: Reading): void {
    const { keyring, link, ports } = this.#core;
    reading.disarm = undefined;
    reading.toldAt = ports.clock.now();
    const frames = [...reading.frames];
    reading.frames.clear();
    const id = `${frames[0]}.u`;
    const frame: KnockReject = {
      v: 1,
      type: "knock_reject",
      from: keyring.identity.did,
      to: peer,
      id,
      knock_id: id,
      reason: "unreadable",
      frames,
      ts: isoNow(this.#core),
    };
    const signature = base64.encode(sign(keyring.identity, utf8.encode(unreadableText(frame))));
    link.transmit({ ...frame, signature }, () => undefined);
  }

  /**
   * A peer could not read frames of ours. Those that are ours, and of which it has not said that they arrived, go again in a
   * session of their own.
   * @throws MeshError `registry_unreachable` when its key cannot be had now
   */
  async onReport(report: KnockReject): Promise<void> {
    const { keyring, ports, registry, system } = this.#core;
    const { from: peer, frames = [], signature = "" } = report;
    const now = ports.clock.now();
    if (now - (this.#healedAt.get(peer) ?? Number.NEGATIVE_INFINITY) < UNREADABLE_EVERY_MS) return;
    if (this.#lost(peer, frames).length + this.#sealedIn(peer, frames).length === 0) return;
    const { key } = await identityOf(registry(), peer);
    if (!verify(key, utf8.encode(unreadableText(report)), base64.decode(signature))) return;
    this.#healedAt.set(peer, now);
    const returned: Entry[] = [];
    for (const id of this.#lost(peer, frames)) {
      const entry = this.#core.messages.outgoing(peer, id);
      const found = entry && !entry.forgotten ? await wordedAt(this.#core, this.#journal, entry) : undefined;
      if (found) returned.push({ stream: conversationOf(peer), event: { type: "RETURNED", ...found } });
    }
    const sessions = new Set(this.#sealedIn(peer, frames));
    if (returned.length + sessions.size === 0) return;
    const current = this.#contextOf(peer)?.session ?? null;
    if (current !== null) sessions.add(current);
    const closed = [...sessions].map((session) =>
      closing(this.#core, session, peer, { reason: "the peer could not read what it sealed", code: "peer_refused" }),
    );
    // Each goes before all that is queued: the oldest last, so that it is the first.
    await system.commit([...returned.reverse(), ...closed.flatMap(({ entries }) => entries)], {
      secrets: Object.assign({}, ...closed.map(({ secrets }) => secrets)),
    }).durable;
    for (const session of sessions) keyring.forgot(session);
  }

  /** The sessions of those frames that are sent until the peer confirms them. When such a session ends, its messages are sent again. */
  #sealedIn(peer: string, frames: readonly string[]): string[] {
    return resendable(this.#contextOf(peer)).flatMap(({ id, sealed }) =>
      sealed && frames.includes(sealed.frame ?? id) ? [sealed.session] : [],
    );
  }

  /** Ids of messages whose last frame is among these, and that are not known to have arrived; the oldest first. */
  #lost(peer: string, frames: readonly string[]): string[] {
    const reframed = this.#contextOf(peer)?.reframed ?? [];
    const ids = frames.flatMap((frame) => {
      const found = reframed.find((each) => each.frame === frame);
      if (found) return [found.id];
      return reframed.some(({ id }) => id === frame) ? [] : [frame];
    });
    const isKept = new Set(lineOf(this.#contextOf(peer)).map(({ id }) => id));
    return ids.filter((id) => !isKept.has(id) && this.#core.messages.outgoing(peer, id)?.state === "sent");
  }
}
