import { hash } from "node:crypto";
import { applySkipped, base64, CryptoError, type Decrypted, decrypt, utf8 } from "../crypto/index.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { EARLY_FRAMES_MAX, INBOUND_QUEUE_MAX, RETRY_MIN_MS, TRANSFERS_OPEN_MAX } from "../limits.ts";
import type { ConversationContext, MessageKind } from "../machines/conversation/events.ts";
import type { Knock, Message, RoutedFrame } from "../wire/frame.ts";
import { isChat, type Payload, type PayloadOf, parsePayload } from "../wire/payload.ts";
import { type Core, conversationOf, sessionOf } from "./core.ts";
import { Keyring, type Ratchet } from "./keyring.ts";
import { type Draft, entriesOnly, join } from "./outgoing.ts";
import type { Sessions } from "./sessions.ts";

// The way in: frame -> trial decryption -> RECEIVED with the moved ratchet -> ack -> the inbox, or the handler of the work.

/** A piece of work that a peer sent. */
export interface Work {
  readonly peer: string;
  readonly id: string;
  readonly payload: Payload;
}

/**
 * Takes work over: gives the events that follow from it, which are committed together with its HANDLED. It may be called
 * again for the same work after a crash.
 */
export type WorkHandler = (work: Work) => Promise<Draft | undefined>;

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
}

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
  readonly #handler: WorkHandler;
  readonly counters = new Map<string, PeerCounters>();
  /** Frames that came before a session that could read them, by peer. */
  readonly #early = new Map<string, Message[]>();

  constructor(core: Core, sessions: Sessions, handler: WorkHandler) {
    this.#core = core;
    this.#sessions = sessions;
    this.#handler = handler;
  }

  /** Takes a frame from the relay. Frames of one peer are dealt with in their order. */
  onFrame(frame: RoutedFrame): void {
    const lane = `in ${frame.from}`;
    const { lanes, note } = this.#core;
    // A frame that is not taken is not acked either: the relay gives it again.
    if (lanes.length(lane) >= INBOUND_QUEUE_MAX) return;
    lanes
      .run(lane, () => this.#take(frame))
      .catch((error: unknown) => {
        const { code, message } = asMeshError(error);
        if (code !== "closed" && code !== "store_io") note(`A frame from ${frame.from} could not be taken: ${message}`);
      });
  }

  async #take(frame: RoutedFrame): Promise<void> {
    switch (frame.type) {
      case "knock":
        if ((await this.#takeKnock(frame)) === "taken") this.#core.link.ack(frame);
        return;
      case "knock_accept":
        await this.#sessions.onKnockAccept(frame);
        break;
      case "knock_reject":
        await this.#sessions.onKnockReject(frame);
        break;
      case "message":
        if ((await this.#takeMessage(frame)) === "later") {
          this.#keepForLater(frame);
          return;
        }
    }
    this.#core.link.ack(frame);
  }

  async #takeKnock(frame: Knock): Promise<Verdict> {
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
    for (const message of this.#early.get(frame.from)?.splice(0) ?? []) await this.#take(message);
    return fate;
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
    if (early.length > EARLY_FRAMES_MAX) early.shift();
  }

  #count(peer: string, counter: keyof PeerCounters): void {
    const counters = this.counters.get(peer) ?? { duplicates: 0, unreadable: 0 };
    counters[counter]++;
    this.counters.set(peer, counters);
  }

  async #takeMessage(frame: Message): Promise<Verdict> {
    const { system, keyring, bodies, messages } = this.#core;
    const peer = frame.from;
    if (messages.wasReceived(peer, frame.id)) {
      this.#count(peer, "duplicates");
      return "taken";
    }
    const candidates = this.#sessions.of(peer);
    if (candidates.length === 0) return "later";
    const opened = this.#open(frame, candidates);
    if (opened === "duplicate" || opened === "unreadable") {
      this.#count(peer, opened === "duplicate" ? "duplicates" : "unreadable");
      return "taken";
    }
    const { session, ratchet, result } = opened;
    const text = decodeText(result.plaintext);
    const kind = kindOf(parsePayload(text));
    const sealed = bodies.seal(peer, text, kind !== "chat");
    const conversation = conversationOf(peer);
    const { accepted, durable } = system.commit(
      [
        {
          stream: sessionOf(session),
          event: {
            type: "DECRYPTED",
            message: frame.id,
            header: frame.header,
            turned: result.turned,
            skipped: result.skippedAdded.length,
            late: result.used !== undefined,
          },
        },
        ...(this.#becomesCurrent(peer, session)
          ? [{ stream: conversation, event: { type: "ESTABLISHED", session, role: "responder" } }]
          : []),
        {
          stream: conversation,
          event: {
            type: "RECEIVED",
            id: frame.id,
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
          ...Keyring.ratchetPatch(
            session,
            { state: result.state, associatedData: ratchet.associatedData },
            {
              added: result.skippedAdded,
              gone: [...(result.used === undefined ? [] : [result.used]), ...result.evicted],
            },
          ),
        },
      },
    );
    if (accepted.includes(false))
      throw new MeshError("internal", `Message ${frame.id} of ${peer} met a machine that refused it.`);
    keyring.moved(session, { ...ratchet, state: result.state, skipped: applySkipped(ratchet.skipped, result) });
    await durable;
    return "taken";
  }

  /** The newest session that the peer has proved to hold is the one that sends. */
  #becomesCurrent(peer: string, session: string): boolean {
    const context: ConversationContext | undefined = this.#core.system.decided(conversationOf(peer))?.snapshot.context;
    const current = context?.session ?? null;
    if (current === session) return false;
    const newestFirst = this.#sessions.of(peer);
    const age = newestFirst.indexOf(current ?? "");
    return age === -1 || newestFirst.indexOf(session) < age || !this.#sessions.isConfirmed(current ?? "");
  }

  /** Tries the peer's sessions, on copies: a frame that does not authenticate moves nothing. */
  #open(frame: Message, candidates: readonly string[]): Opened | "duplicate" | "unreadable" {
    const { keyring, ports } = this.#core;
    let duplicate = false;
    for (const session of candidates) {
      const ratchet = keyring.ratchet(session);
      if (!ratchet) continue;
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
        return { session, ratchet, result };
      } catch (error) {
        if (!(error instanceof CryptoError)) throw error;
        duplicate ||= error.code === "key_used";
      }
    }
    return duplicate ? "duplicate" : "unreadable";
  }

  /** Hands work over, in order. Parts of a larger payload wait here until they are all there. */
  async handle(peer: string, ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#core.lanes.run(`work ${peer}`, () => this.#handleAll(peer));
  }

  async #handleAll(peer: string): Promise<void> {
    const context = () =>
      this.#core.system.state(conversationOf(peer))?.snapshot.context as ConversationContext | undefined;
    for (const item of context()?.handling ?? []) {
      if (item.kind === "part") {
        await this.#handlePart(peer, item.id);
        continue;
      }
      const text = await this.#core.bodies.open(peer, item.body);
      await this.#handOver({ peer, id: item.id, payload: parsePayload(text) }, [item.id]);
    }
  }

  async #handOver(
    work: { readonly peer: string; readonly id: string; readonly payload: Payload | undefined },
    ids: readonly string[],
  ): Promise<void> {
    const { system, note } = this.#core;
    const { peer, id, payload } = work;
    const done = entriesOnly({ stream: conversationOf(peer), event: { type: "HANDLED", ids } });
    let follows: Draft | undefined;
    if (payload) {
      try {
        follows = await this.#handler({ peer, id, payload });
      } catch (error) {
        const failure = asMeshError(error);
        if (failure.code === "closed" || failure.code === "store_io") throw failure;
        note(`${payload.type} from ${peer} could not be handled: ${failure.message}`);
      }
    } else note(`A message from ${peer} was in no form that is understood.`);
    const draft = follows ? join(follows, done) : done;
    await system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  }

  /** Puts a transfer together once its manifest and all its chunks are there. */
  async #handlePart(peer: string, id: string): Promise<void> {
    const transfer = this.#transfers.get(peer) ?? new Map<string, Parts>();
    this.#transfers.set(peer, transfer);
    const context = this.#core.system.state(conversationOf(peer))?.snapshot.context as ConversationContext | undefined;
    const item = context?.handling.find((candidate) => candidate.id === id);
    if (!item || this.#seenParts.has(`${peer} ${id}`)) return;
    const payload = parsePayload(await this.#core.bodies.open(peer, item.body));
    if (payload?.type !== "mesh:transfer_manifest" && payload?.type !== "mesh:transfer_chunk") {
      await this.#handOver({ peer, id, payload: undefined }, [id]);
      return;
    }
    this.#seenParts.add(`${peer} ${id}`);
    const parts = transfer.get(payload.transfer_id) ?? {
      ids: [],
      manifest: undefined,
      chunks: new Map<number, string>(),
    };
    transfer.set(payload.transfer_id, parts);
    parts.ids.push(id);
    if (payload.type === "mesh:transfer_manifest") parts.manifest = payload;
    else parts.chunks.set(payload.chunk_index, id);
    if (transfer.size > TRANSFERS_OPEN_MAX) await this.#dropOldest(peer, transfer);
    const { manifest } = parts;
    if (!manifest || parts.chunks.size < manifest.total_chunks) return;
    const text = await this.#assemble(peer, manifest, parts);
    transfer.delete(payload.transfer_id);
    for (const part of parts.ids) this.#seenParts.delete(`${peer} ${part}`);
    await this.#handOver(
      { peer, id: payload.transfer_id, payload: text === undefined ? undefined : parsePayload(text) },
      parts.ids,
    );
  }

  readonly #transfers = new Map<string, Map<string, Parts>>();
  readonly #seenParts = new Set<string>();

  async #dropOldest(peer: string, transfers: Map<string, Parts>): Promise<void> {
    const [oldest] = transfers;
    if (!oldest) return;
    const [transferId, { ids }] = oldest;
    transfers.delete(transferId);
    this.#core.note(`Too many unfinished transfers from ${peer}: ${transferId} was dropped.`);
    await this.#core.system.commit([{ stream: conversationOf(peer), event: { type: "HANDLED", ids: [...ids] } }])
      .durable;
  }

  /** The payload's text, or undefined when a hash does not match. */
  async #assemble(
    peer: string,
    manifest: PayloadOf<"mesh:transfer_manifest">,
    parts: Parts,
  ): Promise<string | undefined> {
    if (hash("sha256", manifest.chunk_hashes.join(":"), "hex") !== manifest.manifest_hash) return undefined;
    const context = this.#core.system.state(conversationOf(peer))?.snapshot.context as ConversationContext | undefined;
    const slices: Buffer[] = [];
    for (const [index, expected] of manifest.chunk_hashes.entries()) {
      const body = context?.handling.find(({ id }) => id === parts.chunks.get(index))?.body;
      const chunk = body && parsePayload(await this.#core.bodies.open(peer, body));
      if (chunk?.type !== "mesh:transfer_chunk") return undefined;
      const slice = Buffer.from(chunk.data, "base64");
      if (hash("sha256", slice, "hex") !== expected) return undefined;
      slices.push(slice);
    }
    const whole = Buffer.concat(slices);
    return whole.length === manifest.total_bytes ? whole.toString("utf8") : undefined;
  }
}

interface Parts {
  readonly ids: string[];
  manifest: PayloadOf<"mesh:transfer_manifest"> | undefined;
  readonly chunks: Map<number, string>;
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
