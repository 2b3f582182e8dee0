import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { realNetwork } from "../actors/network.ts";
import { realPorts } from "../actors/ports.ts";
import { base64 } from "../crypto/index.ts";
import type { TaskNews } from "../wire/payload.ts";
import { governed } from "./runner/governed.ts";
import { runTask } from "./runner/task.ts";
import { runSandbox } from "./sandbox.ts";
import { SandboxConfig, SandboxFile } from "./sandboxes.ts";

// The process of one sandbox. It is told once what it is: by its parent, with which it ends, or by a file that its first
// argument or KARS_SANDBOX_CONFIG names, as in a pod. What a task leaves behind in it is its owner's alone.
process.umask(0o077);

/** What ends it, however far it is. */
let end: () => void = () => process.exit(0);
process.once("SIGTERM", () => end());
process.once("disconnect", () => end());

/** Resolves when the parent has been told all, or is gone. */
let telling: Promise<void> = Promise.resolve();
function tell(news: TaskNews | { readonly ready: string }): void {
  const told = new Promise<void>((resolve) => {
    if (process.connected) process.send?.(news, () => resolve());
    else resolve();
  });
  telling = telling.then(() => told);
}

function run(config: SandboxConfig, seed?: Uint8Array): void {
  const { grant, laptop, run: request_id, task_sha256: allowed, policy } = config;
  const subject = { grant, laptop, request_id };
  let working: Promise<unknown> = Promise.resolve();
  runSandbox(config, {
    ports: realPorts(realNetwork),
    runTask: (options, account) => {
      // One that a file tells what it is has no parent: its controller hears of the task over the mesh.
      const told = seed === undefined ? tell : account.tell;
      const result = governed({ subject, allowed, policy, tell: told }, runTask)(options);
      // Who asked for it is told of its failure.
      working = result.catch(() => undefined);
      return result;
    },
    seed,
    ready: (did) => tell({ ready: did }),
    note: (text) => console.error(text),
  }).then(
    (close) => {
      end = () => {
        close()
          .finally(() => working)
          .finally(() => telling)
          .finally(() => process.exit(0));
      };
    },
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
}

const path = process.argv[2] ?? process.env.KARS_SANDBOX_CONFIG;
if (path !== undefined) {
  const { seed, ...config } = SandboxFile.parse(JSON.parse(readFileSync(path, "utf8")));
  mkdirSync(join(config.directory, "work"), { recursive: true });
  run(config, base64.decode(seed));
} else if (process.send)
  process.once("message", (message) => {
    const config = SandboxConfig.parse(message);
    process.chdir(join(config.directory, "work"));
    process.env.HOME = config.directory;
    process.env.TMPDIR = config.directory;
    run(config);
  });
else {
  console.error("A sandbox is told what it is by a file: name it as the argument, or in KARS_SANDBOX_CONFIG.");
  process.exitCode = 2;
}
