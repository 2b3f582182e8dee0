import { z } from "zod";
import { TaskNews } from "../wire/payload.ts";
import { Did } from "../wire/text.ts";
import { AgentConfig, SandboxConfig } from "./sandboxes.ts";

// What a cluster and the process of a sandbox say to each other.

/** First who it is, once; then what to do, and what to let go of. */
export const Order = z.union([
  z.object({ be: AgentConfig }),
  z.object({ serve: SandboxConfig }),
  z.object({ drop: z.string() }),
]);
export type Order = z.infer<typeof Order>;

/** It cannot be an agent of the cluster, and ends; it is on the mesh; how a task goes; nothing of a task is left. */
export const Report = z.union([
  z.object({ failed: z.string().max(2000) }),
  z.object({ ready: Did }),
  z.object({ run: z.string(), news: TaskNews }),
  z.object({ dropped: z.string() }),
]);
export type Report = z.infer<typeof Report>;
