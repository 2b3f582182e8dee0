import { cpus } from "node:os";
import { type Goal, holds, type Row, type Summary } from "./harness.ts";

// What a run found, as a table for people and as a document.

/** Three figures that count, with thousands separated. */
const figure = (value: number) =>
  value >= 100 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(3)));

const spread = ({ median, low, high }: Summary) =>
  low === high ? figure(median) : `${figure(median)} (${figure(low)}–${figure(high)})`;

const goalText = (goal: Goal | undefined) =>
  goal === undefined ? "" : "atLeast" in goal ? `≥ ${figure(goal.atLeast)}` : `≤ ${figure(goal.atMost)}`;

const verdict = (row: Row) => {
  const held = holds(row);
  return held === undefined ? "" : held ? "yes" : "**no**";
};

const HEAD = ["work", "unit", "ours", "peer", "the peer's", "ours ÷ peer", "goal", "holds"];

const cells = (row: Row) => [
  row.work,
  row.unit,
  spread(row.ours),
  row.peer?.name ?? "",
  row.peer ? spread(row.peer.figure) : "",
  row.ratio ? spread(row.ratio) : "",
  goalText(row.goal),
  verdict(row),
];

/** A Markdown table whose columns are aligned in the text too. */
export function table(rows: readonly Row[]): string {
  const lines = [HEAD, ...rows.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const text = (line: readonly string[]) => `| ${line.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [text(HEAD), rule, ...lines.slice(1).map(text)].join("\n");
}

/** What the figures were measured on; nothing that names a person's machine. */
export function machine(load: { readonly before: number; readonly after: number }) {
  const cores = cpus();
  return {
    cpu: cores[0]?.model ?? "unknown",
    cores: cores.length,
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
    load_before: Number(load.before.toFixed(2)),
    load_after: Number(load.after.toFixed(2)),
  };
}

export const document = (about: ReturnType<typeof machine>, rows: readonly Row[]): string => `# Results

Written by \`npm run bench\`; what the columns and the peers mean is in [README.md](README.md). Medians, with the least and
the greatest round in brackets.

- ${about.cpu}, ${about.cores} cores, ${about.platform}, Node.js ${about.node}, ${about.date}
- load average of one minute: ${about.load_before} before the run, ${about.load_after} after it
- to repeat: \`npm run bench\`

${table(rows)}
`;
