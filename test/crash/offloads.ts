/**
 * `npm run test:offloads -- [--rounds 1] [--seed s] [--phase p] [--victim v]`: every phase of an offload with every process killed in
 * it, or with the offload cancelled. Prints a line for each, and how many there were. The same seed draws the same moments.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setup } from "../build.ts";
import type { Layout } from "./cluster.ts";
import { Errands, PHASES, type Row, rowsOf, VICTIMS } from "./errands.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "1" },
    seed: { type: "string" },
    phase: { type: "string" },
    victim: { type: "string" },
  },
});
const rounds = Number(values.rounds);
const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed);
const phase = PHASES.find((each) => each === values.phase);
const victim = VICTIMS.find((each) => each === values.victim);
if (!(rounds > 0) || phase !== values.phase || victim !== values.victim) {
  console.error(`--phase is one of ${PHASES.join(", ")}; --victim one of ${VICTIMS.join(", ")}.`);
  process.exit(2);
}
const again = `npm run test:offloads -- --rounds ${rounds} --seed ${seed}${phase ? ` --phase ${phase}` : ""}${victim ? ` --victim ${victim}` : ""}`;

const lineOf = ({ phase, victim, before, view, seconds }: Row) =>
  `${phase.padEnd(10)} ${victim.padEnd(10)} at ${(before.at(-1) ?? "").padEnd(10)} ${view.status.padEnd(9)} ${seconds.toFixed(1).padStart(5)} s${view.error === null ? "" : `  ${view.error.message}`}`;

setup();
const directory = await mkdtemp(join(tmpdir(), "kars-offloads-"));
console.log(`seed ${seed}: ${again}`);
const begun = performance.now();
const ends = new Map<string, number>();
const running: Errands[] = [];

async function play(layout: Layout): Promise<void> {
  const rows = rowsOf(layout).filter((row) => row[0] === (phase ?? row[0]) && row[1] === (victim ?? row[1]));
  if (rows.length === 0) return;
  const errands = await Errands.open(join(directory, layout), seed, layout);
  running.push(errands);
  for (let round = 0; round < rounds; round++) {
    for (const [each, who] of rows) {
      const row = await errands.row(each, who);
      ends.set(row.view.status, (ends.get(row.view.status) ?? 0) + 1);
      console.log(lineOf(row));
    }
  }
  await errands.close();
}

try {
  await Promise.all([play("together"), play("apart")]);
  await rm(directory, { recursive: true });
} catch (error) {
  await Promise.all(running.map((each) => each.end()));
  console.log(`FAILED ${error instanceof Error ? error.message : error}\nRepeat: ${again}\nWhat is left: ${directory}`);
  process.exitCode = 1;
}
const total = [...ends.values()].reduce((sum, count) => sum + count, 0);
console.log(
  `${total} offloads hit: ${[...ends].map(([end, count]) => `${count} ${end}`).join(", ")}, ${Math.round((performance.now() - begun) / 1000)} s`,
);
