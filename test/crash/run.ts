/** `npm run test:crash -- --rounds 300 [--seed s] [--phase p]`: as many deaths as one likes. The same seed draws the same deaths. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CrashLoop, PHASES } from "./loop.ts";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "300" }, seed: { type: "string" }, phase: { type: "string" } },
});
const rounds = Number(values.rounds);
const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed);
const phase = PHASES.find((each) => each === values.phase);
const again = `npm run test:crash -- --rounds ${rounds} --seed ${seed}${phase ? ` --phase ${phase}` : ""}`;
const directory = await mkdtemp(join(tmpdir(), "kars-crash-"));
console.log(`seed ${seed}: ${again}`);
const begun = performance.now();
const loop = await CrashLoop.open(directory, seed);
try {
  for (let round = 0; round < rounds; round++) await loop.round(phase);
  await loop.close();
  await rm(directory, { recursive: true });
} catch (error) {
  await loop.end();
  console.log(`FAILED ${error instanceof Error ? error.message : error}\nRepeat: ${again}\nWhat is left: ${directory}`);
  process.exitCode = 1;
}
const { tally } = loop;
const kills = Object.values(tally.kills).reduce((sum, each) => sum + each, 0);
console.log(
  `${tally.rounds} rounds, ${kills} kills (${PHASES.map((each) => `${each} ${tally.kills[each]}`).join(", ")}), ` +
    `${tally.accepted} messages accepted, ${tally.received} received, ${tally.pairings} pairings, ${tally.segments} segments, ` +
    `${Math.round((performance.now() - begun) / 1000)} s`,
);
