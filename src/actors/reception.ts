import { applySkipped, base64, CryptoError, type Decrypted, decrypt, type Kdf } from "../crypto/index.ts";
import { MeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { SessionContext } from "../machines/session/events.ts";
import { release } from "../memory.ts";
import type { Entry } from "../store/journal.ts";
import { textOf } from "../wire/content.ts";
import { parseFileChunk } from "../wire/file-chunk.ts";
import type { Message } from "../wire/frame.ts";
import { parsePayload } from "../wire/payload.ts";
import type { Admission } from "./admission.ts";
import { type Core, conversationOf, sessionOf } from "./core.ts";
import { type Draft, kindOf } from "./drafts.ts";
import { Keyring, type Ratchet } from "./keyring.ts";
import { isPlain } from "./renewal.ts";
import { closing } from "./session-end.ts";
import type { Sessions } from "./sessions.ts";
import type { Unreadable } from "./unreadable.ts";

// What a message becomes: trial decryption with the peer's sessions -> RECEIVED with the moved ratchet, in one commit.

export interface PeerCounters {
  /** Frames that came twice. */
  duplicates: number;
  /** Frames that no session could read. */
  unreadable: number;
  /** Frames of a peer that was declined. */
  refused: number;
}

/** The events that follow from a message. */
interface News extends Draft {
  /** The ids of our messages that it reports as arrived. */
  readonly delivered?: readonly string[];
}

interface Opened {
  readonly session: string;
  readonly ratchet: Ratchet;
  readonly result: Decrypted;
  /** When this message settled it. */
  readonly kdf?: Kdf | undefined;
}

export class Reception {
  readonly #core: Core;
  readonly #sessions: Sessions;
  readonly #unreadable: Unreadable;
  readonly #admission: Admission;
  readonly counters = new Map<string, PeerCounters>();
  /** Messages that are decided and not durable yet. */
  readonly #arriving = new Map<string, Promise<void>>();

  constructor(core: Core, sessions: Sessions, admission: Admission, unreadable: Unreadable) {
    this.#core = core;
    this.#unreadable = unreadable;
    this.#sessions = sessions;
    this.#admission = admission;
  }

  count(peer: string, counter: keyof PeerCounters): void {
    const counters = this.counters.get(peer) ?? { duplicates: 0, unreadable: 0, refused: 0 };
    counters[counter]++;
    this.counters.set(peer, counters);
  }

  /** Whether there is a session with a peer. */
  canRead(peer: string): boolean {
    return this.#sessions.known.of(peer).length > 0;
  }

  /** Whether a message of a peer is here, or on its way to the disk. */
  knows(peer: string, id: string): boolean {
    return this.#arriving.has(`${peer} ${id}`) || this.#core.messages.wasReceived(peer, id);
  }

  /**
   * Decides on a message at once.
   * @param mayComeLater whether a session that reads it may be on its way
   * @returns when it is durable: then it may be acked. `later` when nothing can be said of it yet
   */
  take(frame: Message, mayComeLater: boolean): Promise<void> | "later" {
    const { system, keyring, messages } = this.#core;
    const peer = frame.from;
    const id = frame.message_id ?? frame.id;
    const key = `${peer} ${id}`;
    const arriving = this.#arriving.get(key);
    const isKnown = arriving !== undefined || messages.wasReceived(peer, id);
    // Sealed anew it says nothing new, but that the peer is in another session now: there the ratchet must follow.
    if (isKnown && frame.message_id === undefined) {
      this.count(peer, "duplicates");
      return arriving ?? Promise.resolve();
    }
    const candidates = this.#sessions.known.of(peer);
    if (candidates.length === 0) return "later";
    const opened = this.#open(frame, candidates);
    if (opened === "unreadable" && mayComeLater) return "later";
    if (opened === "duplicate" || opened === "unreadable") {
      this.count(peer, opened === "duplicate" ? "duplicates" : "unreadable");
      // Also one whose key was used, when the message is new: its sender went back to what it was before.
      if (!isKnown) this.#unreadable.came(peer, frame.id);
      if (!isKnown && opened === "unreadable") this.#sessions.renewal.unread(peer);
      return arriving ?? Promise.resolve();
    }
    const { session, ratchet, result, kdf } = opened;
    if (kdf && this.#sessions.known.isReplay(peer, frame.header.dh)) {
      this.count(peer, "duplicates");
      const { entries, secrets } = closing(this.#core, session, peer, {
        reason: "an old knock, given again",
        code: "peer_refused",
      });
      const { durable } = system.commit(entries, { secrets });
      keyring.forgot(session);
      return durable;
    }
    const conversation = conversationOf(peer);
    if (isKnown) this.count(peer, "duplicates");
    const news: News = isKnown ? { entries: [], secrets: {} } : this.#newsOf(frame, id, session, result.plaintext);
    release(result.plaintext);
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
        ...this.#doubts(peer, session),
        ...news.entries,
      ],
      {
        atomic: true,
        before: news.before,
        // Messages that the peer has are not sent again.
        forgotten: Keyring.sentNames(peer, news.delivered ?? []),
        secrets: {
          ...news.secrets,
          ...disproved?.secrets,
          ...(kdf && keyring.settledPatch(session)),
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
    return durable.finally(() => {
      if (this.#arriving.get(key) === durable) this.#arriving.delete(key);
    });
  }

  /**
   * The first message of a plain peer in a session shows which messages are uncertain. A peer that knocked had lost its earlier
   * sessions, and perhaps the messages sent since it was last heard. A peer that we knocked at may have missed the messages sent in
   * other sessions.
   */
  #doubts(peer: string, session: string): Entry[] {
    const { system, messages } = this.#core;
    const stream = conversationOf(peer);
    const context: ConversationContext | undefined = system.decided(stream)?.snapshot.context;
    const opened: SessionContext | undefined = system.decided(sessionOf(session))?.snapshot.context;
    const { known, renewal } = this.#sessions;
    if (!context || !isPlain(context) || opened?.lastHeard !== null || renewal.isCrossed(peer)) return [];
    const held = renewal.wasReplaced(peer, session) ? context.session : null;
    if (opened.role === "responder") return known.uncertain(peer, messages.sent(), held);
    const ids = context.unconfirmed.filter(({ sealed }) => sealed?.session !== session).map(({ id }) => id);
    return ids.length === 0 ? [] : [{ stream, event: { type: "UNCERTAIN", ids } }];
  }

  /** What a message tells the conversation: its words, or what became of ours. */
  #newsOf(frame: Message, id: string, session: string, plaintext: Uint8Array): News {
    const stream = conversationOf(frame.from);
    // A piece of a file is bytes. Everything else is text, which is stored unchanged.
    const text = parseFileChunk(plaintext) === undefined ? textOf(plaintext) : undefined;
    const payload = text === undefined ? undefined : parsePayload(text);
    // Who was never written to has nothing to acknowledge: of one that is held it is kept, and bounded, with all it says.
    if (payload?.type === "mesh:receipt" && !this.#admission.isHeld(frame.from)) {
      const { delivered, read } = payload;
      const entries = [{ stream, event: { type: "ACKNOWLEDGED", id, session, delivered, read } }];
      return { entries, secrets: {}, delivered: [...delivered, ...read] };
    }
    const kind = payload ? kindOf(payload) : "part";
    const { body, size, secrets, before } = this.#core.bodies.seal(frame.from, text ?? plaintext, kind !== "chat");
    const sent = frame.ts === undefined ? {} : { sent_at: frame.ts };
    const event = { type: "RECEIVED", id, session, kind, body, size, ...sent };
    const admitted = this.#admission.greeted(frame.from, payload);
    return { entries: [{ stream, event }, ...admitted], secrets, ...(before && { before }) };
  }

  /** The newest session that the peer has proved to hold is the one that sends. */
  #becomesCurrent(peer: string, session: string, ended: readonly string[] = []): boolean {
    const context: ConversationContext | undefined = this.#core.system.decided(conversationOf(peer))?.snapshot.context;
    const current = context?.session ?? null;
    if (current === session) return false;
    if (current !== null && ended.includes(current)) return true;
    const { known, renewal } = this.#sessions;
    const newestFirst = known.of(peer);
    const age = newestFirst.indexOf(current ?? "");
    if (isPlain(context)) {
      // A plain peer has one session: the one opened last, unless the peer still uses an older one long afterwards.
      // A session that ours replaced is older, although its knock may have come later.
      if (renewal.isCrossed(peer)) return renewal.settles(peer, session);
      const isOlder = newestFirst.indexOf(session) > age || renewal.wasReplaced(peer, session);
      // The newest may not be on the disk yet. Then it is not among those that can be read with.
      const isOpen = age !== -1 || (current !== null && this.#isOpen(current));
      if (isOpen && isOlder) return !this.#sessions.isConfirmed(current ?? "") && renewal.outlived(peer);
    }
    return age === -1 || newestFirst.indexOf(session) < age || !this.#sessions.isConfirmed(current ?? "");
  }

  #isOpen(session: string): boolean {
    return this.#core.system.decided(sessionOf(session))?.snapshot.context.closed === null;
  }

  /** Tries the peer's sessions, on copies: a frame that does not authenticate moves nothing. */
  #open(frame: Message, candidates: readonly string[]): Opened | "duplicate" | "unreadable" {
    const { keyring, ports } = this.#core;
    let duplicate = false;
    for (const session of candidates) {
      for (const { ratchet, kdf } of keyring.candidates(session)) {
        try {
          const header = { dh: base64.decode(frame.header.dh), pn: frame.header.pn, n: frame.header.n };
          const ciphertext = typeof frame.ciphertext === "string" ? base64.decode(frame.ciphertext) : frame.ciphertext;
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
