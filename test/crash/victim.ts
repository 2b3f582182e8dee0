/** A process of the crash loop, seen from the test: it is asked, it answers or dies. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

const PROGRAM = join(import.meta.dirname, "process.ts");

/** What a call ends with when its process is killed. */
export class Gone extends Error {}
/** What a call ends with when the node refuses it. */
export class Refused extends Error {
  readonly code: string;
  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

interface Waiting {
  readonly resolve: (result: never) => void;
  readonly reject: (error: Error) => void;
}

export class Victim {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #cache: string;
  readonly #program: string;
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  #waiting = new Map<number, Waiting>();
  #next = 1;
  #ready = Promise.withResolvers<void>();
  /** How often it was killed. */
  kills = 0;

  /**
   * @param cache where compiled modules are kept between its lives
   * @param program what it runs, which answers as `process.ts` does
   */
  constructor(name: string, args: readonly string[], cache: string, program = PROGRAM) {
    this.name = name;
    this.#args = args;
    this.#cache = cache;
    this.#program = program;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  /** Begins a life. Resolves when it is open; rejects with Gone when it is killed before. */
  start(): Promise<void> {
    if (this.#child) return this.#ready.promise;
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", this.#program, ...this.#args], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { NODE_COMPILE_CACHE: this.#cache, ...process.env },
    });
    this.#child = child;
    this.#ready = Promise.withResolvers();
    const ready = this.#ready;
    ready.promise.catch(() => undefined);
    let errors = "";
    child.stderr.on("data", (chunk) => {
      errors += chunk;
    });
    // A write to a process that is dying; its exit says so.
    child.stdin.on("error", () => undefined);
    createInterface({ input: child.stdout }).on("line", (line) => {
      const { ready: role, id, result, error } = JSON.parse(line);
      if (role !== undefined) {
        if (role === "owner") ready.resolve();
        else ready.reject(new Error(`${this.name} is ${role}`));
      }
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error !== undefined) waiting?.reject(new Refused(error));
      else waiting?.resolve(result as never);
    });
    this.#ended = once(child, "exit").then(([code, signal]) => {
      this.#child = undefined;
      const wasKilled = signal === "SIGKILL" || code === 0;
      const error = wasKilled ? new Gone(this.name) : new Error(`${this.name} ended with ${code ?? signal}: ${errors}`);
      ready.reject(error);
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
    return ready.promise;
  }

  call<R = unknown>(name: string, params: object = {}): Promise<R> {
    const id = this.#next++;
    return new Promise<R>((resolve, reject) => {
      if (!this.#child) return reject(new Gone(this.name));
      this.#waiting.set(id, { resolve, reject });
      this.#child.stdin?.write(`${JSON.stringify({ id, call: name, params })}\n`);
    });
  }

  /** Ends it as the power does. Resolves when it is gone. */
  async kill(): Promise<void> {
    if (!this.#child) return;
    this.kills++;
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  /** Ends it as a person does. */
  async close(): Promise<void> {
    if (!this.#child) return;
    await this.call("close");
    await this.#ended;
  }
}
