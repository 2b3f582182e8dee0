import { hash } from "node:crypto";
import { z } from "zod";
import { type Disk, joinPath } from "./disk.ts";
import type { CheckedSegment } from "./recovery.ts";

// Snapshots are a cache: what folding the journal up to a position gave. A missing, foreign or broken one costs the time of
// folding again, nothing else.

const FILE = "snapshots.json";

const Count = z.int().min(0);
const Checked = z.object({ segment: z.string(), size: Count, digest: z.string(), tail: Count });
const File = z.object({
  versions: z.string(),
  position: Count,
  state: z.unknown(),
  checked: z.array(Checked).optional(),
});

export interface SnapshotFile {
  /** Every machine's and projection's version, joined: another text means another meaning, and the cache is ignored. */
  readonly versions: string;
  readonly position: number;
  readonly state: unknown;
  /** What was checked of the journal by then, so that it need not be read line by line again. */
  readonly checked?: readonly CheckedSegment[] | undefined;
}

/** The snapshots of these versions, or of any. */
export async function readSnapshots(disk: Disk, home: string, versions?: string): Promise<SnapshotFile | undefined> {
  try {
    const bytes = await disk.read(joinPath(home, "snapshots", FILE));
    if (!bytes) return undefined;
    const text = Buffer.from(bytes).toString("utf8");
    const newline = text.indexOf("\n");
    const body = text.slice(newline + 1);
    if (hash("sha256", body, "hex") !== text.slice(0, newline)) return undefined;
    const file = File.parse(JSON.parse(body));
    return versions === undefined || file.versions === versions ? file : undefined;
  } catch {
    // A cache that cannot be read is no cache; the journal has everything.
    return undefined;
  }
}

export async function writeSnapshots(disk: Disk, home: string, file: SnapshotFile): Promise<void> {
  const body = JSON.stringify(file);
  await disk.makeDirectory(joinPath(home, "snapshots"));
  await disk.replace(joinPath(home, "snapshots", FILE), Buffer.from(`${hash("sha256", body, "hex")}\n${body}`, "utf8"));
}
