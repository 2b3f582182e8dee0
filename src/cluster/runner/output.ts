import { createWriteStream, rmSync } from "node:fs";
import { finished } from "node:stream/promises";
import { SUMMARY_LENGTH_MAX } from "../../limits.ts";
import { LINE_SIZE_MAX, TASK_LOG_SIZE_MAX } from "./limits.ts";

// What a task says: its lines, their end, and the log of it all.

/** Cuts a stream of bytes into lines of text; a line that is too long comes in pieces. */
export class Lines {
  readonly #onLine: (line: string) => void;
  readonly #decoder = new TextDecoder();
  #rest = "";

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  add(chunk: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#onLine(line.replace(/\r$/, ""));
    if (this.#rest.length <= LINE_SIZE_MAX) return;
    this.#onLine(this.#rest);
    this.#rest = "";
  }

  end(): void {
    if (this.#rest !== "") this.#onLine(this.#rest);
    this.#rest = "";
  }
}

/** The last lines of an output, as many as a summary holds. */
export class Tail {
  #lines: string[] = [];
  #size = 0;

  add(line: string): void {
    this.#lines.push(line);
    this.#size += line.length + 1;
    while (this.#size > SUMMARY_LENGTH_MAX && this.#lines.length > 1)
      this.#size -= (this.#lines.shift()?.length ?? 0) + 1;
  }

  get text(): string {
    return this.#lines.join("\n").slice(-SUMMARY_LENGTH_MAX);
  }
}

/** All that a task prints, as it comes, in one file: its beginning and its end where it is too much. */
export class TaskLog {
  readonly path: string;
  /** Bytes that were printed. */
  size = 0;
  readonly #file: ReturnType<typeof createWriteStream>;
  #end: Buffer[] = [];
  #endSize = 0;
  #dropped = 0;
  #problem: Error | undefined;

  constructor(path: string) {
    this.path = path;
    // Never through what else may stand there.
    rmSync(path, { force: true });
    this.#file = createWriteStream(path, { flags: "wx", mode: 0o600 });
    this.#file.on("error", (error) => {
      this.#problem = error;
    });
  }

  add(chunk: Buffer): void {
    const half = TASK_LOG_SIZE_MAX / 2;
    const first = chunk.subarray(0, Math.max(0, half - this.size));
    this.size += chunk.length;
    if (first.length > 0) this.#file.write(first);
    const rest = chunk.subarray(first.length);
    if (rest.length === 0) return;
    this.#end.push(Buffer.from(rest));
    this.#endSize += rest.length;
    for (let oldest = this.#end[0]; oldest && this.#endSize - oldest.length >= half; oldest = this.#end[0]) {
      this.#end.shift();
      this.#endSize -= oldest.length;
      this.#dropped += oldest.length;
    }
  }

  /** Resolves with the file's path when it is whole; undefined when nothing was printed or it cannot be written. */
  async close(): Promise<string | undefined> {
    if (this.#dropped > 0) this.#file.write(`\n[${this.#dropped} bytes are left out here]\n`);
    for (const chunk of this.#end) this.#file.write(chunk);
    this.#file.end();
    await finished(this.#file).catch((error: Error) => {
      this.#problem = error;
    });
    return this.size === 0 || this.#problem ? undefined : this.path;
  }
}
