import { realNetwork } from "../actors/network.ts";
import { realPorts } from "../actors/ports.ts";
import { runTask } from "./runner/task.ts";
import { runSandbox } from "./sandbox.ts";
import { SandboxConfig } from "./sandboxes.ts";

// The process of one sandbox: told once by its parent what it is, and ended with it. What a task leaves behind in it is its
// owner's alone.
process.umask(0o077);
process.once("message", (message) => {
  runSandbox(SandboxConfig.parse(message), {
    ports: realPorts(realNetwork),
    runTask,
    ready: (did) => process.send?.({ ready: did }),
    note: (text) => console.error(text),
  }).then(
    (close) => {
      const end = () => {
        close().finally(() => process.exit(0));
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
