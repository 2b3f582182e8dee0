import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TaskOptions, TaskResult } from "./task.ts";

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("`", "'");

/** What becomes of a task that nobody can read: a list of the files that came with it, which says so. */
export async function inventory({ files, directory, onProgress }: TaskOptions): Promise<TaskResult> {
  const rows: string[] = [];
  let bytes = 0;
  for (const [index, name] of files.entries()) {
    const content = await readFile(join(directory, name));
    bytes += content.length;
    const lines = content.reduce((count, byte) => count + (byte === 10 ? 1 : 0), 0);
    rows.push(
      `| ${cell(name)} | ${content.length} | ${lines} | \`${createHash("sha256").update(content).digest("hex")}\` |`,
    );
    onProgress({ stage: "running", message: `read ${name}`, pct: Math.round(((index + 1) / files.length) * 100) });
  }
  const note =
    "No agent runner is configured on this cluster, so nobody read the task: this is an inventory of the files that came with it. " +
    "Send a script and the task `run <file> [arguments]`, or start the cluster with --runner.";
  const report = [
    "# Inventory",
    "",
    note,
    "",
    "| name | bytes | lines | SHA-256 |",
    "| --- | ---: | ---: | --- |",
    ...rows,
    "",
  ].join("\n");
  const path = join(directory, "out", "inventory.md");
  await writeFile(path, report);
  return {
    ok: true,
    exit: null,
    summary: `${note}\n\n${files.length} files, ${bytes} bytes; see inventory.md.`,
    files: [path],
  };
}
