import { base64, encrypt, sealMessage, utf8 } from "../crypto/index.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { SEALED_AT_ONCE_MAX } from "../limits.ts";
import type { ConversationContext, Outgoing } from "../machines/conversation/events.ts";
import { release } from "../memory.ts";
import type { Entry } from "../store/journal.ts";
import type { Message, MessageHeader } from "../wire/frame.ts";
import { type Core, conversationOf, isoNow, sessionOf } from "./core.ts";
import { type Draft, entriesOnly, join } from "./drafts.ts";
import { Keyring, type Ratchet } from "./keyring.ts";
import type { Proof } from "./link.ts";
import { isPlain, type Renewal } from "./renewal.ts";
import { SealedFrames } from "./sealed-frames.ts";
import type { Outcome } from "./system.ts";
import { uuidFrom } from "./uuid.ts";

// The way out: compose -> SEND -> seal -> SEALED -> transmit -> TRANSMITTED. What can be sealed at once is, in SEND's own commit.

/** Messages that are encrypted and not committed yet. */
interface Sealing {
  readonly draft: Draft;
  /** As it is after them. */
  readonly ratchet: Ratchet;
  /** To be called when its commit was accepted, before anything is awaited. Resolves with that commit. */
  readonly accepted: (durable: Promise<void>) => Promise<void>;
}

const contextOf = (core: Core, peer: string): ConversationContext | undefined =>
  core.system.decided(conversationOf(peer))?.snapshot.context;

/** Messages that a relay may have lost and the peer has not confirmed, oldest first. */
export const resendable = (context: ConversationContext | undefined): readonly Outgoing[] =>
  context?.unconfirmed.filter(({ resend }) => resend) ?? [];

/** All that may have to be put on the wire, in its order. */
export function lineOf(context: ConversationContext | undefined): readonly Outgoing[] {
  const again = resendable(context);
  const outbox = context?.outbox ?? [];
  return again.length === 0 ? outbox : [...again, ...outbox];
}

/** Is told when a message that the peer has to confirm is on the wire. */
export interface Watcher {
  watch(peer: string): void;
}

export class OutgoingMail {
  readonly #core: Core;
  /** Waits for the peers' confirmations. */
  watcher: Watcher | undefined;
  readonly #renewal: Renewal;
  readonly #frames = new SealedFrames();
  /** What the relay has just said that it has, by peer. */
  readonly #taken = new Map<string, string[]>();
  /**
   * Plain peers that may have got frames whose departure was not recorded. A plain relay is never given such a frame a second time. A
   * relay that knows a frame which it is given twice gets it again, and what is new waits if the session is in doubt.
   */
  readonly #unsure = new Set<string>();

  constructor(core: Core, renewal: Renewal) {
    this.#core = core;
    this.#renewal = renewal;
  }

  /** The words of a peer were destroyed: frames that were kept of them go. */
  forget(peer: string): void {
    this.#frames.forget(peer);
  }

  /** Called after recovery. A process that was killed may have put frames on the wire without recording it. */
  recovered(): void {
    for (const [, { snapshot }] of this.#core.system.streams("conversation")) {
      const context: ConversationContext = snapshot.context;
      if (isPlain(context) && context.outbox.some(({ sealed }) => sealed)) this.#unsure.add(context.peer);
    }
  }

  /**
   * Decides that this is sent, and `more` with it. A few messages that nothing waits before are sealed in the same commit, with
   * the session that sends: one sync makes all durable.
   */
  send(peer: string, draft: Draft, more: readonly Entry[] = []): Outcome {
    const { system } = this.#core;
    const renewing = this.#renewal.beforeSending(peer);
    const sealing = renewing.length === 0 ? this.#sealAtOnce(peer, draft) : undefined;
    if (sealing) {
      const { entries, secrets, before } = join(draft, sealing.draft, entriesOnly(...more));
      const { accepted, durable } = system.commit(entries, { atomic: true, secrets, before });
      if (!accepted.includes(false)) {
        for (const { content } of draft.messages ?? []) release(content);
        return { accepted, durable: sealing.accepted(durable) };
      }
    }
    const { entries, secrets, before } = draft;
    const { accepted, durable } = system.commit([...renewing, ...entries, ...more], { secrets, before });
    return { accepted: accepted.slice(renewing.length), durable };
  }

  #sealAtOnce(peer: string, { messages = [] }: Draft): Sealing | undefined {
    const context = contextOf(this.#core, peer);
    const isFew = messages.length > 0 && messages.length <= SEALED_AT_ONCE_MAX;
    if (!isFew || !context?.session || context.outbox.some(({ sealed }) => !sealed) || this.#holds(peer))
      return undefined;
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

  /** Whether new messages stay unsealed until the frames of an earlier process have left, because another session is to send them. */
  #holds(peer: string): boolean {
    const isWaiting = () => contextOf(this.#core, peer)?.outbox.some(({ sealed }) => sealed) === true;
    return this.#unsure.has(peer) && isWaiting() && this.#renewal.isInDoubt(peer);
  }

  /** Called when frames have left. If they were the last of an earlier process, what was held follows, in another session if need be. */
  #released(peer: string): void {
    const { note, system } = this.#core;
    const { outbox = [] } = contextOf(this.#core, peer) ?? {};
    if (outbox.some(({ sealed }) => sealed) || !this.#unsure.delete(peer) || outbox.length === 0) return;
    const renewing = this.#renewal.renewing(peer);
    const ids = outbox.map(({ id }) => id);
    const going = renewing.length > 0 ? system.commit(renewing).durable : this.seal(peer, ids);
    going.catch((error: unknown) => note(`What waits for ${peer} could not be sealed: ${String(error)}`));
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
    if (!session || next()?.id !== id || this.#holds(peer)) return undefined;
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
    if (link.isPlain && this.#unsure.delete(peer)) {
      // A plain client that gets a frame twice loses the session. The message goes in another session, perhaps a second time.
      this.#renewal.renew(peer);
      return undefined;
    }
    let ciphertext = this.#frames.get(peer, id);
    if (ciphertext === undefined) {
      const { nonce } = item.sealed;
      const isDue = () => this.#dueForWire(peer, id)?.sealed?.nonce === nonce;
      try {
        ciphertext = await this.#rebuild(peer, item, item.sealed);
      } catch (error) {
        // If the peer confirmed the message meanwhile, its body and its key are gone.
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
    // A plain relay may lose the message, so it is sent again until the peer confirms it, if the peer confirms messages at all.
    const isConfirmed = (link.isPlain || item.resend === true) && context?.extensions.includes("arrivals") === true;
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
    } else {
      link.transmit(frame, taken);
      this.#renewal.sent(peer);
    }
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
    this.#released(peer);
    durable.catch((error: unknown) => {
      // A disk that refuses is told of already; what was not noted goes again.
      if (isPlain(contextOf(this.#core, peer))) this.#unsure.add(peer);
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
