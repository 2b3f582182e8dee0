import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { MeshError } from "../errors.ts";
import type { WordsOf } from "../inspect/export.ts";
import type { Moment, Point, Replay } from "../inspect/moments.ts";
import type { FileSource, Source } from "../inspect/source.ts";
import { moment } from "./arguments.ts";
import { openHome } from "./home.ts";
import { writeNewFile } from "./new-file.ts";
import { age, block, count, facts, line, time } from "./output.ts";
import { action, type Io, packageVersion } from "./program.ts";

// A stream's past, folded anew: how it stood at a point, what changed between two, when something first held, and whether the
// machines of this program make of it what was made of it then.

export function addReplay(program: Command): void {
  program
    .command("replay")
    .description("fold a stream's events anew and show the state they give; nothing is done")
    .argument("[what]", "the stream, of which the beginning of its name is enough; or a file that export wrote")
    .argument("[stream]", "of a file with several: which of them")
    .option("--at <point>", "as it stood after commit n, or at a time: 2026-05-01T12:00, 12h (ago)", point)
    .option("--diff <points...>", "what changed between two points", points)
    .option("--until <condition>", "the first moment when that held: state=open, event=SEND, unread>3")
    .option("--step", "walk through it with the keys")
    .option("--check", "compare all of it with the snapshots, or a file with what was recorded")
    .action(action(replay));
}

/** `export <stream>`: a history for whoever is to look at it elsewhere. */
export function addExport(program: Command): void {
  program
    .command("export")
    .description(
      "write one stream's history to a file that replay opens anywhere: without words, names of files or secrets",
    )
    .argument("<stream>", "the stream; the beginning of its name is enough")
    .option("--out <file>", "where it goes (default: a name of its own, here)")
    .option("--with-bodies", "with what was said, in clear: whoever has the file can read it")
    .action(action(exportHistory));
}

interface ExportFlags {
  readonly out?: string;
  readonly withBodies?: true;
}

async function exportHistory(io: Io, wanted: string, { out, withBodies }: ExportFlags): Promise<void> {
  const { homeSource } = await import("../inspect/source.ts");
  const { exportStream } = await import("../inspect/export.ts");
  const { formatRecording } = await import("../inspect/recording.ts");
  const source = homeSource(io.directory);
  const stream = await streamOf(source, wanted);
  const mesh = withBodies ? await openHome(io) : undefined;
  const wordsOf: WordsOf | undefined =
    mesh && (async (bodies) => (await mesh.call("words", { stream, bodies: [...bodies] })).words);
  const events = await exportStream(source, stream, wordsOf).finally(() => mesh?.close());
  const path = resolve(out ?? `${stream.replaceAll(/[^A-Za-z0-9]+/g, "-")}.history.jsonl`);
  const text = formatRecording({ program: packageVersion(), events });
  await writeNewFile(path, text, "--out");
  const shown = `${count(events.length, "event")} of ${line(stream)}, ${withBodies ? "with what was said in clear" : "as viewers are shown them"}. Look: kars-mesh replay ${line(path)}`;
  io.result({ stream, path, events: events.length, bytes: Buffer.byteLength(text) }, `${line(path)}\n${shown}`);
}

interface ReplayFlags {
  readonly at?: Point;
  readonly diff?: readonly Point[];
  readonly until?: string;
  readonly step?: true;
  readonly check?: true;
}

function point(text: string): Point {
  if (/^\d{1,15}$/.test(text.trim())) return { number: Number(text) };
  try {
    return { time: moment(text) };
  } catch {
    throw new InvalidArgumentError("Give a commit's number, a time such as 2026-05-01T12:00, or how long ago: 12h.");
  }
}

function points(text: string, earlier: readonly Point[] = []): Point[] {
  if (earlier.length === 2) throw new InvalidArgumentError("Give two points.");
  return [...earlier, point(text)];
}

