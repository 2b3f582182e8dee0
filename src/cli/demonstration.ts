import type { Command } from "commander";
import { action, type Io } from "./program.ts";

export function addDemo(program: Command): void {
  program.command("demo").description("the whole story on a local cluster: pair, talk, offload").action(action(demo));
}

async function demo(io: Io): Promise<void> {
  const { runDemo } = await import("./demo.ts");
  await runDemo({ json: io.json });
}
