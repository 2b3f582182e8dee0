import { realNetwork } from "../actors/network.ts";
import { realPorts } from "../actors/ports.ts";
import { governed } from "./runner/governed.ts";
import { runTask } from "./runner/task.ts";
import { runSandbox } from "./sandbox.ts";
import { SandboxConfig, type TaskNews } from "./sandboxes.ts";

// The process of one sandbox: told once by its parent what it is, and ended with it. What a task leaves behind in it is its
// owner's alone.

process.umask(0o077);

/** Resolves when the parent has been told all, or is gone. */
let telling: Promise<void> = Promise.resolve();
function tell(news: TaskNews | { readonly ready: string }): void {
  const told = new Promise<void>((resolve) => {
    if (process.connected) process.send?.(news, () => resolve());
    else resolve();
  });
  telling = telling.then(() => told);
}

process.once("message", (message) => {
  const config = SandboxConfig.parse(message);
  const { grant, laptop, run, task_sha256, policy } = config;
  const perform = governed(
    { subject: { grant, laptop, request_id: run }, allowed: task_sha256, policy, tell },
    runTask,
  );
  let working: Promise<unknown> = Promise.resolve();
  runSandbox(config, {
    ports: realPorts(realNetwork),
    runTask: (options) => {
      const result = perform(options);
      // Who asked for it is told of its failure.
      working = result.catch(() => undefined);
      return result;
    },
    ready: (did) => tell({ ready: did }),
    note: (text) => console.error(text),
  }).then(
    (close) => {
      const end = () => {
        close()
          .finally(() => working)
          .finally(() => telling)
          .finally(() => process.exit(0));
      };
      process.once("SIGTERM", end);
      process.once("disconnect", end);
    },
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
