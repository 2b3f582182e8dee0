import { randomBytes, randomUUID } from "node:crypto";
import type { Client, Heard } from "./client.ts";

// One way for frames, from one sender to one recipient, and what is done with some of them at once.

/** What is said at one end is heard at the other, each once and in its order. Numbers only rise. */
export interface Lane {
  /** Sends the frame of that number. */
  say(number: number): void;
  /** From now on `heard` is told the number of each frame that comes, and `failed` of what goes wrong. */
  listen(heard: (number: number) => void, failed: (reason: string) => void): void;
}

/** A frame as a node sends it, of `size` bytes in all, whose id is `<run>.<number>`. */
export function frameWriter(from: string, to: string, size: number, run: string): (number: number) => string {
  const header = { dh: randomBytes(32).toString("base64"), pn: 0, n: 0 };
  const ts = new Date().toISOString();
  const text = (number: number, ciphertext: string) =>
    JSON.stringify({ v: 1, type: "message", from, to, id: `${run}.${number}`, ts, header, ciphertext });
  const rest = Math.max(0, size - text(1_000_000, "").length);
  const ciphertext = randomBytes(rest).toString("base64").slice(0, rest);
  return (number) => text(number, ciphertext);
}

export const numberOf = (id: string): number => Number(id.slice(id.lastIndexOf(".") + 1));

export const ackText = (id: string, sender: string): string => JSON.stringify({ v: 1, type: "ack", id, sender });

/** From one client of a relay to another, which acks what it gets. */
export function relayLane(sender: Client, recipient: Client, size: number): Lane {
  const write = frameWriter(sender.did, recipient.did, size, randomUUID().slice(0, 8));
  return {
    say: (number) => sender.send(write(number)),
    listen(heard, failed) {
      sender.hears(({ type, code = type }) => {
        if (type === "error") failed(code);
      });
      recipient.hears(({ type, id, from }: Heard) => {
        if (type !== "message" || id === undefined || from !== sender.did) return;
        recipient.send(ackText(id, sender.did));
        heard(numberOf(id));
      });
    },
  };
}

export interface Flow {
  /** On the way at once in each lane. */
  readonly inFlight: number;
  /** Of all lanes together. */
  readonly frames: number;
  readonly patienceMs: number;
}

/** The next number of each lane; a lane's frames keep their order from one measurement to the next. */
const next = new WeakMap<Lane, number>();

/**
 * Sends through all lanes at once, the next frame of a lane when one is heard.
 * @returns the microseconds that each frame took, and frames a second
 * @throws Error when one is lost, comes twice, out of its order or is refused
 */
export async function flow(lanes: readonly Lane[], { inFlight, frames, patienceMs }: Flow) {
  const latencies: number[] = [];
  const each = Math.ceil(frames / lanes.length);
  const begin = performance.now();
  const through = (lane: Lane) =>
    new Promise<void>((resolve, reject) => {
      const first = next.get(lane) ?? 0;
      next.set(lane, first + each);
      const late = setTimeout(() => fail(`${heard} of ${each} frames came`), patienceMs);
      const fail = (reason: string) => {
        clearTimeout(late);
        reject(new Error(`A lane failed: ${reason}.`));
      };
      const saidAt: number[] = [];
      let [said, heard] = [0, 0];
      const more = () => {
        while (said < each && said - heard < inFlight) {
          saidAt.push(performance.now());
          lane.say(first + said++);
        }
      };
      lane.listen((number) => {
        if (number !== first + heard) return fail(`frame ${number} came where ${first + heard} was due`);
        latencies.push((performance.now() - (saidAt[heard++] ?? Number.NaN)) * 1_000);
        if (heard < each) return more();
        clearTimeout(late);
        resolve();
      }, fail);
      more();
    });
  await Promise.all(lanes.map(through));
  return { latencies, perSecond: (each * lanes.length * 1_000) / (performance.now() - begin) };
}

/** The figure below which so many of a hundred lie. */
export function percentile(figures: readonly number[], percent: number): number {
  const sorted = Float64Array.from(figures).sort();
  return sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * percent) / 100) - 1)] ?? Number.NaN;
}
