import { hash } from "node:crypto";
import { base64, encrypt, sealMessage, utf8 } from "../crypto/index.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { PAYLOAD_SIZE_MAX, SEALED_AT_ONCE_MAX, TRANSFER_CHUNK_SIZE, TRANSFER_CHUNKS_MAX } from "../limits.ts";
import type { ConversationContext, MessageKind, Outgoing } from "../machines/conversation/events.ts";
import { release } from "../memory.ts";
import type { Entry } from "../store/journal.ts";
import type { SecretPatch } from "../store/secrets.ts";
import type { Message, MessageHeader } from "../wire/frame.ts";
import type { Payload, PayloadInput, PayloadOf } from "../wire/payload.ts";
import { type Core, conversationOf, isoNow, sessionOf } from "./core.ts";
import { Keyring, type Ratchet } from "./keyring.ts";
import type { Proof } from "./link.ts";
import { SealedFrames } from "./sealed-frames.ts";
import type { Outcome } from "./system.ts";
import { uuidFrom } from "./uuid.ts";

// The way out: compose -> SEND -> seal -> SEALED -> transmit -> TRANSMITTED. What can be sealed at once is, in SEND's own commit.

/** Events to commit, with what must be committed with them. */
export interface Draft {
  readonly entries: readonly Entry[];
  readonly secrets: SecretPatch;
  readonly before?: (() => Promise<void>) | undefined;
  /** The messages that it decides to send: what is to be encrypted. */
  readonly messages?: readonly { readonly id: string; readonly content: string | Uint8Array }[];
}

/** Messages that are encrypted and not committed yet. */
interface Sealing {
  readonly draft: Draft;
  /** As it is after them. */
  readonly ratchet: Ratchet;
  /** To be called when its commit was accepted, before anything is awaited. Resolves with that commit. */
  readonly accepted: (durable: Promise<void>) => Promise<void>;
}

/** What a message with this payload is for. */
export function kindOf({ type }: Pick<Payload, "type">): MessageKind {
  if (type === "message" || type === "task_request" || type === "task_response") return "chat";
  if (type === "mesh:receipt") return "receipt";
  const isPart = type === "mesh:transfer_manifest" || type === "mesh:transfer_chunk" || type === "mesh:file_offer";
  return isPart ? "part" : "work";
}

/** Several drafts as one commit. */
export function join(...drafts: readonly Draft[]): Draft {
  return {
    entries: drafts.flatMap((draft) => draft.entries),
    secrets: Object.assign({}, ...drafts.map((draft) => draft.secrets)),
    before: async () => {
      await Promise.all(drafts.map((draft) => draft.before?.()));
    },
    messages: drafts.flatMap(({ messages = [] }) => messages),
  };
}

export const entriesOnly = (...entries: readonly Entry[]): Draft => ({ entries, secrets: {} });

/** The SEND event of one message, of words or of bytes. */
export function sending(core: Core, peer: string, id: string, kind: MessageKind, content: string | Uint8Array): Draft {
  const { body, size, secrets, before } = core.bodies.seal(peer, content, kind !== "chat");
  const entry: Entry = { stream: conversationOf(peer), event: { type: "SEND", id, kind, body, size } };
  return { entries: [entry], secrets, messages: [{ id, content }], ...(before && { before }) };
}

const sha256 = (bytes: Uint8Array | string) => hash("sha256", bytes, "hex");

/**
 * The SEND events of one payload: one, or the manifest and chunks of a large one.
 * @param id unique among all that is ever sent; the same id again is the same message again
 * @throws MeshError `file_too_large` when it has more chunks than a transfer may have
 */
