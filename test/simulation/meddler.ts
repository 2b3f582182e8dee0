import type { Network, Socket } from "../../src/actors/ports.ts";
import type { Dice } from "./dice.ts";
import type { DurableJournal } from "./durable.ts";
import type { NetworkFaults } from "./faults.ts";

// Who sits between a node and its socket: it refuses knocks that the node never sees, as a node does that has lost its prekeys,
// and forges knocks in the name of those who knock.

interface Frame {
  readonly type: string;
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly establishment?: { readonly ek: string; readonly signature?: string };
}

export class Meddler {
  readonly #dice: Dice;
  readonly #faults: () => NetworkFaults;
  readonly #counted: (fault: string) => void;
  /** Knocks that were looked at, and whether they are refused: each time that they come. */
  readonly #refused = new Map<string, boolean>();
  readonly #forged = new Set<string>();

  constructor(dice: Dice, faults: () => NetworkFaults, counted: (fault: string) => void) {
    this.#dice = dice;
    this.#faults = faults;
    this.#counted = counted;
  }

  of(network: Network): Network {
    return {
      ...network,
      dial: (url, events) => {
        const socket: Socket = network.dial(url, {
          ...events,
          received: (text) => {
            const frame: Frame = JSON.parse(text.toString());
            if (frame.type === "knock") {
              if (this.#refuses(frame)) return this.#refuse(frame, socket);
              const forgery = this.#forgeryOf(frame);
              if (forgery) events.received(JSON.stringify(forgery));
            }
            events.received(text);
          },
        });
        return socket;
      },
    };
  }

  #refuses({ id }: Frame): boolean {
    const known = this.#refused.get(id);
    if (known !== undefined) return known;
    const refuses = this.#dice.chance(this.#faults().refuse);
    this.#refused.set(id, refuses);
    if (refuses) this.#counted("knock refused");
    return refuses;
  }

  #refuse({ id, from, to }: Frame, socket: Socket): void {
    const reject = {
      v: 1,
      type: "knock_reject",
      from: to,
      to: from,
      id: `${id}.r`,
      knock_id: id,
      reason: "prekey_unknown",
    };
    socket.send(JSON.stringify(reject));
    socket.send(JSON.stringify({ v: 1, type: "ack", id, sender: from }));
  }

  /** The same knock with another key, which its signature does not cover, or without any. */
  #forgeryOf(frame: Frame): Frame | undefined {
    if (!frame.establishment || !this.#dice.chance(this.#faults().forge)) return undefined;
    const { signature, ...rest } = frame.establishment;
    const id = `forged-${this.#forged.size}`;
    this.#forged.add(id);
    this.#counted("knock forged");
    const ek = Buffer.from(this.#dice.bytes(32)).toString("base64");
    const signed = signature !== undefined && this.#dice.chance(0.5) ? { signature } : {};
    return { ...frame, id, establishment: { ...rest, ek, ...signed } };
  }

  /** A forged knock that a node took. */
  takenBy(journal: DurableJournal): string | undefined {
    return [...this.#forged].find((id) => journal.has(`session/${id}`, ({ type }) => type === "ACCEPTED"));
  }
}
