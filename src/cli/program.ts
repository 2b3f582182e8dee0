import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { Command, CommanderError, Option } from "commander";
import { asMeshError, type ErrorCode } from "../errors.ts";
import { interruptedBy, interruption, unread } from "./interruption.ts";
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

interface GlobalOptions {
  readonly json?: true;
  readonly home?: string;
  readonly dir?: string;
}

/** The action of a command: what it does with what was typed, and with the parts that all commands share. */
export const action = <A extends unknown[]>(work: (io: Io, ...args: A) => Promise<void>) =>
  function (this: Command, ...args: A): Promise<void> {
    const { json = false, home, dir } = this.optsWithGlobals<GlobalOptions>();
    const io: Io = {
      json,
      directory: resolve(home ?? dir ?? "."),
      note,
      result: (document, text) => {
        if (json) printDocument(document);
        else if (text !== "") process.stdout.write(`${text}\n`);
      },
    };
    return work(io, ...args);
  };

function packageVersion(): string {
  const described: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return typeof described === "object" && described !== null && "version" in described ? String(described.version) : "";
}

/** A command line without its commands. */
export function createProgram(options: {
  readonly name: string;
  readonly description: string;
  /** The option that names the state directory, the variable that does so too, and where it is otherwise. */
  readonly directory: { readonly flags: string; readonly variable: string; readonly below: string };
}): Command {
  const { flags, variable, below } = options.directory;
  return new Command(options.name)
    .description(options.description)
    .addOption(
      new Option(flags, "the state directory")
        .env(variable)
        .default(join(homedir(), ".kars", below), `~/.kars/${below}`),
    )
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

/** Ends with the exit code that the error means, after saying what it is. */
function report(program: Command, error: unknown): number {
  const wantsJson = process.argv.includes("--json");
  const say = (code: ErrorCode, message: string) => {
    if (wantsJson && !documentPrinted) printDocument({ error: { code, message } });
    // It may repeat what others said.
    else note(block(message, ""));
  };
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    if (error.code === "commander.help" && !wantsJson) process.stderr.write(complaints.join(""));
    else say("input_invalid", usageSentence(program, error));
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

function usageSentence(program: Command, error: CommanderError): string {
  let command = program;
  let path = program.name();
  for (const word of process.argv.slice(2)) {
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

/** Runs what was typed, and ends the process. */
export async function main(program: Command): Promise<void> {
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
  process.on("uncaughtException", (error) => void end(report(program, error)));
  let code: number;
  try {
    await program.parseAsync();
    code = Number(process.exitCode ?? 0);
  } catch (error) {
    code = report(program, error);
  }
  await end(code);
}