export function compose(core: Core, peer: string, payload: PayloadInput, id = uuidFrom(core.ports.random)): Draft {
  const text = JSON.stringify(payload);
  const bytes = Buffer.from(text, "utf8");
  if (bytes.length <= PAYLOAD_SIZE_MAX) return sending(core, peer, id, kindOf(payload), text);
  const total = Math.ceil(bytes.length / TRANSFER_CHUNK_SIZE);
  if (total > TRANSFER_CHUNKS_MAX) throw new MeshError("file_too_large");
  const slices = Array.from({ length: total }, (_, index) =>
    bytes.subarray(index * TRANSFER_CHUNK_SIZE, (index + 1) * TRANSFER_CHUNK_SIZE),
  );
  const hashes = slices.map(sha256);
  const manifest: PayloadOf<"mesh:transfer_manifest"> = {
    type: "mesh:transfer_manifest",
    transfer_id: id,
    original_type: payload.type,
    total_chunks: total,
    total_bytes: bytes.length,
    chunk_hashes: hashes,
    manifest_hash: sha256(hashes.join(":")),
  };
  const chunks = slices.map(
    (slice, index): PayloadOf<"mesh:transfer_chunk"> => ({
      type: "mesh:transfer_chunk",
      transfer_id: id,
      chunk_index: index,
      total_chunks: total,
      data: slice.toString("base64"),
      hash: hashes[index] ?? "",
    }),
  );
  return join(
    sending(core, peer, `${id}.m`, "part", JSON.stringify(manifest)),
    ...chunks.map((chunk, index) => sending(core, peer, `${id}.${index}`, "part", JSON.stringify(chunk))),
  );
}

const contextOf = (core: Core, peer: string): ConversationContext | undefined =>
  core.system.decided(conversationOf(peer))?.snapshot.context;

/** Messages that a relay may have lost and the peer has not confirmed, oldest first. */
export const resendable = (context: ConversationContext | undefined): readonly Outgoing[] =>
  context?.unconfirmed.filter(({ resend }) => resend) ?? [];

/** All that may have to be put on the wire, in its order. */
export const lineOf = (context: ConversationContext | undefined): readonly Outgoing[] => [
  ...resendable(context),
  ...(context?.outbox ?? []),
];

/** Who is told that a message which the peer is to confirm is on the wire. */
export interface Watcher {
  watch(peer: string): void;
}

export class OutgoingMail {
  readonly #core: Core;
  /** Watches for messages to be confirmed. */
  watcher: Watcher | undefined;
  readonly #frames = new SealedFrames();
  /** What the relay has just said that it has, by peer. */
  readonly #taken = new Map<string, string[]>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** The words of a peer were destroyed: frames that were kept of them go. */
  forget(peer: string): void {
    this.#frames.forget(peer);
  }

  /**
   * Decides that this is sent, and `more` with it. A few messages that nothing waits before are sealed in the same commit, with
   * the session that sends: one sync makes all durable.
   */
  send(peer: string, draft: Draft, more: readonly Entry[] = []): Outcome {
    const { system } = this.#core;
    const sealing = this.#sealAtOnce(peer, draft);
    if (sealing) {
      const { entries, secrets, before } = join(draft, sealing.draft, entriesOnly(...more));
      const { accepted, durable } = system.commit(entries, { atomic: true, secrets, before });
      if (!accepted.includes(false)) {
        for (const { content } of draft.messages ?? []) release(content);
        return { accepted, durable: sealing.accepted(durable) };
      }
    }
    const { entries, secrets, before } = draft;
    return system.commit([...entries, ...more], { secrets, before });
  }

  #sealAtOnce(peer: string, { messages = [] }: Draft): Sealing | undefined {
    const context = contextOf(this.#core, peer);
    const isFew = messages.length > 0 && messages.length <= SEALED_AT_ONCE_MAX;
    if (!isFew || !context?.session || context.outbox.some(({ sealed }) => !sealed)) return undefined;
    const { session } = context;
    let ratchet = this.#core.keyring.ratchet(session);
    if (!ratchet) return undefined;
    const sealings: Sealing[] = [];
    for (const { id, content } of messages) {
      const plaintext = typeof content === "string" ? utf8.encode(content) : content;
      const sealing = this.#encrypt(peer, { id }, plaintext, session, ratchet);
      sealings.push(sealing);
      ratchet = sealing.ratchet;
    }
    return {
      draft: join(...sealings.map(({ draft }) => draft)),
      ratchet,
      accepted: async (durable) => void (await Promise.all(sealings.map(({ accepted }) => accepted(durable)))),
    };
  }

