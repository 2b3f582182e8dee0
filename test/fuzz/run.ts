/** npm run fuzz */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { CASE_MS_MAX, isBroken, newTally, runCase, type Tally } from "./fuzz.ts";
import { targets } from "./targets.ts";

const USAGE = `npm run fuzz [-- --seconds N] [--seed S] [--target NAME] [--case N] [--json]

Gives every parser inputs that are almost right. A parser may give a value of its type or its own error, in bounded time.
Exit 1 when one did anything else, 2 when the command line is not understood.

  --seconds N    how long to go on, all targets together (60)
  --seed S       a whole number; the same seed gives the same cases (random, and printed)
  --target NAME  only this target
  --case N       only this case of the target
  --json         one JSON document on stdout

Targets: ${targets.map(({ name }) => name).join(", ")}
`;

const tell = (line: string) => void process.stderr.write(`${line}\n`);

function wholeNumber(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < 0) throw new Error(`${text} is no whole number.`);
  return value;
}

function options() {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string" },
      seed: { type: "string" },
      target: { type: "string" },
      case: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const chosen = targets.filter(({ name }) => values.target === undefined || name === values.target);
  if (chosen.length === 0) throw new Error(`There is no target ${values.target}.`);
  if (values.case !== undefined && (values.target === undefined || values.seed === undefined))
    throw new Error("A case is of one --target and one --seed.");
  return {
    chosen,
    seconds: wholeNumber(values.seconds, 60),
    seed: wholeNumber(values.seed, randomInt(2 ** 31)),
    only: values.case === undefined ? undefined : wholeNumber(values.case, 0),
    json: values.json,
    help: values.help,
  };
}

async function main(): Promise<number> {
  let given: ReturnType<typeof options>;
  try {
    given = options();
  } catch (error) {
    tell(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
  if (given.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const { chosen, seconds, seed, only } = given;
  const tallies = new Map<string, Tally>(chosen.map(({ name }) => [name, newTally()]));
  if (!given.json) tell(`Seed ${seed}, ${chosen.length} targets, ${seconds} s`);
  const end = performance.now() + seconds * 1000;
  for (let index = only ?? 0; only === undefined ? performance.now() < end : index === only; index++) {
    for (const target of chosen) {
      const tally = tallies.get(target.name) ?? newTally();
      if (!isBroken(tally)) await runCase(target, seed, index, tally);
    }
  }
  const slow = [...tallies].filter(([, { slowest }]) => slowest > CASE_MS_MAX).map(([name]) => name);
  const findings = [...tallies.values()].flatMap((tally) => tally.findings);
  if (given.json) {
    const rows = [...tallies].map(([name, { cases, taken, refused, slowest }]) => ({
      target: name,
      cases,
      taken,
      refused,
      slowest_ms: Math.round(slowest),
    }));
    process.stdout.write(`${JSON.stringify({ seed, targets: rows, findings, slow }, null, 2)}\n`);
  } else {
    for (const [name, { cases, taken, refused, slowest }] of tallies)
      tell(
        `${name.padEnd(26)}${cases} cases, ${taken} taken, ${refused} refused, ${Math.round(slowest)} ms the longest`,
      );
    for (const { target, case: index, problem, input } of findings)
      tell(`\n${target}: ${problem}\n  npm run fuzz -- --seed ${seed} --target ${target} --case ${index}\n  ${input}`);
    for (const name of slow) tell(`\n${name}: one case took longer than ${CASE_MS_MAX} ms`);
  }
  return findings.length + slow.length === 0 ? 0 : 1;
}

process.exitCode = await main();
