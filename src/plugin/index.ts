import { oneLine } from "../foreign.ts";
import type { PluginApi } from "./api.ts";
import { registerCli } from "./cli.ts";
import { meshCommand } from "./command.ts";
import { type PluginConfig, readConfig } from "./config.ts";
import { registerGatewayMethods } from "./gateway.ts";
import { registerInspector } from "./inspector.ts";
import { nodeAt, type PluginNode } from "./node.ts";
import { Notifier } from "./notifier.ts";
import { mainSession } from "./origin.ts";
import { toolError } from "./render.ts";
import { TOOLS } from "./tools.ts";

// The OpenClaw extension. OpenClaw evaluates this module several times in one process and calls `register` in each: neither
// opens, reads or starts anything. The node opens with the first tool or command that needs it, or with the service.

const id = "kars-mesh";

/** @throws Error that names the field when the plugin's configuration is not valid */
export function register(api: PluginApi): void {
  const config = configOf(api);
  const node = nodeAt(config, (text) => api.logger.info(`${id}: ${oneLine(text)}`));
  for (const tool of TOOLS) api.registerTool((context) => tool.bind(node, config, context), { name: tool.name });
  api.registerCommand(meshCommand(node));
  registerGatewayMethods(api, node);
  registerCli(api, config);
  registerInspector(api, node);
  registerService(api, node, config);
}

function registerService(api: PluginApi, node: PluginNode, { notify }: PluginConfig): void {
  let stopping = new AbortController();
  let telling: Promise<void> | undefined;
  api.registerService({
    id,
    async start() {
      stopping = new AbortController();
      const notifier = notify === "off" ? undefined : notifierOf(api, node, notify);
      telling = notifier?.run(stopping.signal);
      await node.keep().catch((error: unknown) => {
        throw toolError(error);
      });
    },
    async stop() {
      stopping.abort();
      await telling;
      await node.close();
    },
  });
}

/** Undefined where OpenClaw has no way to tell a session something. */
function notifierOf(api: PluginApi, node: PluginNode, policy: "mention" | "wake"): Notifier | undefined {
  const { system, events } = api.runtime ?? {};
  if (!system) return undefined;
  const note = (text: string) => api.logger.warn(`${id}: ${oneLine(text)}`);
  return new Notifier({ node, system, events, policy, main: () => mainSession(api.config), note });
}

function configOf(api: PluginApi) {
  try {
    return readConfig(api.pluginConfig);
  } catch (error) {
    throw toolError(error);
  }
}

export const activate = register;

export default {
  id,
  name: "Kars Mesh",
  description:
    "Makes this OpenClaw a peer on an end-to-end encrypted agent mesh, and lets it hand heavy work to a cluster.",
  register,
};
