#!/usr/bin/env -S node --disable-warning=ExperimentalWarning
import { homedir } from "node:os";
import { join } from "node:path";
import { addAudit } from "./audit.ts";
import { addReplicas, addUp } from "./cluster.ts";
import { addNats } from "./nats.ts";
import { addPairings, addWhatRuns } from "./operator.ts";
import { createProgram, main } from "./program.ts";
import { addRunners } from "./runners.ts";

const program = createProgram({
  name: "kars-local",
  description: "A mesh cluster on this machine, and its operator's commands.",
  directory: {
    flags: "--dir <dir>",
    variable: "KARS_LOCAL_HOME",
    otherwise: join(homedir(), ".kars", "local"),
    shown: "~/.kars/local",
  },
});

addNats(program);
addUp(program);
addReplicas(program);
addPairings(program);
addWhatRuns(program);
addAudit(program);
addRunners(program);

await main(program);