async function replay(io: Io, what: string | undefined, wanted: string | undefined, flags: ReplayFlags): Promise<void> {
  const { fileSource, homeSource, isFile } = await import("../inspect/source.ts");
  const file = what !== undefined && (await isFile(what)) ? await fileSource(what) : undefined;
  if (what === undefined && !flags.check)
    throw new InvalidArgumentError(
      "Name a stream, or a file that export wrote; kars-mesh history --streams lists them.",
    );
  if (flags.check) {
    if (file) return checkFile(io, file);
    // A file that is not there must not look like one of which nothing differs.
    if (what !== undefined) await streamOf(homeSource(io.directory), what);
    return checkHome(io);
  }
  const source = file ?? homeSource(io.directory);
  const stream = await streamOf(source, file ? wanted : what);
  const inspect = await import("../inspect/moments.ts");
  if (flags.diff) {
    const [from, to] = flags.diff;
    if (!from || !to) throw new MeshError("input_invalid", "--diff takes two points: commits or times.");
    return showDiff(
      io,
      await inspect.replayStream(source, stream, from),
      await inspect.replayStream(source, stream, to),
    );
  }
  if (flags.step) {
    const { walk } = await import("./walk.ts");
    const moments: Moment[] = [];
    for await (const each of inspect.momentsOf(source, stream)) moments.push(each);
    return walk(io, moments, show);
  }
  if (flags.until !== undefined) {
    const { parseCondition } = await import("../inspect/condition.ts");
    const found = await inspect.firstMoment(source, stream, parseCondition(flags.until));
    return io.result({ event: found.type, ...found.replay() }, show(found.replay(), found.type));
  }
  const found = await inspect.replayStream(source, stream, flags.at);
  io.result(found, show(found));
}

/** The stream that is meant by its name or the beginning of it; as the timeline shows it, `did:mesh:` may be left out. */
export async function streamOf(source: Source, text: string | undefined): Promise<string> {
  const { streamsOf } = await import("../inspect/history.ts");
  const names = (await streamsOf(source.commits())).map(({ stream }) => stream);
  // A DID, or the beginning of one, as a person may write it: see `asAddress`.
  const wanted = (text ?? "")
    .replace(/…$/, "")
    .replace(/did:(?:agent)?mesh:[0-9a-f]*/i, (did) => did.toLowerCase().replace("agentmesh", "mesh"));
  if (names.includes(wanted)) return wanted;
  const [found, ...others] = names.filter(
    (name) => name.startsWith(wanted) || name.replace("did:mesh:", "").startsWith(wanted),
  );
  if (others.length > 0)
    throw new MeshError(
      "input_invalid",
      wanted === ""
        ? `Name one of its streams: ${names.join(", ")}.`
        : `${count(others.length + 1, "stream")} begin with ${line(wanted)}. Give more of the name.`,
    );
  if (found === undefined) throw await source.unknown(wanted);
  return found;
}

function show(found: Replay, event?: string): string {
  const text = [
    facts([
      ["stream", found.stream],
      ["events", String(found.events)],
      ["commit", found.at === null ? "before its first" : `${found.number} at ${time(found.at)} (${age(found.at)})`],
      ["event", event === "" ? undefined : event],
      ["state", JSON.stringify(found.value).replaceAll(/["{}]/g, "").replaceAll(":", ".")],
      ["accepts", found.accepts.join(", ")],
      ["pending", found.effects.join(", ")],
      ...found.timers.map((timer): [string, string] => ["deadline", `${timer.id} ${age(timer.at)}`]),
    ]),
    block(JSON.stringify(found.context, null, 2), ""),
  ];
  return text.join("\n\n");
}

async function showDiff(io: Io, before: Replay, after: Replay): Promise<void> {
  const { changesBetween } = await import("../inspect/moments.ts");
  const { formatChanges } = await import("./changes.ts");
  const changes = changesBetween(before, after);
  const { stream } = after;
  const head = `${line(stream)}: commit ${before.number} -> ${after.number}, ${count(after.events - before.events, "event")}`;
  io.result(
    {
      stream,
      from: before.number,
      to: after.number,
      events: after.events - before.events,
      changes: changes.map(({ path, recorded, now }) => ({ path, before: recorded, after: now })),
    },
    [head, ...(changes.length === 0 ? ["Nothing changed."] : formatChanges(changes))].join("\n"),
  );
}

async function checkHome(io: Io): Promise<void> {
  const { checkReplay } = await import("../inspect/replay.ts");
  const check = await checkReplay(io.directory);
  const { streams, events, compared_at, differences } = check;
  const compared =
    compared_at === null ? "there were no snapshots to compare with" : `compared at commit ${compared_at}`;
  const found = differences.map(({ stream, what }) => line(`${stream}: ${what}`));
  const head = `${count(events, "event")} of ${count(streams, "stream")} folded; ${compared}.`;
  io.result(check, [head, ...(found.length === 0 ? ["Nothing differs."] : found)].join("\n"));
  if (differences.length > 0) process.exitCode = 1;
}

async function checkFile(io: Io, { name, recording }: FileSource): Promise<void> {
  const { firstDivergence, formatDivergence } = await import("../inspect/divergence.ts");
  const divergence = firstDivergence(recording) ?? null;
  const { events, program } = recording;
  const same = `${line(name)}: this program makes of ${count(events.length, "event")} what ${line(program)} made of them.`;
  io.result(
    { program, events: events.length, divergence },
    divergence ? block(formatDivergence(divergence), "") : same,
  );
  if (divergence) process.exitCode = 1;
}
