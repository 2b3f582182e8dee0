import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { networkOf } from "../actors/network.ts";
import { realPorts } from "../actors/ports.ts";
import { realEnvironment } from "../actors/proxy.ts";
import { base64 } from "../crypto/index.ts";
import type { TaskNews } from "../wire/payload.ts";
import { distrustOfCluster } from "./distrust.ts";
import { SANDBOX_LEAVE_WAIT_MS } from "./limits.ts";
import { governed } from "./runner/governed.ts";
import { runTask } from "./runner/task.ts";
import { type Agent, openAgent } from "./sandbox.ts";
import { Order, type Report } from "./sandbox-orders.ts";
import { type AgentConfig, type SandboxConfig, SandboxFile } from "./sandboxes.ts";

// The process of a sandbox. It is told who it is and what to do: by its parent, with which it ends, or by a file that its first
// argument or KARS_SANDBOX_CONFIG names, as in a pod. What a task leaves behind in it is its owner's alone.
process.umask(0o077);

const note = (text: string) => console.error(text);
function fail(error: unknown): never {
  console.error(error);
  process.exit(1);
}

/** Resolves when the parent has been told all, or is gone. */
let telling: Promise<void> = Promise.resolve();
function tell(report: Report): void {
  const told = new Promise<void>((resolve) => {
    if (process.connected) process.send?.(report, () => resolve());
    else resolve();
  });
  telling = telling.then(() => told);
}

/** What ends it, however far it is. One whose parent is gone is waited for by nobody. */
let end: (isOrphan: boolean) => void = () => process.exit(0);
process.once("SIGTERM", () => end(false));
process.once("disconnect", () => end(true));

async function open(config: AgentConfig, seed?: Uint8Array): Promise<Agent> {
  let isWanted = true;
  // It may be in the registry already, and is to leave it.
  end = (isOrphan) => {
    if (isOrphan) process.exit(0);
    isWanted = false;
    setTimeout(() => process.exit(0), SANDBOX_LEAVE_WAIT_MS);
  };
  const network = networkOf(realEnvironment, () => config.authorities ?? "");
  const distrust = await distrustOfCluster(network, config.registry_url);
  if (distrust !== undefined) {
    tell({ failed: distrust });
    await telling;
    throw new Error(distrust);
  }
  const agent = await openAgent(config, { ports: realPorts(network), seed, note });
  end = () => {
    agent
      .close()
      .finally(() => agent.ended())
      .finally(() => telling)
      .finally(() => process.exit(0));
  };
  if (isWanted) tell({ ready: agent.did });
  else end(false);
  return agent;
}

/** @param byParent whether its parent is told of the task; else its controller hears of it over the mesh */
function serve(agent: Agent, config: SandboxConfig, byParent: boolean): Promise<void> {
  const { grant, laptop, run, task_sha256: allowed, policy } = config;
  const subject = { grant, laptop, request_id: run };
  const toParent = (news: TaskNews) => tell({ run, news });
  return agent.serve(config, (options, account) =>
    governed({ subject, allowed, policy, tell: byParent ? toParent : account.tell }, runTask)(options),
  );
}

let opening: Promise<Agent> | undefined;

async function obey(order: Order): Promise<void> {
  if ("be" in order) {
    const { directory } = order.be;
    process.chdir(directory);
    process.env.HOME = directory;
    process.env.TMPDIR = directory;
    opening = open(order.be);
    await opening;
    return;
  }
  const agent = await opening;
  if (!agent) throw new Error("it was not told who it is");
  if ("serve" in order) return serve(agent, order.serve, true);
  await agent.drop(order.drop);
  tell({ dropped: order.drop });
}

const path = process.argv[2] ?? process.env.KARS_SANDBOX_CONFIG;
if (path !== undefined) {
  const { seed, ...config } = SandboxFile.parse(JSON.parse(readFileSync(path, "utf8")));
  mkdirSync(join(config.directory, "work"), { recursive: true });
  open(config, base64.decode(seed))
    .then((agent) => serve(agent, config, false))
    .catch(fail);
} else if (process.send) process.on("message", (message) => void obey(Order.parse(message)).catch(fail));
else {
  console.error("A sandbox is told what it is by a file: name it as the argument, or in KARS_SANDBOX_CONFIG.");
  process.exitCode = 2;
}
