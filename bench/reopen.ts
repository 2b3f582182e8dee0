import { spawn } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compare, type Row, type Subject, summary, withDirectory } from "./harness.ts";
import { buildHome } from "./home.ts";

// Reopening a home with a long history, each time in a fresh process.

const SIZE = { sessions: 1_000, events: 1_000_000, messageSize: 1_000 };
const ROUNDS = 5;
const MEMORY_MAX = 1e9;

interface Result {
  readonly ms: number;
  /** The most that the process had resident, in bytes. */
  readonly memory: number;
  readonly found?: unknown;
}

function inProcess(role: string, home: string): Promise<Result> {
  const script = fileURLToPath(new URL("reopen-process.ts", import.meta.url));
  const child = spawn(process.execPath, [script, role, home], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (part: string) => {
    text += part;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) =>
      status === 0 ? resolve(JSON.parse(text)) : reject(new Error(`${role} ended with ${status}`)),
    );
  });
}

async function journalSize(home: string): Promise<number> {
  let size = 0;
  for (const name of await readdir(join(home, "journal"))) size += (await stat(join(home, "journal", name))).size;
  return size;
}

export const reopen: Subject = {
  name: "reopen",
  about: "opening a home of 1,000 sessions and 1,000,000 events, and the memory that takes",
  measure: (tell) =>
    withDirectory(async (directory) => {
      const home = join(directory, "home");
      tell("reopen: building the home");
      const { commits, events } = await buildHome(directory, home, SIZE);
      const size = await journalSize(home);
      const built = `${SIZE.sessions.toLocaleString("en-US")} sessions, ${events.toLocaleString("en-US")} events in ${commits.toLocaleString("en-US")} commits, ${Math.round(size / 1e6)} MB`;
      tell(`reopen: ${built}; without snapshots`);
      const folded = await inProcess("fold", home);
      tell("reopen: with the snapshots of a clean stop");
      const memory: number[] = [];
      const rows = await compare(
        { work: `reopening ${built}`, unit: "ms", rounds: ROUNDS },
        {
          name: "MeshNode.open",
          round: async () => {
            const opened = await inProcess("open", home);
            memory.push(opened.memory);
            return opened.ms;
          },
        },
        [
          {
            name: "fs.readFile of each segment",
            round: async () => (await inProcess("read", home)).ms,
            goal: { atMost: 2 },
          },
        ],
      );
      const { found } = await inProcess("use", home);
      tell(`reopen: used it: ${JSON.stringify(found)}`);
      const more: Row[] = [
        { work: "its memory at the most", unit: "bytes", ours: summary(memory), goal: { atMost: MEMORY_MAX } },
        { work: "the same without snapshots", unit: "ms", ours: summary([folded.ms]) },
        { work: "its memory at the most", unit: "bytes", ours: summary([folded.memory]) },
      ];
      return [...rows, ...more];
    }),
};
