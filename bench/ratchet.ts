import { type Contender, compare, type Goal, type Row, type Subject, summary } from "./harness.ts";
import { peer } from "./peers.ts";
import {
  type Agreements,
  type Agt,
  agt,
  agtAgreeing,
  type Conversation,
  ours,
  oursAgreeing,
  random,
} from "./sessions.ts";
import { type Signal, signalAgreeing, signalConversation } from "./signal.ts";

// Messages a second through one session, and agreements a second: crypto alone, both sides in one thread, nothing on disk.
//
// A round is some slices of about a millisecond, and its figure that of the middle one: another process that takes the
// processor away, or a collection of garbage, spoils few of them.

const AGT = ["@microsoft/agent-governance-sdk", "4.0.0"] as const;
const SIGNAL = ["@signalapp/libsignal-client", "0.103.0"] as const;
const [AGT_NAME, SIGNAL_NAME] = [`AGT SDK ${AGT[1]}`, `libsignal ${SIGNAL[1]}`];

const ROUNDS = 15;
const SLICES = 31;
const SLICE_MS = 1;
/** Before the first round: until V8 has compiled what runs often. */
const WARM_UP_MS = 500;

interface Size {
  readonly name: string;
  readonly bytes: number;
  /** What ours has to hold against each peer. */
  readonly oneWay: { readonly agt?: Goal; readonly signal?: Goal };
  readonly pingPong: { readonly agt?: Goal; readonly signal?: Goal };
}
const SIZES: readonly Size[] = [
  { name: "100 B", bytes: 100, oneWay: {}, pingPong: {} },
  {
    name: "1 kB",
    bytes: 1000,
    oneWay: { agt: { atLeast: 1.5 }, signal: { atLeast: 4 } },
    pingPong: { agt: { atLeast: 15 }, signal: { atLeast: 2 } },
  },
  { name: "64 kB", bytes: 64 * 1024, oneWay: { agt: { atLeast: 6 } }, pingPong: {} },
  { name: "1 MiB", bytes: 1024 * 1024, oneWay: { agt: { atLeast: 6 } }, pingPong: {} },
];

/** So many steps, one after the other; gives the milliseconds that they took. */
async function slice(step: () => unknown, count: number): Promise<number> {
  const begin = performance.now();
  for (let at = 0; at < count; at++) {
    const pending = step();
    if (pending instanceof Promise) await pending;
  }
  return performance.now() - begin;
}

/** A contender that has warmed up. `each` things are done by a step; `prepare` makes ready for so many steps. */
async function contender(
  name: string,
  step: () => unknown,
  each: number,
  prepare: (count: number) => void = () => undefined,
): Promise<Contender> {
  let quickest = Number.POSITIVE_INFINITY;
  const warm = performance.now() + WARM_UP_MS;
  while (performance.now() < warm) {
    prepare(1);
    quickest = Math.min(quickest, await slice(step, 1));
  }
  const count = Math.max(1, Math.round(SLICE_MS / quickest));
  return {
    name,
    async round() {
      const rates: number[] = [];
      for (let at = 0; at < SLICES; at++) {
        prepare(count);
        rates.push((count * each * 1000) / (await slice(step, count)));
      }
      return summary(rates).median;
    },
  };
}

type Make = (name: string, conversation: Conversation, plaintext: Uint8Array<ArrayBuffer>) => Promise<Contender>;

const oneWay: Make = (name, { forth }, plaintext) => contender(name, () => forth(plaintext), 1);

const pingPong: Make = (name, { forth, back }, plaintext) => {
  const step = () => {
    const pending = forth(plaintext);
    return pending instanceof Promise ? pending.then(() => back(plaintext)) : back(plaintext);
  };
  return contender(name, step, 2);
};

const agreeing = (name: string, { prepare, run }: Agreements): Promise<Contender> => contender(name, run, 1, prepare);

const against = (contender: Contender, goal: Goal | undefined) => ({ ...contender, ...(goal && { goal }) });

export const ratchet: Subject = {
  name: "ratchet",
  about: "messages and agreements a second: the Double Ratchet and X3DH, without disk and network",
  async measure(tell) {
    const sdk: Agt = peer(...AGT, tell)(AGT[0]);
    const signal: Signal = peer(...SIGNAL, tell)(SIGNAL[0]);
    const rows: Row[] = [];
    for (const { name, bytes, ...goals } of SIZES) {
      const plaintext = new Uint8Array(random(bytes));
      for (const [what, make, goal] of [
        ["one way", oneWay, goals.oneWay],
        ["ping-pong", pingPong, goals.pingPong],
      ] as const) {
        tell(`ratchet: ${what}, ${name}`);
        rows.push(
          ...(await compare(
            { work: `${what}, ${name}`, unit: "messages/s", rounds: ROUNDS },
            await make("ours", ours(), plaintext),
            [
              against(await make(AGT_NAME, agt(sdk), plaintext), goal.agt),
              against(await make(SIGNAL_NAME, await signalConversation(signal), plaintext), goal.signal),
            ],
          )),
        );
      }
    }
    tell("ratchet: X3DH");
    rows.push(
      ...(await compare(
        { work: "X3DH, both sides", unit: "agreements/s", rounds: ROUNDS },
        await agreeing("ours", oursAgreeing(false)),
        [against(await agreeing(AGT_NAME, agtAgreeing(sdk)), { atLeast: 10 })],
      )),
      ...(await compare(
        { work: "X3DH and the first message, both sides", unit: "agreements/s", rounds: ROUNDS },
        await agreeing("ours", oursAgreeing(true)),
        [await agreeing(SIGNAL_NAME, signalAgreeing(signal))],
      )),
    );
    return rows;
  },
};