  /** Encrypts messages in order with the session that sends. */
  async seal(peer: string, ids: readonly string[]): Promise<void> {
    const { lanes } = this.#core;
    const sealing = ids.map((id) => lanes.run(`out ${peer}`, () => this.#seal(peer, id)));
    await Promise.all(sealing.map(async (each) => (await each)?.written));
  }

  /** Decides on a message's encryption, in its turn. Gives when that is durable; the next need not wait for it. */
  async #seal(peer: string, id: string): Promise<{ readonly written: Promise<void> } | undefined> {
    const { system, bodies, keyring } = this.#core;
    // Only the first that is not sealed: what a refusal of the disk threw back is not overtaken.
    const next = () => contextOf(this.#core, peer)?.outbox.find(({ sealed }) => !sealed);
    const item = next();
    if (item?.id !== id) return undefined;
    const plaintext = await bodies.openBytes(peer, item.body);
    // From here to the commit nothing is awaited: the ratchet that is read is the one that is moved.
    const session = contextOf(this.#core, peer)?.session;
    if (!session || next()?.id !== id) return undefined;
    const ratchet = keyring.ratchet(session);
    if (!ratchet) throw new MeshError("store_damaged", `The ratchet of session ${session} is missing.`);
    const { draft, accepted } = this.#encrypt(peer, item, plaintext, session, ratchet);
    const outcome = system.commit(draft.entries, { atomic: true, secrets: draft.secrets });
    return outcome.accepted.includes(false) ? undefined : { written: accepted(outcome.durable) };
  }

  /** Encrypts a message, with a ratchet that is as it is decided. */
  #encrypt(
    peer: string,
    { id, again }: Pick<Outgoing, "id" | "again">,
    plaintext: Uint8Array,
    session: string,
    ratchet: Ratchet,
  ): Sealing {
    const { keyring, ports } = this.#core;
    const { associatedData } = ratchet;
    const sealed = encrypt(ratchet.state, { associatedData, plaintext, random: ports.random });
    const header: MessageHeader = { dh: base64.encode(sealed.header.dh), pn: sealed.header.pn, n: sealed.header.n };
    const nonce = base64.encode(sealed.nonce);
    const frame = again && { frame: uuidFrom(ports.random) };
    const moved: Ratchet = { ...ratchet, state: sealed.state };
    return {
      ratchet: moved,
      draft: {
        entries: [
          { stream: sessionOf(session), event: { type: "ENCRYPTED", message: id } },
          { stream: conversationOf(peer), event: { type: "SEALED", id, session, header, nonce, ...frame } },
        ],
        secrets: {
          ...Keyring.ratchetPatch(session, moved, ratchet),
          ...Keyring.sentKeyPatch(peer, id, sealed.messageKey),
        },
      },
      accepted: async (durable) => {
        keyring.moved(session, moved);
        // What another session sealed of it, and is lost, must not go out under this one's header.
        this.#frames.set(peer, id, sealed.ciphertext);
        try {
          await durable;
        } catch (error) {
          // Never sealed: the next attempt has a nonce of its own.
          this.#frames.delete(peer, id);
          throw error;
        }
      },
    };
  }

  /** Puts sealed messages on the wire, in order. When the link is down nothing happens: they are asked for again when it is up. */
  async transmit(peer: string, ids: readonly string[]): Promise<void> {
    const { lanes, link } = this.#core;
    const transmitting = ids.map((id) =>
      lanes.run(`wire ${peer}`, async () => {
        for (let next: string | undefined = id; next !== undefined; ) {
          if (link.isFull) await link.room();
          next = await this.#transmit(peer, next);
        }
      }),
    );
    await Promise.all(transmitting);
  }

  /** Puts one message on the wire, but not ahead of the one before it. Gives the one behind it, which may have waited for it. */
  async #transmit(peer: string, id: string): Promise<string | undefined> {
    const { link, keyring } = this.#core;
    const item = this.#dueForWire(peer, id);
    if (!item?.sealed) return undefined;
    let ciphertext = this.#frames.get(peer, id);
    if (ciphertext === undefined) {
      const { nonce } = item.sealed;
      const isDue = () => this.#dueForWire(peer, id)?.sealed?.nonce === nonce;
      try {
        ciphertext = await this.#rebuild(peer, item, item.sealed);
      } catch (error) {
        // When the peer confirms it meanwhile, its words and its key are gone.
        if (isDue()) throw error;
      }
      if (ciphertext === undefined || !isDue()) return undefined;
    }
    const frame: Message = {
      v: 1,
      type: "message",
      from: keyring.identity.did,
      to: peer,
      id: item.sealed.frame ?? id,
      ts: isoNow(this.#core),
      header: item.sealed.header,
      ciphertext,
      ...(item.sealed.frame !== undefined && { message_id: id }),
    };
    const context = contextOf(this.#core, peer);
    const line = lineOf(context);
    const index = line.findIndex((candidate) => candidate.id === id);
    // A plain relay may lose it: a peer that confirms what arrives is sent it until it does.
    const isConfirmed = link.isPlain && context?.extensions.includes("arrivals") === true;
    const { nonce } = item.sealed;
    const taken = (proof: Proof) => {
      // Sealed anew meanwhile, it goes in another frame: of that the relay has said nothing.
      const now = contextOf(this.#core, peer)?.outbox.find((candidate) => candidate.id === id);
      if (now?.sealed?.nonce !== nonce) return;
      this.#frames.delete(peer, id);
      if (proof === "accepted") this.#accepted(peer, id);
      else this.#transmitted(peer, [id], proof, isConfirmed);
    };
    if (isConfirmed) {
      link.transmit({ ...frame, after: line[index - 1]?.id ?? null }, taken, true);
      this.watcher?.watch(peer);
    } else link.transmit(frame, taken);
    return line[index + 1]?.id;
  }

  /** The relay has a message: what it says in one go becomes one event. */
  #accepted(peer: string, id: string): void {
    const ids = this.#taken.get(peer);
    if (ids) {
      ids.push(id);
      return;
    }
    this.#taken.set(peer, [id]);
    queueMicrotask(() => {
      const taken = this.#taken.get(peer) ?? [];
      this.#taken.delete(peer);
      this.#transmitted(peer, taken, "accepted");
    });
  }

  #transmitted(peer: string, ids: readonly string[], proof: Proof, isConfirmed = false): void {
    const { system, note } = this.#core;
    const event = { type: "TRANSMITTED", ids, proof, ...(isConfirmed && { resend: true }) };
    const { durable } = system.commit([{ stream: conversationOf(peer), event }], {
      forgotten: isConfirmed ? [] : Keyring.sentNames(peer, ids),
      // A crash before it is durable sends the identical frame again: a relay that says so much knows it, and so does the peer.
      lazy: proof === "accepted",
    });
    durable.catch((error: unknown) => {
      // A disk that refuses is told of already; what was not noted goes again.
      if (asMeshError(error).code !== "store_io")
        note(`A transmission to ${peer} could not be noted: ${String(error)}`);
    });
  }

  /** The message, if it is sealed durably, is not on the wire, and all before it are. */
  #dueForWire(peer: string, id: string): Outgoing | undefined {
    const { system, link } = this.#core;
    const isUnderway = ({ id, sealed }: Outgoing) =>
      link.awaits(sealed?.frame ?? id) || this.#taken.get(peer)?.includes(id) === true;
    const line = lineOf(contextOf(this.#core, peer));
    const index = line.findIndex((candidate) => candidate.id === id);
    const [before, item] = [line[index - 1], line[index]];
    if (!link.online || !item?.sealed || isUnderway(item) || (before && !isUnderway(before))) return undefined;
    const durable: ConversationContext | undefined = system.state(conversationOf(peer))?.snapshot.context;
    const written = lineOf(durable).find((candidate) => candidate.id === id);
    return written?.sealed?.session === item.sealed.session ? item : undefined;
  }

  /** The identical ciphertext again, from the message key that was kept for this. */
  async #rebuild(peer: string, item: Outgoing, sealed: NonNullable<Outgoing["sealed"]>): Promise<Uint8Array> {
    const { bodies, keyring } = this.#core;
    const plaintext = await bodies.openBytes(peer, item.body);
    const key = keyring.sentKey(peer, item.id);
    const ratchet = keyring.ratchet(sealed.session);
    if (!key || !ratchet) throw new MeshError("store_damaged", `The message key of ${item.id} is missing.`);
    const header = { dh: base64.decode(sealed.header.dh), pn: sealed.header.pn, n: sealed.header.n };
    return sealMessage(key, base64.decode(sealed.nonce), ratchet.associatedData, header, plaintext);
  }
}
