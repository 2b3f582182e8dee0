import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";
import type { Command } from "commander";
import { PRESETS } from "../cluster/runner/presets.ts";
import { OFFLOAD_TIMEOUT_MINUTES } from "../limits.ts";
import { table } from "./output.ts";
import { action, type Io } from "./program.ts";

// The agents that tasks can be given to by name, and whether they are here.

export function addRunners(program: Command): void {
  program
    .command("runners")
    .description("show the agents that up --runner knows by name")
    .addHelpText(
      "after",
      "\nAny other value of --runner is a command for the shell, with the task on its standard input.",
    )
    .action(action(runners));
}

/** Where a program lies on the search path; null when it is not there. */
async function find(program: string): Promise<string | null> {
  const endings = process.platform === "win32" ? [".exe", ".cmd", ".bat"] : [""];
  for (const folder of (process.env.PATH ?? "").split(delimiter))
    for (const ending of endings) {
      const path = join(folder, program + ending);
      // One that cannot be executed is as good as none.
      if (
        folder !== "" &&
        (await access(path, constants.X_OK).then(
          () => true,
          () => false,
        ))
      )
        return path;
    }
  return null;
}

async function runners(io: Io): Promise<void> {
  const found = await Promise.all(
    PRESETS.map(async ({ name, title, program, args, variables }) => ({
      name,
      title,
      command: [program, ...args(OFFLOAD_TIMEOUT_MINUTES)].join(" "),
      variables,
      path: await find(program),
    })),
  );
  io.result(
    { runners: found },
    table(
      ["NAME", "FOUND", "IS GIVEN", "IS CALLED AS"],
      found.map(({ name, path, command, variables }) => [name, path ?? "no", variables.join(" "), command]),
    ),
  );
}
