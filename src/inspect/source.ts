import { readFile, stat } from "node:fs/promises";
import { MeshError } from "../errors.ts";
import type { Commit } from "../store/journal.ts";
import { commitOf } from "./divergence.ts";
import { commitsOf } from "./fold.ts";
import { unknownStream } from "./history.ts";
import { parseRecording, type Recording } from "./recording.ts";

// Where a history comes from: the journal of a home, or a file that was exported of one.

export interface Source {
  readonly name: string;
  /** Its commits in order, those that touch a stream if one is named. */
  commits(stream?: string): AsyncIterable<Commit>;
  /** The refusal of a stream that is not there. */
  unknown(stream: string): Promise<MeshError>;
}

export interface FileSource extends Source {
  /** What the machines that recorded it made of it. */
  readonly recording: Recording;
}

export const homeSource = (home: string): Source => ({
  name: home,
  commits: (stream) => commitsOf(home, stream),
  unknown: (stream) => unknownStream(commitsOf(home), stream),
});

/** @throws MeshError `input_invalid` when it is no exported history */
export async function fileSource(path: string): Promise<FileSource> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new MeshError("file_unreadable", `${path}:`, { cause });
  });
  return sourceOf(path, parseRecording(path, text));
}

export function sourceOf(name: string, recording: Recording): FileSource {
  async function* commits(stream?: string): AsyncGenerator<Commit> {
    for (const event of recording.events) if (stream === undefined || event.stream === stream) yield commitOf(event);
  }
  return { name, recording, commits, unknown: (stream) => unknownStream(commits(), stream) };
}

/** Whether what was named is a file: then it is an exported history, and no stream. */
export const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
