import type { Command } from "commander";
import { MeshError } from "../errors.ts";
import { HISTORY_PAGE } from "../inspect/limits.ts";
import { PORT_MAX } from "../limits.ts";
import { integer } from "./arguments.ts";
import { openHome } from "./home.ts";
import { interrupted } from "./interruption.ts";
import { age, block, count, facts, line, styled, table, time } from "./output.ts";
import { action, type Io } from "./program.ts";

// What happened, and what happens, without any words or secrets. The past is read from the disk, beside whoever owns the home.

export function addLooking(program: Command): void {
  program
    .command("history")
    .description("show what happened, newest last")
    .argument("[stream]", "only that stream; the beginning of its name is enough")
    .option("--limit <n>", "show at most so many events", integer(1, Number.MAX_SAFE_INTEGER), HISTORY_PAGE)
    .option("--streams", "show which streams there are")
    .action(action(history));
  program
    .command("replay")
    .description("fold a stream's events anew and show the state they give; nothing is done")
    .argument("<stream>", "the stream; the beginning of its name is enough")
    .option("--at <n>", "as it was after commit n", integer(0, Number.MAX_SAFE_INTEGER))
    .action(action(replay));
  program
    .command("inspect")
    .description("show every actor live, as a stream for the Stately inspector")
    .option("--port <port>", "the port to listen at; 0 picks a free one", integer(0, PORT_MAX), 0)
    .action(action(inspect));
}

/** The stream that is meant by its name or the beginning of it; as the timeline shows it, `did:mesh:` may be left out. */
async function streamOf(home: string, text: string): Promise<string> {
  const { listStreams } = await import("../inspect/history.ts");
  const wanted = text.replace(/…$/, "");
  const names = (await listStreams(home)).map(({ stream }) => stream);
  if (names.includes(wanted)) return wanted;
  const [found, ...others] = names.filter(
    (name) => name.startsWith(wanted) || name.replace("did:mesh:", "").startsWith(wanted),
  );
  if (others.length > 0)
    throw new MeshError(
      "input_invalid",
      `${count(others.length + 1, "stream")} begin with ${line(wanted)}. Give more of the name.`,
    );
  return found ?? wanted;
}

async function history(
  io: Io,
  stream: string | undefined,
  { limit, streams }: { limit: number; streams?: true },
): Promise<void> {
  if (streams) return showStreams(io);
  const { formatHistory, readHistory } = await import("../inspect/history.ts");
  const found = stream === undefined ? undefined : await streamOf(io.directory, stream);
  const page = await readHistory(io.directory, { stream: found, limit });
  const { lines, total } = page;
  if (total === 0) {
    io.result(page, "Nothing has happened here yet.");
    return;
  }
  const shown =
    total === lines.length ? count(total, "event") : `The last ${lines.length} of ${total} events; more with --limit`;
  io.result(page, `${block(formatHistory(lines), "")}\n\n${styled("dim", `${shown}.`)}`);
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

async function replay(io: Io, stream: string, { at }: { at?: number }): Promise<void> {
  const { replayStream } = await import("../inspect/replay.ts");
  const found = await replayStream(io.directory, await streamOf(io.directory, stream), at);
  const text = [
    facts([
      ["stream", found.stream],
      ["events", String(found.events)],
      ["commit", found.at === null ? "before its first" : `${found.number} at ${time(found.at)} (${age(found.at)})`],
      ["state", JSON.stringify(found.value).replaceAll(/["{}]/g, "").replaceAll(":", ".")],
      ["accepts", found.accepts.join(", ")],
      ["pending", found.effects.join(", ")],
      ...found.timers.map((timer): [string, string] => ["deadline", `${timer.id} ${age(timer.at)}`]),
    ]),
    block(JSON.stringify(found.context, null, 2), ""),
  ];
  io.result(found, text.join("\n\n"));
}

async function inspect(io: Io, { port }: { port: number }): Promise<void> {
  const stop = interrupted();
  const { startInspector } = await import("../inspect/server.ts");
  const mesh = await openHome(io);
  try {
    const { url, close } = await startInspector(mesh, { port });
    io.result({ url }, url);
    io.note("Whoever has this address can look, on this machine only. Ctrl-C ends it.");
    const ended = await Promise.race([stop, mesh.closed.then(() => "owner ended" as const)]);
    await close();
    if (ended) throw new MeshError("closed", "The process that owned the state directory has ended.");
  } finally {
    await mesh.close();
  }
}
