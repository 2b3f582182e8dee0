import { asMeshError } from "../../errors.ts";
import type { ConversationContext } from "../../machines/conversation/events.ts";
import type { PairingContext } from "../../machines/pairing/events.ts";
import { didOfName, isForController, type PlainMessage, plainForms, readControllerWords } from "../../wire/legacy.ts";
import { type Core, conversationOf, isoNow } from "../core.ts";
import type { Proof } from "../link.ts";
import type { Asking } from "./asking.ts";
import { PLAIN_WAITING_MAX, REFUSED_SENDERS_KEPT } from "./limits.ts";

// The one peer that speaks plaintext: the controller of the deployed cluster that this laptop is paired with, by its token. The
// relay alone says who sent a plaintext frame, so nothing is taken but what a controller says, and nothing it says is proved.

/** What is done with plaintext elsewhere. */
export interface Surroundings {
  /** The membership of the cluster that counts. */
  readonly current: () => PairingContext | undefined;
  readonly isDeclined: (peer: string) => boolean;
  /** Counts a frame of a known peer that was not taken. */
  readonly count: (peer: string, counter: "duplicates" | "refused") => void;
}

const keyOf = ({ from, id }: PlainMessage) => `${from} ${id}`;

export class Plaintext {
  readonly #core: Core;
  readonly #asking: Asking;
  readonly #around: Surroundings;
  /** What came from the controller and is not durable yet. */
  readonly #waiting = new Map<string, PlainMessage>();
  readonly #refusedSenders = new Set<string>();

  constructor(core: Core, asking: Asking, around: Surroundings) {
    this.#core = core;
    this.#asking = asking;
    this.#around = around;
  }

  #contextOf(peer: string): ConversationContext | undefined {
    return this.#core.system.decided(conversationOf(peer))?.snapshot.context;
  }

  /** Whether plaintext is expected of a peer: of the controller that is being asked, or that is paired in plaintext. */
  #isAwaited(peer: string): boolean {
    const pairing = this.#around.current();
    if (pairing?.controller !== peer || this.#around.isDeclined(peer)) return false;
    return pairing.asking !== null || (pairing.plain !== null && this.#contextOf(peer)?.plain === true);
  }

  /** A plaintext message came for us. */
  onFrame(frame: PlainMessage): void {
    if (!this.#isAwaited(didOfName(frame.from))) {
      this.#refuse(frame);
      return;
    }
    if (this.#waiting.size >= PLAIN_WAITING_MAX || this.#waiting.has(keyOf(frame))) return;
    this.#waiting.set(keyOf(frame), frame);
    this.#begin(frame);
  }

  /** The disk takes writes again: what could not be kept is taken. */
  proceed(): void {
    for (const frame of this.#waiting.values()) this.#begin(frame);
  }

  #begin(frame: PlainMessage): void {
    const peer = didOfName(frame.from);
    this.#core.lanes
      .run(`in ${peer}`, () => this.#take(frame, peer))
      .then(() => {
        this.#waiting.delete(keyOf(frame));
        this.#core.link.ack(frame);
      })
      .catch((error: unknown) => {
        const { code, message } = asMeshError(error);
        if (code === "closed" || code === "store_io") return;
        this.#waiting.delete(keyOf(frame));
        this.#core.note(`A plaintext frame from ${peer} could not be taken: ${message}`);
      });
  }

  /** Of a stranger: counted, and never given again. */
  #refuse(frame: PlainMessage): void {
    const { link, note } = this.#core;
    link.malformed++;
    link.ack(frame);
    if (this.#refusedSenders.has(frame.from)) return;
    if (this.#refusedSenders.size >= REFUSED_SENDERS_KEPT) this.#refusedSenders.clear();
    this.#refusedSenders.add(frame.from);
    note(
      `A message from ${frame.from} came in plaintext, which is taken from nobody but the controller of a deployed cluster; refused.`,
    );
  }

  async #take(frame: PlainMessage, peer: string): Promise<void> {
    const { system, bodies, messages, note } = this.#core;
    const { count } = this.#around;
    const words = readControllerWords(frame);
    if (words?.type === "pair_response" && (await this.#asking.answer(peer, frame.from, words))) return;
    if (!words || words.type === "pair_response" || !this.#isAwaited(peer) || this.#contextOf(peer)?.plain !== true) {
      count(peer, "refused");
      note(`The controller ${peer} said in plaintext what is not taken from it so, or not now; passed over.`);
      return;
    }
    if (messages.wasReceived(peer, frame.id)) {
      count(peer, "duplicates");
      return;
    }
    const { body, size, secrets, before } = bodies.seal(peer, JSON.stringify(words), true);
    const sent = frame.ts === undefined ? {} : { sent_at: frame.ts };
    const event = { type: "RECEIVED", id: frame.id, kind: "work", body, size, ...sent };
    await system.commit([{ stream: conversationOf(peer), event }], { secrets, before }).durable;
  }

  /** Puts all that waits for the controller on the wire, in its order. When the link is down nothing happens: it is asked for again. */
  async transmit(peer: string): Promise<void> {
    const { lanes, system } = this.#core;
    await lanes.run(`wire ${peer}`, async () => {
      const written: ConversationContext | undefined = system.state(conversationOf(peer))?.snapshot.context;
      for (const { id, body } of written?.outbox ?? []) {
        if (!this.#isDue(peer, id)) continue;
        const words: unknown = JSON.parse(await this.#core.bodies.open(peer, body));
        if (!isForController(words)) {
          // Whatever else it is, it was meant for a session.
          const event = { type: "UNDELIVERABLE", ids: [id], code: "peer_refused" };
          await system.commit([{ stream: conversationOf(peer), event }]).durable;
          continue;
        }
        const to = this.#around.current()?.plain ?? null;
        if (to === null || !this.#isDue(peer, id)) continue;
        const { link, keyring } = this.#core;
        link.transmit(
          { v: 1, type: "message", from: keyring.identity.did, to, id, ts: isoNow(this.#core), ...plainForms(words) },
          (proof) => this.#transmitted(peer, id, proof),
        );
      }
    });
  }

  #isDue(peer: string, id: string): boolean {
    const { link } = this.#core;
    const pairing = this.#around.current();
    const context = this.#contextOf(peer);
    const isAddressed = pairing?.controller === peer && pairing.plain !== null && context?.plain === true;
    return isAddressed && link.online && !link.awaits(id) && context.outbox.some((item) => item.id === id);
  }

  #transmitted(peer: string, id: string, proof: Proof): void {
    const { system, note } = this.#core;
    const event = { type: "TRANSMITTED", ids: [id], proof };
    system.commit([{ stream: conversationOf(peer), event }]).durable.catch((error: unknown) => {
      // A disk that refuses is told of already; what was not noted goes again, under the same id.
      if (asMeshError(error).code !== "store_io")
        note(`A transmission to ${peer} could not be noted: ${String(error)}`);
    });
  }
}
