import type { Network, Socket, SocketEvents } from "../../src/actors/ports.ts";
import { base64, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import { arrivedText } from "../../src/wire/frame.ts";
import type { Dice } from "./dice.ts";
import type { DurableJournal } from "./durable.ts";
import type { NetworkFaults } from "./faults.ts";

// Who sits between a node and its socket: it refuses knocks that the node never sees, as a node does that has lost its prekeys,
// forges knocks in the name of those who knock, and says in a peer's name that a message arrived which the peer does not have.

interface Frame {
  readonly type: string;
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly establishment?: { readonly ek: string; readonly signature?: string };
  readonly message_id?: string;
  readonly after?: string | null;
  readonly arrived?: readonly string[];
  readonly public_key?: string;
  readonly signature?: string;
}

/** A signed arrival notice. */
type Notice = Required<Pick<Frame, "public_key" | "signature">>;

export class Meddler {
  readonly #dice: Dice;
  readonly #faults: () => NetworkFaults;
  readonly #counted: (fault: string) => void;
  /** Knocks that were looked at, and whether they are refused: each time that they come. */
  readonly #refused = new Map<string, boolean>();
  readonly #forged = new Set<string>();
  /** The last arrival notice of each agent, whose key and signature others may use. */
  readonly #notices = new Map<string, Notice>();

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
            const { public_key, signature } = frame;
            if (frame.arrived && public_key && signature) this.#notices.set(frame.from, { public_key, signature });
            events.received(text);
          },
        });
        return {
          ...socket,
          send: (text) => {
            socket.send(text);
            const frame: Frame = JSON.parse(text.toString());
            if (frame.type === "message" && frame.after !== undefined) this.#claimArrival(frame, events);
          },
        };
      },
    };
  }

  /** Says that a message arrived: with the peer's key and a signature of something else, or signed with a key of its own. */
  #claimArrival({ id, from, to, message_id = id }: Frame, events: SocketEvents): void {
    if (!this.#dice.chance(this.#faults().forge)) return;
    this.#counted("arrival forged");
    const notice = {
      v: 1 as const,
      type: "knock_accept" as const,
      from: to,
      to: from,
      id: `claimed-${id}`,
      knock_id: `claimed-${id}`,
      ts: "2026-01-01T00:00:00.000Z",
      arrived: [message_id],
      missing: false,
    };
    const own = identityFromSeed(this.#dice.bytes(32));
    const known = this.#notices.get(to);
    const proof: Notice =
      known && this.#dice.chance(0.5)
        ? known
        : {
            public_key: base64.encode(own.publicKey),
            signature: base64.encode(sign(own, utf8.encode(arrivedText(notice)))),
          };
    queueMicrotask(() => events.received(JSON.stringify({ ...notice, ...proof })));
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
    // A client that does not sign its knocks cannot be told from others.
    if (frame.establishment?.signature === undefined || !this.#dice.chance(this.#faults().forge)) return undefined;
    const { signature, ...rest } = frame.establishment;
    const id = `forged-${this.#forged.size}`;
    this.#forged.add(id);
    this.#counted("knock forged");
    const ek = Buffer.from(this.#dice.bytes(32)).toString("base64");
    const signed = this.#dice.chance(0.5) ? { signature } : {};
    return { ...frame, id, establishment: { ...rest, ek, ...signed } };
  }

  /** A forged knock that a node took. */
  takenBy(journal: DurableJournal): string | undefined {
    return [...this.#forged].find((id) => journal.has(`session/${id}`, ({ type }) => type === "ACCEPTED"));
  }
}
