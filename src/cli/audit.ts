import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { AUDIT_PAGE, AUDIT_PAGE_MAX } from "../cluster/limits.ts";
import { Did } from "../wire/text.ts";
import { integer, moment } from "./arguments.ts";
import { atCluster } from "./operator.ts";
import { line, table, time } from "./output.ts";
import { action, type Io } from "./program.ts";

// Who asked what of a cluster, when, and how it ended; and whether the record of it is whole.

export function addAudit(program: Command): void {
  const command = program
    .command("audit")
    .description("show who asked what, when, and how it ended")
    .option("--grant <name>", "of one pairing alone")
    .option("--since <time>", "since a time, or so long ago: 2026-05-01, 12h, 30d", moment)
    .option("--limit <n>", "the newest so many", integer(1, AUDIT_PAGE_MAX), AUDIT_PAGE)
    .option("--verify [file]", "check that no line is missing or was changed; of a closed segment, also elsewhere")
    .option("--key <did>", "with --verify <file>: the DID of the controller that signed it", didOption)
    .addHelpText(
      "after",
      `
With --verify the exit code is 1 when the record is not whole; the first damaged line is named. With a file it needs no cluster: the
file is a segment that kars-local audit rotate closed, and the controller's DID stands in kars-local status.`,
    )
    .action(action(audit));
  command
    .command("rotate")
    .description("close what is recorded in a file of its own, signed by the controller, and begin another")
    .action(action(rotate));
}

interface AuditOptions {
  readonly grant?: string;
  readonly since?: number;
  readonly limit: number;
  /** A file, or the cluster's own record. */
  readonly verify?: string | true;
  readonly key?: string;
}

function didOption(text: string): string {
  const { data } = Did.safeParse(text.trim());
  if (data === undefined) throw new InvalidArgumentError("Give a DID: did:mesh: and 32 hexadecimal digits.");
  return data;
}

const text = (value: unknown): string => (value === null || value === undefined ? "" : String(value));

/** What of a line is neither when nor who. */
function detailOf(entry: Readonly<Record<string, unknown>>): string {
  const { what, request, sandbox, outcome, code, exit, tokens, duration_ms, reason } = entry;
  const { task_size, task_sha256, files, bytes, slots, capabilities, expires_at, task } = entry;
  const some = (name: string, value: unknown) => (text(value) === "" ? undefined : `${name} ${text(value)}`);
  const known =
    what === "task.ended"
      ? [
          text(outcome),
          code !== null ? text(code) : undefined,
          some("exit", exit),
          some("tokens", tokens),
          typeof duration_ms === "number" ? `${Math.round(duration_ms / 100) / 10} s` : undefined,
          text(reason),
        ]
      : [
          text(code),
          some(
            "task",
            task_sha256 === undefined ? undefined : `${text(task_sha256).slice(0, 12)} (${text(task_size)} bytes)`,
          ),
          some("files", files === undefined ? undefined : `${text(files)} (${text(bytes)} bytes)`),
          some("slots", slots),
          Array.isArray(capabilities) ? capabilities.join(",") : undefined,
          some("until", expires_at),
          text(task),
        ];
  return [text(request).slice(0, 8), text(sandbox), ...known]
    .filter((part) => part !== undefined && part !== "")
    .join(" · ");
}

/** Checks a closed segment, for which no cluster is needed. */
async function verifyFile(io: Io, path: string, did: string): Promise<void> {
  const { verifySegment } = await import("../cluster/audit/elsewhere.ts");
  const verdict = await verifySegment(resolve(path), did);
  const { first, last, follows, head, problem } = verdict;
  io.result(
    verdict,
    problem
      ? `The segment is not whole: ${line(path)}, line ${problem.line}: ${problem.reason}.`
      : `The segment is whole, and signed by ${did}: lines ${first} to ${last}, after the line with SHA-256 ${follows}, the last one with SHA-256 ${head}.`,
  );
  if (problem) process.exitCode = 1;
}

async function rotate(io: Io): Promise<void> {
  await atCluster(io, async (cluster) => {
    const result = await cluster.call("audit_rotate", {});
    io.result(
      result,
      `Closed up to line ${result.last} as ${line(result.path)}. Elsewhere: kars-local audit --verify FILE --key ${result.did}`,
    );
  });
}

async function audit(io: Io, { grant, since, limit, verify, key }: AuditOptions): Promise<void> {
  if ((key !== undefined) !== (typeof verify === "string"))
    throw new InvalidArgumentError(
      "--verify FILE and --key DID go together: a segment is checked against its controller's DID.",
    );
  if (typeof verify === "string" && key !== undefined) return verifyFile(io, verify, key);
  await atCluster(io, async (cluster) => {
    const result = await cluster.call("audit", {
      limit,
      verify: verify === true,
      ...(grant !== undefined && { grant }),
      ...(since !== undefined && { since }),
    });
    const { entries, total, verdict, path } = result;
    io.result(
      result,
      entries.length === 0
        ? "Nothing is recorded of that."
        : table(
            ["LINE", "TIME", "WHAT", "GRANT", "LAPTOP", ""],
            entries.map((entry) => [
              String(entry.seq),
              time(entry.at),
              entry.what,
              entry.grant ?? "",
              (entry.laptop ?? "").slice(0, 17),
              detailOf(entry),
            ]),
          ),
    );
    if (total > entries.length) io.note(`${total - entries.length} older lines are not shown; see --limit.`);
    if (verdict === null) return;
    if (verdict.problem) {
      io.note(`The record is not whole: ${line(path)}, line ${verdict.problem.line}: ${verdict.problem.reason}.`);
      process.exitCode = 1;
      return;
    }
    io.note(`The record is whole: ${verdict.lines} lines, the last one with SHA-256 ${verdict.head}.`);
  });
}
