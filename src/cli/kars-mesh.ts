#!/usr/bin/env -S node --disable-warning=ExperimentalWarning
import { homedir } from "node:os";
import { join } from "node:path";
import { createMeshProgram } from "./mesh.ts";
import { main } from "./program.ts";

const program = createMeshProgram({
  name: "kars-mesh",
  directory: {
    flags: "--home <dir>",
    variable: "KARS_MESH_HOME",
    otherwise: join(homedir(), ".kars", "mesh"),
    shown: "~/.kars/mesh",
  },
});

await main(program);
