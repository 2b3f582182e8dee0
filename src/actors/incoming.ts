import { applySkipped, base64, CryptoError, type Decrypted, decrypt, type Kdf, utf8 } from "../crypto/index.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { EARLY_FRAMES_MAX, INBOUND_FRAMES_MAX, RETRY_MIN_MS } from "../limits.ts";
import type { ConversationContext, MessageKind } from "../machines/conversation/events.ts";
import type { Knock, Message, RoutedFrame } from "../wire/frame.ts";
import { isChat, type Payload, parsePayload } from "../wire/payload.ts";
import { type Core, conversationOf, sessionOf } from "./core.ts";
import { Keyring, type Ratchet } from "./keyring.ts";
import { closing } from "./session-end.ts";
import type { Sessions } from "./sessions.ts";

// The way in: frame -> trial decryption -> RECEIVED with the moved ratchet -> ack -> the inbox, or the handler of the work.

export interface PeerCounters {
  /** Frames that came twice. */
  duplicates: number;
  /** Frames that no session could read. */
  unreadable: number;
}

type Verdict = "taken" | "later";

interface Opened {
  readonly session: string;
  readonly ratchet: Ratchet;
  readonly result: Decrypted;
  /** When this message settled it. */
  readonly kdf?: Kdf | undefined;
}

const keyOf = ({ type, id }: RoutedFrame) => `${type} ${id}`;

const kindOf = (payload: Payload | undefined): MessageKind =>
  payload === undefined
    ? "work"
    : isChat(payload)
      ? "chat"
      : payload.type.startsWith("mesh:transfer_")
        ? "part"
        : "work";

export class IncomingMail {
  readonly #core: Core;
  readonly #sessions: Sessions;
  readonly counters = new Map<string, PeerCounters>();
  /** Frames that came before a session that could read them, by peer. */
  readonly #early = new Map<string, Message[]>();
  /** Frames that came and are not taken over yet, by peer, in the order of their coming: a plain relay has them no more. */
  readonly #untaken = new Map<string, Map<string, RoutedFrame>>();
  /** Peers of whom a message found no room, and whether any was dealt with since: those behind it must not overtake. */
  readonly #left = new Map<string, { progress: boolean }>();
  #paused = false;
  /** Counts the pauses: what waited in a lane before one is begun anew after it, in its order. */
  #round = 0;
  /** Knocks that came and could not be taken yet, by peer: what no session reads may be theirs. */
  readonly #untakenKnocks = new Map<string, Set<string>>();
  /** Peers whose knock is left at the relay: what follows it comes again behind it, and is not taken before. */
  readonly #behindKnock = new Set<string>();
  /** Messages that are decided and not durable yet. */
  readonly #arriving = new Map<string, Promise<void>>();

  constructor(core: Core, sessions: Sessions) {
    this.#core = core;
    this.#sessions = sessions;
  }

  /** Takes a frame from the relay. Frames of one peer are dealt with in their order. */
  onFrame(frame: RoutedFrame): void {
    const untaken = this.#untaken.get(frame.from) ?? new Map<string, RoutedFrame>();
    // A frame that is not taken is not acked either: the relay gives it again, with all behind it, on the next connection.
    if (untaken.size >= INBOUND_FRAMES_MAX) {
      if (!this.#left.has(frame.from)) this.#left.set(frame.from, { progress: false });
      return;
    }
    if (frame.type === "message" && this.#left.has(frame.from)) return;
    this.#untaken.set(frame.from, untaken.set(keyOf(frame), frame));
    this.#begin(frame);
  }

  /** Takes nothing until `proceed`: what can be made durable later must not overtake what could not be. */
  pause(): void {
    this.#paused = true;
    this.#round++;
  }

  /** Takes what came meanwhile, and what was not taken before. */
  proceed(): void {
    this.#paused = false;
    this.#round++;
    for (const frames of this.#untaken.values()) for (const frame of frames.values()) this.#begin(frame);
  }

  #begin(frame: RoutedFrame): void {
    const round = this.#round;
    const taking = this.#core.lanes.run(`in ${frame.from}`, async () => {
      if (round === this.#round && !this.#paused) await this.#take(frame);
    });
    this.#tell(
      frame,
      taking.finally(() => this.#fetchLeft(frame.from)),
    );
  }

  /** When all that had found room is dealt with, what was left at the relay is fetched, on a new connection. */
  #fetchLeft(peer: string): void {
    const { lanes, link } = this.#core;
    const left = this.#left.get(peer);
    const waiting = (this.#untaken.get(peer)?.size ?? 0) - (this.#early.get(peer)?.length ?? 0);
    if (!left || waiting > 0 || lanes.length(`in ${peer}`) > 0) return;
    this.#left.delete(peer);
    // Without a session nothing is, and asking again would change nothing.
    if (!left.progress || this.#paused) return;
    link.pause();
    link.proceed();
  }

  #drop(frame: RoutedFrame): void {
    const untaken = this.#untaken.get(frame.from);
    untaken?.delete(keyOf(frame));
    if (untaken?.size === 0) this.#untaken.delete(frame.from);
  }

  /** The frame is dealt with, durably. */
  #done(frame: RoutedFrame): void {
    this.#drop(frame);
    this.#core.link.ack(frame);
    const left = this.#left.get(frame.from);
    if (left) left.progress = true;
    this.#fetchLeft(frame.from);
  }

