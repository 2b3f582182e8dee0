/** The real network with faults that a scenario asks for: requests nobody answers, frames that are held back, knocks that are refused. */
import { realNetwork } from "../../src/actors/network.ts";
import { type Network, type Ports, realPorts } from "../../src/actors/ports.ts";
import type { FrameText } from "../../src/wire/frame-text.ts";

interface Frame {
  readonly type: string;
  readonly id: string;
  readonly from?: string;
  readonly to?: string;
}

export class FaultyNetwork {
  isDown = false;
  readonly ports: Ports;
  #unanswered: string[] = [];
  #refusals: { readonly reason: string; readonly isLate: boolean }[] = [];
  /** Refusals that come when the relay has taken one frame more. */
  #late: string[] = [];
  #holding: { readonly frames: number; readonly held: (() => void)[] } | undefined;

  constructor() {
    const network: Network = {
      fetch: async (url, init) => {
        const index = this.#unanswered.findIndex((part) => url.includes(part));
        if (index !== -1) this.#unanswered.splice(index, 1);
        if (this.isDown || index !== -1) throw new TypeError("fetch failed");
        return realNetwork.fetch(url, init);
      },
      dial: (url, events) => {
        if (this.isDown) {
          queueMicrotask(() => events.closed(1006, "no network"));
          return { send: () => undefined, ping: () => undefined, buffered: 0, close: () => undefined };
        }
        const socket = realNetwork.dial(url, {
          ...events,
          received: (text) => this.#receive(text, events.received),
        });
        return {
          send: (text) => {
            if (!this.#refuse(text, events.received)) socket.send(text);
          },
          ping: () => socket.ping(),
          get buffered() {
            return socket.buffered;
          },
          close: () => socket.close(),
        };
      },
    };
    this.ports = realPorts(network);
  }

  /** The next request to an address with this in it is not answered. */
  leaveUnanswered(part: string): void {
    this.#unanswered.push(part);
  }

  /** The next knock is refused for this reason, as by its recipient: at once, or when the relay has what follows it. */
  refuseKnock(reason: string, isLate = false): void {
    this.#refusals.push({ reason, isLate });
  }

  /** Of the next messages that come in, so many, the first comes last. */
  reverse(frames: number): void {
    this.#holding = { frames, held: [] };
  }

  #refuse(text: FrameText, received: (text: string) => void): boolean {
    const { type, id, from, to }: Frame = JSON.parse(text.toString());
    const refusal = type === "knock" ? this.#refusals.shift() : undefined;
    if (!refusal) return false;
    const { reason, isLate } = refusal;
    const ts = new Date().toISOString();
    const reject = { v: 1, type: "knock_reject", from: to, to: from, id: `${id}.r`, knock_id: id, reason, ts };
    queueMicrotask(() => received(JSON.stringify({ v: 1, type: "accepted", id })));
    if (isLate) this.#late.push(JSON.stringify(reject));
    else queueMicrotask(() => received(JSON.stringify(reject)));
    return true;
  }

  #receive(text: FrameText, received: (text: FrameText) => void): void {
    const { type }: Frame = JSON.parse(text.toString());
    if (type === "accepted") for (const late of this.#late.splice(0)) queueMicrotask(() => received(late));
    const holding = this.#holding;
    if (!holding || type !== "message") {
      received(text);
      return;
    }
    holding.held.unshift(() => received(text));
    if (holding.held.length < holding.frames) return;
    this.#holding = undefined;
    for (const give of holding.held) give();
  }
}
