import { hash } from "node:crypto";
import { z } from "zod";
import { type Disk, joinPath } from "./disk.ts";

// Snapshots are a cache: what folding the journal up to a position gave. A missing, foreign or broken one costs the time of
// folding again, nothing else.

const FILE = "snapshots.json";

const File = z.object({ versions: z.string(), position: z.int().min(0), state: z.unknown() });

export interface SnapshotFile {
  /** Every machine's and projection's version, joined: another text means another meaning, and the cache is ignored. */
  readonly versions: string;
  readonly position: number;
  readonly state: unknown;
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
