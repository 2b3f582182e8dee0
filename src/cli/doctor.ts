import type { Command } from "commander";
import type { Repair } from "../actors/repair.ts";
import type { Unlock } from "../actors/unlock.ts";
import { asMeshError } from "../errors.ts";
import type { Check, DoctorReport } from "../inspect/doctor/doctor.ts";
import { unlocking } from "./home.ts";
import { count, line, styled, time } from "./output.ts";
import { action, type Io } from "./program.ts";

// Whether all that a home stands on is sound, and making a damaged one whole as far as that can be done.

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("check everything this home stands on, and repair it if asked to")
    .option("--repair", "salvage what is sound of a damaged home, and take from others what they could read")
    .addHelpText(
      "after",
      `
Without --repair nothing is changed. Exit 0: no check is a problem; exit 1: one is.

--repair puts the longest sound part of a damaged home in its place and keeps the damaged one beside it, as <home>.damaged-<time>.
The identity, the pairing and the words of that part stay. Every session is closed, and opened anew with the next message to
each peer: messages that had not left are sent again; what peers send before that cannot be read, and is counted.
No other process may have the home open.`,
    )
    .action(action(doctor));
}

async function doctor(io: Io, { repair: wanted = false }: { repair?: boolean }): Promise<void> {
  const { examine } = await import("../inspect/doctor/doctor.ts");
  const { networkAt } = await import("../actors/network.ts");
  const { realClock } = await import("../actors/ports.ts");
  const repaired = wanted ? await attemptRepair(io) : undefined;
  const unlock = repaired?.unlock;
  const report = await examine({
    home: io.directory,
    network: networkAt(io.directory),
    clock: realClock,
    places: io.places,
    ...(unlock && { unlock }),
  });
  const checks = repaired ? [...repaired.checks, ...report.checks] : report.checks;
  const document = { checks, ok: !checks.some(isProblem), ...(repaired && { repair: repaired.repair }) };
  io.result(document, textOf(document));
  if (!document.ok) process.exitCode = 1;
}

const isProblem = ({ status }: Check) => status === "problem";

/** What a repair did, as checks: it is told whether it could be done or not, and then everything is looked at all the same. */
async function attemptRepair(io: Io) {
  const { repairHome } = await import("../actors/repair.ts");
  const { narrowPermissions } = await import("../inspect/doctor/files.ts");
  const { networkAt } = await import("../actors/network.ts");
  const { realPorts } = await import("../actors/ports.ts");
  const home = io.directory;
  const checks: Check[] = [];
  const say = (status: Check["status"], message: string) => checks.push({ name: "repair", status, message });
  let unlock: Unlock | undefined;
  let repair: Repair | null = null;
  try {
    const narrowed = await narrowPermissions(home);
    if (narrowed > 0) say("ok", `Yours alone again: ${count(narrowed, "file")} and directories.`);
    repair = await unlocking(io, (given) => {
      unlock = given;
      return repairHome({ home, ports: realPorts(networkAt(home)), unlock: given });
    });
    for (const sentence of sentencesOf(repair)) say("ok", sentence);
  } catch (error) {
    const { code, message } = asMeshError(error);
    const more =
      code === "store_damaged" || code === "store_key_unreadable"
        ? " What happened can still be read: kars-mesh history."
        : "";
    const reason =
      code === "store_locked" ? "Another process has the home open: end it, and repeat this." : message + more;
    say("problem", `Nothing was repaired. ${reason}`);
  }
  return { checks, repair, unlock };
}

function sentencesOf(repair: Repair): string[] {
  const { outcome, damaged, kept, left, secrets_unreadable, sessions_closed, queued, given_up } = repair;
  const lost = given_up > 0 ? `Given up, since their words are gone: ${count(given_up, "message")}.` : "";
  const aside = damaged === null ? "" : `The damaged home is kept at ${damaged}. Delete it when you miss nothing.`;
  const from = left?.from ? `, from ${time(left.from)} on` : "";
  const until = kept?.until ? `, up to ${time(kept.until)}` : "";
  const told = {
    sound: ["The home opens: there was nothing to salvage.", lost],
    finished: ["A repair that was interrupted is finished.", aside],
    repaired: [
      `The home now has what is sound: ${count(kept?.commits ?? 0, "commit")}${until}.`,
      left?.commits ? `Left in the damaged home only: ${count(left.commits, "commit")}${from}.` : "",
      secrets_unreadable > 0
        ? `Kept without their secrets, which do not open: ${count(secrets_unreadable, "commit")}.`
        : "",
      sessions_closed > 0
        ? `Closed: ${count(sessions_closed, "session")}. The next message to each peer opens a new one; what a peer sends before that cannot be read.`
        : "",
      queued > 0 ? `Waiting to be sent: ${count(queued, "message")}.` : "",
      lost,
      aside,
    ],
  };
  return told[outcome].filter((sentence) => sentence !== "");
}

const STYLES = { ok: "green", note: "yellow", problem: "red" } as const;

/** A line for each check, its sentences wrapped beneath each other. */
function textOf({ checks }: DoctorReport): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const indent = " ".repeat("problem".length + width + 4);
  const columns = Math.max(40, (process.stdout.columns ?? 100) - indent.length);
  const rows = checks.map(({ name, status, message }) => {
    const [first = "", ...rest] = wrap(line(message), columns);
    const head = `${styled(STYLES[status], status.padEnd("problem".length))}  ${styled("bold", name.padEnd(width))}  ${first}`;
    return [head, ...rest.map((each) => indent + each)].join("\n");
  });
  const problems = checks.filter(isProblem).length;
  const notes = checks.filter(({ status }) => status === "note").length;
  const sum = problems === 0 ? "All is well" : `${count(problems, "problem")}`;
  const verdict = `${sum}${notes > 0 ? `, ${count(notes, "note")}` : ""}.`;
  return `${rows.join("\n")}\n\n${styled(problems > 0 ? "red" : "green", verdict)}`;
}

/** Words on lines of at most so many characters; a longer word has a line of its own. */
function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= columns) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
