import { parseArgs } from "node:util";
import { hunt } from "./hunt.ts";
import { MUTANTS } from "./mutants.ts";
import type { RelayKind } from "./plan.ts";
import { type RunResult, run } from "./run.ts";

// The simulation's command line.

const USAGE = `npm run simulate -- [options]

Runs whole worlds, each from its seed, and looks for a broken promise.

  --seeds N   how many seeds (100)
  --first S   the first of them (1)
  --seed S    this one alone
  --relay R   gives every world a relay of ours (ours) or one that forgets (plain); otherwise its seed decides
  --trace     says everything that happens
  --mutants   breaks the program on purpose, in each known way in turn, and looks for a seed that shows it (within 1,000 of the first)
  --mutant M  the same with this one alone
  --json      one JSON document on standard output
  --help      this text`;

const SEEDS_PER_MUTANT = 1_000;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "100" },
    first: { type: "string", default: "1" },
    seed: { type: "string" },
    relay: { type: "string" },
    trace: { type: "boolean", default: false },
    mutants: { type: "boolean", default: false },
    mutant: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

const number = (text: string): number => {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  console.error(`${text} is not a whole number.`);
  process.exit(2);
};

const relay = ((text: string | undefined): RelayKind | undefined => {
  if (text === undefined || text === "ours" || text === "plain") return text;
  console.error(`${text} is no kind of relay: ours, plain.`);
  process.exit(2);
})(values.relay);

async function simulate(): Promise<number> {
  const first = number(values.seed ?? values.first);
  const seeds = values.seed === undefined ? number(values.seeds) : 1;
  const say = values.json ? console.error : console.log;
  const faults = new Map<string, number>();
  let [runs, accepted, offloads, frames, virtualMs] = [0, 0, 0, 0, 0];
  let failed: RunResult | undefined;
  for (let seed = first; seed < first + seeds && !failed; seed++) {
    const result = await run({ seed, relay, onTrace: values.trace ? (line) => console.error(line) : undefined });
    runs++;
    accepted += result.accepted;
    offloads += result.offloads;
    frames += result.frames;
    virtualMs += result.virtualMs;
    for (const [kind, count] of result.faults) faults.set(kind, (faults.get(kind) ?? 0) + count);
    if (result.violations.length > 0) failed = result;
  }
  const repeat = failed && `npm run simulate -- --seed ${failed.seed}${relay ? ` --relay ${relay}` : ""} --trace`;
  if (values.json) {
    console.log(
      JSON.stringify({
        runs,
        faults: Object.fromEntries([...faults].sort()),
        accepted,
        offloads,
        frames,
        virtual_seconds: Math.round(virtualMs / 1000),
        failed: failed ? { seed: failed.seed, violations: failed.violations, repeat } : null,
      }),
    );
  } else {
    say(`${runs} runs, ${Math.round(virtualMs / 1000)} s of virtual time`);
    say(`${accepted} messages accepted, ${offloads} offloads, ${frames} frames on the wire`);
    say("faults:");
    for (const [kind, count] of [...faults].sort()) say(`  ${String(count).padStart(6)}  ${kind}`);
    if (failed) {
      say(`\nseed ${failed.seed} FAILED:`);
      for (const violation of failed.violations.slice(0, 10)) say(`  ${violation}`);
      say(`Again: ${repeat}`);
    }
  }
  return failed ? 1 : 0;
}

/** Each mutant must be found. */
async function huntAll(): Promise<number> {
  const chosen = MUTANTS.filter(({ name }) => values.mutant === undefined || name === values.mutant);
  if (chosen.length === 0) {
    console.error(`There is no mutant ${values.mutant}: ${MUTANTS.map(({ name }) => name).join(", ")}.`);
    return 2;
  }
  const found = [];
  for (const mutant of chosen) {
    const { name, breakage } = mutant;
    const shown = await hunt(mutant, number(values.first), SEEDS_PER_MUTANT);
    found.push({ name, breakage, ...shown });
    if (!values.json)
      console.log(
        `${name}: ${breakage}\n  ${shown ? `seed ${shown.seed}: ${shown.violation.slice(0, 160)}` : "NOT FOUND"}`,
      );
  }
  const missed = found.filter(({ seed }) => seed === undefined).length;
  if (values.json) console.log(JSON.stringify({ mutants: found, missed }));
  else console.log(`${found.length - missed} of ${found.length} mutants found`);
  return missed === 0 ? 0 : 1;
}

if (values.help) console.log(USAGE);
else process.exitCode = values.mutants || values.mutant !== undefined ? await huntAll() : await simulate();
