import type { Command } from "commander";
import { addAdmission } from "./admission.ts";
import { addDemo } from "./demonstration.ts";
import { addDoctor } from "./doctor.ts";
import { addForget } from "./forget.ts";
import { addDiscovery, addIdentity } from "./identity.ts";
import { addKey } from "./key.ts";
import { addLooking } from "./looking.ts";
import { addMessages } from "./messages.ts";
import { addOffloads } from "./offload.ts";
import { addRun } from "./online.ts";
import { createProgram, type DirectoryOption, run } from "./program.ts";
import { addVerify } from "./verify.ts";

// The laptop's command line: `kars-mesh`, and `openclaw mesh` in OpenClaw's own.

/** @param options.pairAs the name that pairing asks for when none is given */
export function createMeshProgram(options: {
  readonly name: string;
  readonly directory: DirectoryOption;
  readonly pairAs?: string | undefined;
}): Command {
  const { name, directory, pairAs } = options;
  const description = "This laptop as a peer on an end-to-end encrypted agent mesh.";
  const program = createProgram({ name, description, directory });
  program.commandsGroup("Identity:");
  addIdentity(program, pairAs);
  addVerify(program);
  addAdmission(program);
  addForget(program);
  addKey(program);
  program.commandsGroup("Messages:");
  addMessages(program);
  addDiscovery(program);
  addRun(program);
  program.commandsGroup("Work:");
  addOffloads(program);
  program.commandsGroup("Looking inside:");
  addLooking(program);
  addDoctor(program);
  program.commandsGroup("Trying it out:");
  addDemo(program);
  return program;
}

/**
 * Does what was typed behind `openclaw mesh`, as `kars-mesh` does it.
 * @param home the state directory of the plugin, absolute
 * @returns the exit code
 */
export function runInOpenClaw(
  words: readonly string[],
  { home, name }: { readonly home: string; readonly name: string | undefined },
): Promise<number> {
  const directory = { flags: "--home <dir>", otherwise: home, shown: home };
  return run(createMeshProgram({ name: "openclaw mesh", directory, pairAs: name }), words);
}
