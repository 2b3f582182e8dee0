import { join } from "node:path";
import { type Contender, compare, type Subject, withDirectory } from "./harness.ts";
import { PATIENCE_MS } from "./laptop.ts";
import { framesPair, oursPair, type Pair, type Sdk, sdkPair } from "./pairs.ts";
import { peer } from "./peers.ts";
import { withServers } from "./servers.ts";
import { message } from "./text.ts";

// Messages end to end: from the sending application to the receiving one, through a relay in a process of its own.

const AGT = ["@microsoft/agent-governance-sdk", "4.0.0"] as const;
const AGT_NAME = `AGT SDK ${AGT[1]}`;

const MESSAGE_SIZE = 1000;
const ROUNDS = 11;
/** What is on the way at most, and how many messages a round has. */
const MANY = { inFlight: 64, messages: 1_000 };
const ONE = { inFlight: 1, messages: 200 };

/** Messages a second from one application to the other, each the right one and in its turn, so many on the way at once. */
function contender(name: string, pair: Pair, { inFlight, messages }: typeof MANY): Contender {
  let number = 0;
  return {
    name,
    round() {
      const texts = Array.from({ length: messages }, () => message(number++, MESSAGE_SIZE));
      const begin = performance.now();
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      const late = setTimeout(() => reject(new Error(`${name}: ${heard} of ${messages} messages came.`)), PATIENCE_MS);
      let [said, heard] = [0, 0];
      const more = () => {
        while (said < messages && said - heard < inFlight) pair.say(texts[said++] ?? "").catch(reject);
      };
      pair.hears((content) => {
        if (content !== texts[heard++]) reject(new Error(`${name}: message ${heard} is another one.`));
        if (heard < messages) return more();
        resolve((messages * 1000) / (performance.now() - begin));
      });
      more();
      return promise.finally(() => clearTimeout(late));
    },
  };
}

export const delivery: Subject = {
  name: "delivery",
  about: "messages a second from application to application through a relay, ours durable at both ends",
  measure: (tell) =>
    withDirectory((directory) =>
      withServers(join(directory, "server"), async (servers) => {
        const sdk: Sdk = peer(...AGT, tell)(AGT[0]);
        const ours = await oursPair(servers, directory);
        const theirs = await sdkPair(sdk, servers);
        const frames = await framesPair(servers);
        try {
          const rows = [];
          for (const [what, load, goal] of [
            [`${MANY.inFlight} on the way`, MANY, { atLeast: 2 }],
            ["one at a time", ONE, undefined],
          ] as const) {
            tell(`delivery: ${what}`);
            rows.push(
              ...(await compare(
                { work: `end to end, 1 kB, ${what}`, unit: "messages/s", rounds: ROUNDS },
                contender("ours", ours, load),
                [
                  { ...contender(AGT_NAME, theirs, load), ...(goal && { goal }) },
                  contender("bare frames", frames, load),
                ],
              )),
            );
          }
          return rows;
        } finally {
          await frames.close();
          await theirs.close();
          await ours.close();
        }
      }),
    ),
};
