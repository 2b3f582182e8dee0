import type { Command } from "commander";
import { MeshError } from "../errors.ts";
import type { HistoryLine } from "../inspect/history.ts";
import { HISTORY_PAGE } from "../inspect/limits.ts";
import { PORT_MAX } from "../limits.ts";
import { asAddress } from "../wire/text.ts";
import { integer, moment, repeated } from "./arguments.ts";
import { openHome } from "./home.ts";
import { interrupted, interruption } from "./interruption.ts";
import { age, block, count, styled, table, time } from "./output.ts";
import { action, type Io } from "./program.ts";
import { addExport, addReplay, streamOf } from "./replay.ts";

// What happened, and what happens, without any words or secrets. The past is read from the disk, beside whoever owns the home.

export function addLooking(program: Command): void {
  program
    .command("history")
    .description("show what happened, newest last")
    .argument("[stream]", "only that stream; the beginning of its name is enough")
    .option("--type <type>", "only events of that type; may be given several times", repeated)
    .option("--peer <peer>", "only what concerns that peer: its name or DID", asAddress)
    .option("--since <time>", "since a time, or so long ago: 2026-05-01T12:00, 12h, 30d", moment)
    .option("--until <time>", "until a time, or so long ago", moment)
    .option("--text <text>", "only events of which what is shown contains that")
    .option("--limit <n>", "show at most so many events, the newest", integer(1, Number.MAX_SAFE_INTEGER), HISTORY_PAGE)
    .option("--follow", "stay, and show what comes; Ctrl-C ends it")
    .option("--streams", "show which streams there are")
    .addHelpText("after", "\nWith --json each event is one line of JSON.")
    .action(action(history));
  addReplay(program);
  addExport(program);
  program
    .command("inspect")
    .description("show every actor and its whole history on a local page, and live to the Stately inspector")
    .option("--port <port>", "the port to listen at; 0 picks a free one", integer(0, PORT_MAX), 0)
    .option("--no-open", "only say where the page is")
    .action(action(inspect));
}

interface HistoryFlags {
  readonly type?: readonly string[];
  readonly peer?: string;
  readonly since?: number;
  readonly until?: number;
  readonly text?: string;
  readonly limit: number;
  readonly follow?: true;
  readonly streams?: true;
}

async function history(io: Io, stream: string | undefined, flags: HistoryFlags): Promise<void> {
  if (flags.streams) return showStreams(io);
  const { followHistory, formatHistory, readHistory } = await import("../inspect/history.ts");
  const { homeSource } = await import("../inspect/source.ts");
  const { type: types, peer, since, until, text, limit } = flags;
  const filter = { types, peer, since, until, text };
  const found = stream === undefined ? undefined : await streamOf(homeSource(io.directory), stream);
  const { lines, total } = await readHistory(io.directory, { stream: found, limit, ...filter });
  const print = (some: readonly HistoryLine[]) =>
    process.stdout.write(
      io.json ? some.map((each) => `${JSON.stringify(each)}\n`).join("") : `${block(formatHistory(some), "")}\n`,
    );
  if (lines.length > 0) print(lines);
  if (flags.follow) {
    const after = lines.at(-1)?.number ?? 0;
    const coming = followHistory(io.directory, { stream: found, after, ...filter }, interruption());
    for await (const each of coming) print([each]);
    return;
  }
  if (io.json) return;
  const counted = count(total, "event");
  const shown = total > lines.length ? `The last ${lines.length} of ${counted}; more with --limit.` : `${counted}.`;
  process.stdout.write(total === 0 ? "Nothing of that has happened here yet.\n" : `\n${styled("dim", shown)}\n`);
}

async function showStreams(io: Io): Promise<void> {
  const { listStreams } = await import("../inspect/history.ts");
  const streams = await listStreams(io.directory);
  const text =
    streams.length === 0
      ? "Nothing has happened here yet."
      : table(
          ["STREAM", "EVENTS", "FIRST", "LAST"],
          streams.map(({ stream, events, first_at, last_at }) => [
            stream,
            String(events),
            time(first_at),
            age(last_at),
          ]),
        );
  io.result({ streams }, text);
}

async function inspect(io: Io, { port, open }: { port: number; open: boolean }): Promise<void> {
  const stop = interrupted();
  const { startInspector } = await import("../inspect/server.ts");
  const { openBrowser } = await import("./browser.ts");
  const mesh = await openHome(io);
  let opened: (() => Promise<void>) | undefined;
  try {
    const { page, url, close } = await startInspector(mesh, { port, home: io.directory });
    io.result({ page, url }, page);
    io.note(`For the Stately inspector: ${url}`);
    io.note("Whoever has one of these addresses can look, on this machine only. Ctrl-C ends it.");
    if (open && process.stdout.isTTY && !io.json) opened = await openBrowser(page);
    const ended = await Promise.race([stop, mesh.closed.then(() => "owner ended" as const)]);
    await close();
    if (ended) throw new MeshError("closed", "The process that owned the state directory has ended.");
  } finally {
    await opened?.();
    await mesh.close();
  }
}
