/**
 * Records what the machines of this program make of every scenario, into `test/histories/<version>/`. A version that the
 * changelog names is released: what it recorded stays for ever.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEFINITIONS, partsOf } from "../../src/inspect/definitions.ts";
import { commitsOf } from "../../src/inspect/fold.ts";
import { formatRecording, parseRecording, record } from "../../src/inspect/recording.ts";
import { checkReplay } from "../../src/inspect/replay.ts";
import type { Commit } from "../../src/store/journal.ts";
import { endAll } from "../ending.ts";
import { SCENARIOS } from "./scenarios.ts";

const root = join(import.meta.dirname, "../..");

/** Sealed words are long, and the machines never look inside: something short and sealed-looking stands for each. */
async function* withShortBodies(commits: AsyncIterable<Commit>): AsyncGenerator<Commit> {
  const short = new Map<string, string>();
  for await (const commit of commits) {
    const text = JSON.stringify(commit.entries, (key, value) => {
      if (key !== "sealed" || typeof value !== "string") return value;
      const known = short.get(value) ?? Buffer.from(`body ${short.size + 1}`).toString("base64");
      short.set(value, known);
      return known;
    });
    yield { ...commit, entries: JSON.parse(text) };
  }
}

const { version: program } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
const changelog = await readFile(join(root, "CHANGELOG.md"), "utf8");
if (changelog.includes(`## [${program}]`)) {
  console.error(`Version ${program} is released, and so are its histories. Raise the version first.`);
  process.exit(1);
}
const target = join(import.meta.dirname, program);
const files = new Map<string, string>();
const directory = await mkdtemp(join(tmpdir(), "kars-histories-"));
try {
  for (const [scenario, play] of Object.entries(SCENARIOS)) {
    const place = join(directory, scenario);
    await mkdir(place);
    for (const { node, home } of await play(place)) {
      const { differences } = await checkReplay(home);
      if (differences.length > 0)
        throw new Error(`${scenario}: ${node} replays otherwise: ${JSON.stringify(differences)}`);
      const text = formatRecording({ program, events: await record(withShortBodies(commitsOf(home))) });
      if (text.includes(directory)) throw new Error(`${scenario}: the history of ${node} holds a path of this machine`);
      files.set(`${scenario}.${node}.jsonl`, text);
    }
  }
} finally {
  await endAll();
  await rm(directory, { recursive: true, force: true });
}
const told = new Set(
  [...files.values()].flatMap((text) =>
    parseRecording("", text).events.map(({ stream, event }) => `${partsOf(stream).kind} ${event.type}`),
  ),
);
const untold = [...DEFINITIONS.values()]
  .filter(({ live }) => !live)
  .flatMap(({ kind, machine }) => machine.events.map((type: string) => `${kind} ${type}`))
  .filter((event) => !told.has(event) && !/ (?:RESUMED|xstate\..*)$/.test(event));
await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
for (const [name, text] of files) {
  await writeFile(join(target, name), text);
  console.log(`${program}/${name}: ${text.split("\n").length - 3} events, ${(text.length / 1000).toFixed(0)} kB`);
}
if (untold.length > 0) console.log(`In no history, for want of a scenario: ${untold.join(", ")}`);
