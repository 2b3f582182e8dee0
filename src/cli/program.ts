import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Command, CommanderError, Option } from "commander";
import { fileSizeMaxOf } from "../actors/file-size.ts";
import { type Places, placesOf } from "../actors/places.ts";
import { asMeshError, type ErrorCode } from "../errors.ts";
import { interruptedBy, interruption, unread } from "./interruption.ts";
import type { NatsChoice } from "./nats.ts";
import { json as asJson, block } from "./output.ts";

// What both command lines share: the global options, how results and errors are printed, and how a process ends.
//
//   exit 0  it was done                     exit 2  the command line is not understood
//   exit 1  it failed: the error says why   exit 3  the time was up (await)      exit 128+n  ended by a signal

/** What a command gets to speak with. */
export interface Io {
  /** One JSON document on stdout is wanted. */
  readonly json: boolean;
  /** The state directory. */
  readonly directory: string;
  /** Where relay and registry are reached from here, when that was said. */
  readonly places: Places;
  /** Where a cluster on NATS is, when that was said. */
  readonly nats: NatsChoice;
  /** Bytes of a file that goes or comes with an offload, when that was said. */
  readonly fileSizeMax: number | undefined;
  /** The result: the document with --json, else the text. */
  result(document: unknown, text: string): void;
  /** A line for people beside the result, on stderr. */
  note(text: string): void;
}

let documentPrinted = false;

function printDocument(document: unknown): void {
  documentPrinted = true;
  process.stdout.write(`${asJson(document)}\n`);
}

const note = (text: string): void => {
  process.stderr.write(`${text}\n`);
};

interface GlobalOptions extends Partial<NatsChoice> {
  readonly json?: true;
  readonly home?: string;
  readonly dir?: string;
  readonly relay?: string;
  readonly registry?: string;
  readonly maxFile?: string;
}

/** The action of a command: what it does with what was typed, and with the parts that all commands share. */
export const action = <A extends unknown[]>(work: (io: Io, ...args: A) => Promise<void>) =>
  function (this: Command, ...args: A): Promise<void> {
    const globals = this.optsWithGlobals<GlobalOptions>();
    const { json = false, home, dir, relay, registry, maxFile } = globals;
    const io: Io = {
      json,
      directory: resolve(home ?? dir ?? "."),
      places: placesOf({ relayUrl: relay, registryUrl: registry }, { relay: "--relay", registry: "--registry" }),
      nats: globals,
      fileSizeMax: fileSizeMaxOf(maxFile, "--max-file"),
      note,
      result: (document, text) => {
        if (json) printDocument(document);
        else if (text !== "") process.stdout.write(`${text}\n`);
      },
    };
    return work(io, ...args);
  };

export function packageVersion(): string {
  const described: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return typeof described === "object" && described !== null && "version" in described ? String(described.version) : "";
}

/** The option that names the state directory. */
export interface DirectoryOption {
  readonly flags: string;
  /** The environment variable that does so too. */
  readonly variable?: string;
  /** Where it is when neither is given, and how that is shown. */
  readonly otherwise: string;
  readonly shown: string;
}

/** A command line without its commands. */
export function createProgram(options: {
  readonly name: string;
  readonly description: string;
  readonly directory: DirectoryOption;
}): Command {
  const { flags, variable, otherwise, shown } = options.directory;
  const directory = new Option(flags, "the state directory").default(otherwise, shown);
  return new Command(options.name)
    .description(options.description)
    .addOption(variable === undefined ? directory : directory.env(variable))
    .option("--json", "print one JSON document on stdout, everything else on stderr")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand("help [command]", "print the help of a command")
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeErr: (text) => complaints.push(text) })
    .exitOverride();
}

/** What commander would have written on stderr. */
const complaints: string[] = [];

/** Says what the error is. Returns the exit code that it means. */
function report(program: Command, words: readonly string[], error: unknown): number {
  const wantsJson = words.includes("--json");
  const say = (code: ErrorCode, message: string) => {
    if (wantsJson && !documentPrinted) printDocument({ error: { code, message } });
    // It may repeat what others said.
    else note(block(message, ""));
  };
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    if (error.code === "commander.help" && !wantsJson) process.stderr.write(complaints.join(""));
    else say("input_invalid", usageSentence(program, words, error));
    return 2;
  }
  const failure = asMeshError(error);
  if (failure.code === "aborted" && interruption().aborted) {
    if (wantsJson && !documentPrinted && interruptedBy() !== undefined) printDocument(failure.toJSON());
    return interruptedBy() ?? 0;
  }
  say(failure.code, failure.message);
  return 1;
}

function usageSentence(program: Command, words: readonly string[], error: CommanderError): string {
  let command = program;
  let path = program.name();
  for (const word of words) {
    const next = command.commands.find((each) => each.name() === word);
    if (!next) continue;
    command = next;
    path += ` ${word}`;
  }
  const text = error.code === "commander.help" ? "A command is missing." : error.message;
  const plain = text
    .replace(/^error: /, "")
    .replaceAll(/\s*\n\s*/g, " ")
    .trim();
  const sentence = plain.charAt(0).toUpperCase() + plain.slice(1);
  return `${sentence}${/[.?)]$/.test(sentence) ? "" : "."} See ${path} --help.`;
}

const flushed = (stream: NodeJS.WriteStream) => new Promise<void>((resolve) => stream.write("", () => resolve()));

/** Does what was typed, and says how it went. Returns the exit code that this means. */
export async function run(program: Command, words: readonly string[]): Promise<number> {
  documentPrinted = false;
  try {
    await program.parseAsync(words, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    return report(program, words, error);
  }
}

/** Does what was typed, and ends the process. */
export async function main(program: Command): Promise<void> {
  const words = process.argv.slice(2);
  let lost: Error | undefined;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // Whoever read may have gone: then nothing more need be said. Any other error loses what was asked for.
    if (error.code !== "EPIPE") lost ??= error;
    unread();
  });
  // There is no place to say that nothing can be said.
  process.stderr.on("error", unread);
  let ending = false;
  const end = async (code: number) => {
    if (ending) return;
    ending = true;
    await flushed(process.stdout);
    if (lost) note(`The output could not be written: ${lost.message}.`);
    await flushed(process.stderr);
    process.exit(lost ? 1 : code);
  };
  process.on("uncaughtException", (error) => void end(report(program, words, error)));
  await end(await run(program, words));
}
