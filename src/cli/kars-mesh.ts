#!/usr/bin/env -S node --disable-warning=ExperimentalWarning
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
import { createProgram, main } from "./program.ts";
import { addVerify } from "./verify.ts";

const program = createProgram({
  name: "kars-mesh",
  description: "This laptop as a peer on an end-to-end encrypted agent mesh.",
  directory: { flags: "--home <dir>", variable: "KARS_MESH_HOME", below: "mesh" },
});

program.commandsGroup("Identity:");
addIdentity(program);
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

await main(program);
