import { writeFile } from "node:fs/promises";
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { bytes } from "./bytes.ts";
import { commits } from "./commits.ts";
import { delivery } from "./delivery.ts";
import { files } from "./files.ts";
import { holds, type Row, type Subject } from "./harness.ts";
import { hello } from "./hello.ts";
import { inspector } from "./inspector.ts";
import { ratchet } from "./ratchet.ts";
import { relay } from "./relay.ts";
import { reopen } from "./reopen.ts";
import { document, machine, table } from "./table.ts";

// npm run bench [-- subject…] [--json]

const SUBJECTS: readonly Subject[] = [commits, reopen, bytes, ratchet, delivery, relay, files, hello, inspector];

const usage = () => `npm run bench [-- SUBJECT…] [--json]

Measures ratios against named peers in one run and prints them as a table. Without a subject all of them are measured,
and bench/results.md is written. Exit 1 when a goal does not hold, or a subject could not be measured.

${SUBJECTS.map(({ name, about }) => `  ${name.padEnd(10)}${about}`).join("\n")}
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false }, help: { type: "boolean", short: "h", default: false } },
});
const tell = (line: string) => void process.stderr.write(`${line}\n`);
const [load = 0] = loadavg();

async function main(): Promise<number> {
  if (values.help) {
    process.stdout.write(usage());
    return 0;
  }
  const unknown = positionals.filter((name) => !SUBJECTS.some((subject) => subject.name === name));
  if (unknown.length > 0) {
    tell(`There is no subject ${unknown.join(", ")}.\n\n${usage()}`);
    return 2;
  }
  const chosen = SUBJECTS.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  const rows: Row[] = [];
  let complete = true;
  for (const { name, measure } of chosen) {
    try {
      rows.push(...(await measure(tell)));
    } catch (error) {
      complete = false;
      tell(`${name} could not be measured: ${error instanceof Error ? error.stack : error}`);
    }
  }
  const about = machine({ before: load, after: loadavg()[0] ?? 0 });
  const judged = rows.map((row) => ({ ...row, holds: holds(row) ?? null }));
  process.stdout.write(
    values.json ? `${JSON.stringify({ machine: about, rows: judged }, null, 2)}\n` : `${table(rows)}\n`,
  );
  if (complete && positionals.length === 0)
    await writeFile(new URL("results.md", import.meta.url), document(about, rows));
  return complete && judged.every((row) => row.holds !== false) ? 0 : 1;
}

process.exitCode = await main();
