/** Homes are their owner's alone: each file and directory, at every moment, whatever the umask. */
import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../store/disks.ts";

const USE = fileURLToPath(new URL("./use.ts", import.meta.url));

it.each(["000", "077"])("after real use with the umask %s", { timeout: 120_000 }, async (umask) => {
  const directory = join(await temporaryDirectory(), "all");
  await mkdir(directory, { mode: 0o700 });
  const env = { PATH: process.env.PATH };
  const { stdout } = await promisify(execFile)(process.execPath, ["--no-warnings", USE, directory, umask], { env });
  const { over, seen, wrong }: { over: { status: string }; seen: string[]; wrong: string[] } = JSON.parse(stdout);
  expect(wrong).toEqual([]);
  expect(over.status).toBe("done");
  // It was real use: each kind of file was there to be looked at.
  for (const kind of [
    /^deeper$/,
    /^deeper\/laptop\/journal\/….jsonl$/,
    /^deeper\/laptop\/offloads\/…\/result\.txt$/,
    /^deeper\/laptop\/snapshots\/snapshots\.json$/,
    /^deeper\/laptop\/owner\.lock$/,
    /^deeper\/laptop\/owner\.sock$/,
    /^deeper\/laptop\/store\.key$/,
    /^deeper\/laptop\/vault$/,
    /^alone\/blobs\/…$/,
    /^cluster\/server\//,
    /^cluster\/controller\/vault$/,
    /^cluster\/sandboxes\/[^/]+\/home\/store\.key$/,
    /^cluster\/sandboxes\/[^/]+\/work\/out$/,
    /^cluster\/sandboxes\/[^/]+\/work\/.*task\.mjs$/,
  ])
    expect(
      seen.filter((name) => kind.test(name)),
      String(kind),
    ).not.toEqual([]);
});
