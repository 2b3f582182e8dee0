import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { PROGRAMS } from "../build.ts";

// The real command lines as processes of their own.

export type Program = keyof typeof PROGRAMS;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Options {
  /** What it reads; nothing unless given. */
  readonly input?: string | Buffer;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** The environment without anything that would speak to the command lines or colour them. What is compiled is kept: they are many. */
export const quiet = {
  ...Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(KARS_|NO_COLOR|FORCE_COLOR|NODE_OPTIONS|VITEST)/.test(name)),
  ),
  NODE_COMPILE_CACHE: fileURLToPath(new URL("../../.cache/compiled", import.meta.url)),
};

const running = new Set<Running>();

/** A process that goes on. */
export class Running {
  readonly #child: ChildProcess;
  readonly ended: Promise<Ended>;
  #stdout = "";
  #stderr = "";
  readonly #watchers = new Set<() => void>();

  constructor(program: Program, args: readonly string[], { input = "", env = {}, cwd }: Options = {}) {
    const child = spawn(process.execPath, [PROGRAMS[program], ...args], {
      env: { ...quiet, ...env },
      stdio: ["pipe", "pipe", "pipe"],
      ...(cwd === undefined ? {} : { cwd }),
    });
    this.#child = child;
    running.add(this);
    // A program that does not read what it is given closes its input early.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
      for (const watch of this.#watchers) watch();
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
      for (const watch of this.#watchers) watch();
    });
    this.ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => {
        running.delete(this);
        for (const watch of this.#watchers) watch();
        resolve({ code, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves with what matched, as soon as the output does. */
  async says(pattern: RegExp, stream: "stdout" | "stderr" = "stdout"): Promise<RegExpExecArray> {
    const text = () => (stream === "stdout" ? this.#stdout : this.#stderr);
    for (;;) {
      const found = pattern.exec(text());
      if (found) return found;
      if (!running.has(this))
        throw new Error(`ended without saying ${pattern}; stdout: ${this.#stdout}; stderr: ${this.#stderr}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#watchers.add(resolve);
      await promise;
      this.#watchers.delete(resolve);
    }
  }

  /** Nobody reads its output from now on. */
  stopReading(): void {
    this.#child.stdout?.destroy();
  }

  /** Sends a signal. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async end(signal: NodeJS.Signals = "SIGINT"): Promise<Ended> {
    this.signal(signal);
    return this.ended;
  }
}

const folders: string[] = [];

/** A directory of its own, removed in the end. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "kars-cli-"));
  folders.push(path);
  return path;
}

/** Ends whatever still runs, and removes the directories. */
export async function tidyUp(): Promise<void> {
  await Promise.all([...running].map((each) => each.end("SIGKILL")));
  for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
}

/** Runs a command to its end. */
export const run = (program: Program, args: readonly string[], options?: Options): Promise<Ended> =>
  new Running(program, args, options).ended;

/** The one JSON document that a command printed. */
export function documentOf({ stdout }: Ended): unknown {
  expect(stdout).toMatch(/^[^\n]+\n$/);
  return JSON.parse(stdout);
}

/** What a command failed with, in the form for programs. @param by what does the command line: a process unless given */
export async function failure(
  program: Program,
  args: readonly string[],
  by: (program: Program, args: readonly string[]) => Promise<Ended> = run,
): Promise<{ code: number | null; error: unknown }> {
  const ended = await by(program, [...args, "--json"]);
  const document = documentOf(ended);
  expect(document).toEqual({ error: { code: expect.any(String), message: expect.any(String) } });
  return { code: ended.code, error: (document as { error: { code: string } }).error.code };
}

/** A home and its commands. */
export class Laptop {
  readonly home: string;
  constructor(home = join(folder(), "home")) {
    this.home = home;
  }
  /** Runs a command to its end. */
  run(...args: string[]): Promise<Ended> {
    return run("kars-mesh", ["--home", this.home, ...args]);
  }
  start(...args: string[]): Running {
    return new Running("kars-mesh", ["--home", this.home, ...args]);
  }
  /** The document of a command that is done. */
  async json<T>(...args: string[]): Promise<T> {
    const ended = await this.run(...args, "--json");
    expect(ended, ended.stdout).toMatchObject({ code: 0 });
    return documentOf(ended) as T;
  }
  /** The text of a command that is done. */
  async text(...args: string[]): Promise<string> {
    const ended = await this.run(...args);
    expect(ended, ended.stderr).toMatchObject({ code: 0 });
    return ended.stdout;
  }
}

export interface Urls {
  readonly relay_url: string;
  readonly registry_url: string;
  readonly pair_url: string;
}

/** A cluster that runs, and its operator's commands. */
export class Cluster {
  readonly directory: string;
  process: Running;
  urls: Urls = { relay_url: "", registry_url: "", pair_url: "" };

  private constructor(directory: string, process: Running) {
    this.directory = directory;
    this.process = process;
  }

  static async up(...args: string[]): Promise<Cluster> {
    const directory = folder();
    const cluster = new Cluster(
      directory,
      new Running("kars-local", ["up", "--dir", directory, "--port", "0", ...args]),
    );
    await cluster.#ready();
    return cluster;
  }

  async #ready(): Promise<void> {
    const [line] = await this.process.says(/^.+\n/);
    this.urls = JSON.parse(line);
  }

  /** Starts it again, where it was. */
  async again(): Promise<void> {
    const { port } = new URL(this.urls.registry_url);
    this.process = new Running("kars-local", ["up", "--dir", this.directory, "--port", port]);
    await this.#ready();
  }

  run(...args: string[]): Promise<Ended> {
    return run("kars-local", ["--dir", this.directory, ...args]);
  }

  async json<T>(...args: string[]): Promise<T> {
    const ended = await this.run(...args, "--json");
    expect(ended, ended.stdout).toMatchObject({ code: 0 });
    return documentOf(ended) as T;
  }

  async token(name: string, ...args: string[]): Promise<string> {
    const { token } = await this.json<{ token: string }>("pair", "generate", "--name", name, ...args);
    return token;
  }

  /** A laptop that is paired under this name. */
  async laptop(name: string, ...args: string[]): Promise<Laptop & { readonly did: string }> {
    const laptop = new Laptop();
    const { did } = await laptop.json<{ did: string }>("pair", await this.token(name, ...args));
    return Object.assign(laptop, { did });
  }
}