  /** A failure is told, unless it is the end of the node or a disk that refuses: then the frame is taken again. */
  #tell(frame: RoutedFrame, taking: Promise<void>): void {
    taking.catch((error: unknown) => {
      const { code, message } = asMeshError(error);
      if (code === "closed" || code === "store_io") return;
      this.#drop(frame);
      this.#core.note(`A frame from ${frame.from} could not be taken: ${message}`);
    });
  }

  async #take(frame: RoutedFrame): Promise<void> {
    switch (frame.type) {
      case "knock":
        if ((await this.#takeKnock(frame)) === "taken") this.#done(frame);
        else {
          this.#behindKnock.add(frame.from);
          if (!this.#paused) this.#drop(frame);
        }
        return;
      case "knock_accept":
        await this.#sessions.onKnockAccept(frame);
        await this.#takeEarly(frame.from);
        break;
      case "knock_reject":
        await this.#sessions.onKnockReject(frame);
        break;
      case "message": {
        if (this.#behindKnock.has(frame.from)) {
          this.#drop(frame);
          return;
        }
        const durable = this.#takeMessage(frame);
        if (durable === "later") this.#keepForLater(frame);
        // The next message need not wait for the disk: it shares the next sync. The ack does wait.
        else
          this.#tell(
            frame,
            durable.then(() => this.#done(frame)),
          );
        return;
      }
    }
    this.#done(frame);
  }

  async #takeKnock(frame: Knock): Promise<Verdict> {
    const knocks = this.#untakenKnocks.get(frame.from) ?? new Set();
    this.#untakenKnocks.set(frame.from, knocks);
    if (knocks.size < EARLY_FRAMES_MAX) knocks.add(frame.id);
    this.#behindKnock.delete(frame.from);
    let fate: Verdict;
    try {
      fate = await this.#sessions.onKnock(frame);
    } catch (error) {
      const { code } = asMeshError(error);
      if (code !== "registry_unreachable") throw error;
      // What is behind it waits for it; the registry is asked again.
      await this.#pause(RETRY_MIN_MS);
      return this.#core.link.online ? this.#takeKnock(frame) : "later";
    }
    knocks.delete(frame.id);
    if (knocks.size === 0) this.#untakenKnocks.delete(frame.from);
    await this.#takeEarly(frame.from);
    return fate;
  }

  /** The peer has shown which sessions there are: what none of them reads will not be read later either. */
  async #takeEarly(peer: string): Promise<void> {
    for (const message of this.#early.get(peer)?.splice(0) ?? []) await this.#take(message);
  }

  #pause(duration: number): Promise<void> {
    const { clock } = this.#core.ports;
    return new Promise((resolve) => clock.at(clock.now() + duration, resolve));
  }

  #keepForLater(frame: Message): void {
    const early = this.#early.get(frame.from) ?? [];
    this.#early.set(frame.from, early);
    if (early.some(({ id }) => id === frame.id)) return;
    early.push(frame);
    // Un-acked, so that the relay still has it.
    const oldest = early.length > EARLY_FRAMES_MAX ? early.shift() : undefined;
    if (oldest) this.#drop(oldest);
  }

  #count(peer: string, counter: keyof PeerCounters): void {
    const counters = this.counters.get(peer) ?? { duplicates: 0, unreadable: 0 };
    counters[counter]++;
    this.counters.set(peer, counters);
  }

  /** Decides on a message at once. Gives when it is durable: then it may be acked. */
  #takeMessage(frame: Message): Promise<void> | "later" {
    const { system, keyring, bodies, messages } = this.#core;
    const peer = frame.from;
    const id = frame.message_id ?? frame.id;
    const key = `${peer} ${id}`;
    const arriving = this.#arriving.get(key);
    if (arriving || messages.wasReceived(peer, id)) {
      this.#count(peer, "duplicates");
      return arriving ?? Promise.resolve();
    }
    const candidates = this.#sessions.known.of(peer);
    if (candidates.length === 0) return "later";
    const opened = this.#open(frame, candidates);
    if (opened === "unreadable" && this.#untakenKnocks.has(peer)) return "later";
    if (opened === "duplicate" || opened === "unreadable") {
      this.#count(peer, opened === "duplicate" ? "duplicates" : "unreadable");
      return Promise.resolve();
    }
    const { session, ratchet, result, kdf } = opened;
    if (kdf && this.#sessions.known.isReplay(peer, frame.header.dh)) {
      this.#count(peer, "duplicates");
      const { entries, secrets } = closing(this.#core, session, peer, "an old knock, given again", "peer_refused");
      const { durable } = system.commit(entries, { secrets });
      keyring.forgot(session);
      return durable;
    }
    const text = decodeText(result.plaintext);
    const kind = kindOf(parsePayload(text));
    const sealed = bodies.seal(peer, text, kind !== "chat");
    const conversation = conversationOf(peer);
    const disproved = kdf && this.#sessions.endDisproved(peer, kdf);
    const { accepted, durable } = system.commit(
      [
        ...(disproved?.entries ?? []),
        {
          stream: sessionOf(session),
          event: {
            type: "DECRYPTED",
            message: id,
            header: frame.header,
            turned: result.turned,
            skipped: result.skippedAdded.length,
            late: result.used !== undefined,
            ...(kdf && { kdf }),
          },
        },
        ...(this.#becomesCurrent(peer, session, disproved?.ids)
          ? [{ stream: conversation, event: { type: "ESTABLISHED", session, role: "responder" } }]
          : []),
        {
          stream: conversation,
          event: {
            type: "RECEIVED",
            id,
            session,
            kind,
            body: sealed.body,
            size: sealed.size,
            ...(frame.ts === undefined ? {} : { sent_at: frame.ts }),
          },
        },
      ],
      {
        atomic: true,
        before: sealed.before,
        secrets: {
          ...sealed.secrets,
          ...disproved?.secrets,
          ...(kdf && Keyring.settledPatch(session)),
          ...Keyring.ratchetPatch(
            session,
            { state: result.state, associatedData: ratchet.associatedData },
            kdf ? undefined : ratchet,
            {
              added: result.skippedAdded,
              gone: [...(result.used === undefined ? [] : [result.used]), ...result.evicted],
            },
          ),
        },
      },
    );
    if (accepted.includes(false))
      throw new MeshError("internal", `Message ${id} of ${peer} met a machine that refused it.`);
    for (const id of disproved?.ids ?? []) keyring.forgot(id);
    keyring.moved(session, { ...ratchet, state: result.state, skipped: applySkipped(ratchet.skipped, result) });
    this.#arriving.set(key, durable);
    return durable.finally(() => this.#arriving.delete(key));
  }

  /** The newest session that the peer has proved to hold is the one that sends. */
  #becomesCurrent(peer: string, session: string, ended: readonly string[] = []): boolean {
    const context: ConversationContext | undefined = this.#core.system.decided(conversationOf(peer))?.snapshot.context;
    const current = context?.session ?? null;
    if (current === session) return false;
    if (current !== null && ended.includes(current)) return true;
    const newestFirst = this.#sessions.known.of(peer);
    const age = newestFirst.indexOf(current ?? "");
    return age === -1 || newestFirst.indexOf(session) < age || !this.#sessions.isConfirmed(current ?? "");
  }

  /** Tries the peer's sessions, on copies: a frame that does not authenticate moves nothing. */
  #open(frame: Message, candidates: readonly string[]): Opened | "duplicate" | "unreadable" {
    const { keyring, ports } = this.#core;
    let duplicate = false;
    for (const session of candidates) {
      for (const { ratchet, kdf } of keyring.candidates(session)) {
        try {
          const header = { dh: base64.decode(frame.header.dh), pn: frame.header.pn, n: frame.header.n };
          const ciphertext = base64.decode(frame.ciphertext);
          const { associatedData } = ratchet;
          const result = decrypt(ratchet.state, ratchet.skipped, {
            associatedData,
            header,
            ciphertext,
            random: ports.random,
          });
          return { session, ratchet, result, kdf };
        } catch (error) {
          if (!(error instanceof CryptoError)) throw error;
          duplicate ||= error.code === "key_used";
        }
      }
    }
    return duplicate ? "duplicate" : "unreadable";
  }
}

/** Plaintext that is not UTF-8 is shown with replacement characters rather than lost. */
function decodeText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch (error) {
    if (!(error instanceof CryptoError)) throw error;
    return Buffer.from(bytes).toString("utf8");
  }
}
