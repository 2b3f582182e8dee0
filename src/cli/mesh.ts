import { type Command, Option } from "commander";
import type { Places } from "../actors/places.ts";
import { FILE_MEGABYTES, FILE_MEGABYTES_MAX } from "../limits.ts";
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

const place = (flags: string, what: string, variable: string) =>
  new Option(flags, `where the ${what} is reached from here, in place of what the cluster says`).env(variable);

// The laptop's command line: `kars-mesh`, and `openclaw mesh` in OpenClaw's own.

/** @param options.pairAs the name that pairing asks for when none is given */
export function createMeshProgram(options: {
  readonly name: string;
  readonly directory: DirectoryOption;
  readonly pairAs?: string | undefined;
  readonly places?: Places | undefined;
  /** Megabytes of a file, when the command line does not say it. */
  readonly maxFile?: number | undefined;
}): Command {
  const { name, directory, pairAs, places = {}, maxFile } = options;
  const description = "This laptop as a peer on an end-to-end encrypted agent mesh.";
  const program = createProgram({ name, description, directory })
    .addOption(place("--relay <url>", "relay", "KARS_MESH_RELAY_URL").default(places.relayUrl))
    .addOption(place("--registry <url>", "registry", "KARS_MESH_REGISTRY_URL").default(places.registryUrl))
    .addOption(
      new Option(
        "--max-file <MB>",
        `the largest file that goes or comes with an offload, at most ${FILE_MEGABYTES_MAX} (default: ${FILE_MEGABYTES})`,
      )
        .env("KARS_MESH_MAX_FILE")
        .default(maxFile?.toString()),
    );
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

/** What the plugin's configuration says. */
interface Configured {
  readonly home: string;
  readonly name: string | undefined;
  readonly places: Places;
  readonly maxFile: number | undefined;
}

/**
 * Does what was typed behind `openclaw mesh`, as `kars-mesh` does it.
 * @param home the state directory of the plugin, absolute
 * @returns the exit code
 */
export function runInOpenClaw(words: readonly string[], { home, name, places, maxFile }: Configured): Promise<number> {
  const directory = { flags: "--home <dir>", otherwise: home, shown: home };
  return run(createMeshProgram({ name: "openclaw mesh", directory, pairAs: name, places, maxFile }), words);
}
