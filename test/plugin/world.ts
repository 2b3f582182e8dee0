import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { openCluster } from "../../src/cluster/local.ts";
import type {
  ChatCommand,
  CliDescriptor,
  CommandContext,
  CommandReply,
  GatewayRequest,
  HostCommand,
  HttpRoute,
  PluginApi,
  Service,
  Tool,
  ToolContext,
  ToolResult,
} from "../../src/plugin/api.ts";
import { register } from "../../src/plugin/index.ts";

// The plugin as OpenClaw sees it: what it registers is kept and called.

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "kars-plugin-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

export interface Plugin {
  readonly names: readonly string[];
  readonly service: Service;
  readonly log: readonly string[];
  readonly command: ChatCommand;
  readonly cli: { readonly descriptors: readonly CliDescriptor[]; add(program: HostCommand): void };
  /** The methods of the gateway, and what a client must be allowed to call them. */
  readonly methods: ReadonlyMap<string, string>;
  readonly routes: readonly HttpRoute[];
  /** Types `/mesh …` as the owner, or as `context` says. */
  type(args: string, context?: CommandContext): Promise<CommandReply>;
  /** Calls a method of the gateway: its payload, or the error that it answers. */
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into payloads without parsing them
  request(name: string, params?: unknown): Promise<any>;
  tool(name: string, context?: ToolContext): Tool;
  call(name: string, params: unknown, options?: CallOptions): Promise<Answer>;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly context?: ToolContext;
  readonly onUpdate?: (partial: ToolResult) => void;
}

export interface Answer {
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into details without parsing them
  readonly details: any;
}

/** An API that keeps nothing. */
export const API: Omit<PluginApi, "pluginConfig"> = {
  logger: { info: () => undefined, warn: () => undefined },
  registerTool: () => undefined,
  registerService: () => undefined,
  registerCommand: () => undefined,
  registerCli: () => undefined,
  registerGatewayMethod: () => undefined,
};

export const RESERVED = ["status", "ok", "success", "error", "timedOut", "exitCode"];

/** Registers the plugin with this configuration. @param host what else of OpenClaw there is */
export function openPlugin(pluginConfig?: unknown, host: Pick<PluginApi, "config" | "runtime"> = {}): Plugin {
  const factories = new Map<string, (context: ToolContext) => Tool>();
  const services: Service[] = [];
  const log: string[] = [];
  const commands: ChatCommand[] = [];
  const clis: Plugin["cli"][] = [];
  const routes: HttpRoute[] = [];
  const methods = new Map<string, { readonly scope: string; readonly handler: (request: GatewayRequest) => unknown }>();
  register({
    ...host,
    pluginConfig,
    logger: { info: (text) => log.push(text), warn: (text) => log.push(text) },
    registerTool: (factory, { name }) => {
      factories.set(name, factory);
    },
    registerService: (service) => {
      services.push(service);
    },
    registerCommand: (command) => {
      commands.push(command);
    },
    registerCli: (registrar, { descriptors }) => {
      clis.push({ descriptors, add: (program) => registrar({ program }) });
    },
    registerHttpRoute: (route) => {
      routes.push(route);
    },
    registerGatewayMethod: (name, handler, { scope }) => {
      methods.set(name, { scope, handler });
    },
  });
  const one = <T>(registered: readonly T[], what: string): T => {
    const [first] = registered;
    if (first === undefined || registered.length !== 1) throw new Error(`${registered.length} ${what} were registered`);
    return first;
  };
  const service = one(services, "services");
  const command = one(commands, "commands");
  const tool = (name: string, context: ToolContext = {}) => {
    const factory = factories.get(name);
    if (!factory) throw new Error(`no tool ${name}`);
    return factory(context);
  };
  return {
    names: [...factories.keys()],
    service,
    routes,
    log,
    command,
    cli: one(clis, "command lines"),
    methods: new Map([...methods].map(([name, { scope }]) => [name, scope])),
    type: (args, context = { senderIsOwner: true }) => command.handler({ args, ...context }),
    request(name, params = {}) {
      return new Promise((resolve) => {
        const respond: GatewayRequest["respond"] = (ok, payload, error) => resolve(ok ? payload : error);
        methods.get(name)?.handler({ params, respond });
      });
    },
    tool,
    async call(name, params, { signal, context, onUpdate } = {}) {
      const { content, details } = await tool(name, context).execute("call-1", params, signal, onUpdate);
      for (const key of RESERVED) if (key in details) throw new Error(`details of ${name} carry ${key}`);
      return { text: content.map(({ text }) => text).join("\n"), details };
    },
  };
}

/** The plugin on a state directory, let go at the end of the test. */
export function openPluginAt(home: string, name?: string, acceptFrom?: string): Plugin {
  const plugin = openPlugin({ home, ...(name && { name }), ...(acceptFrom && { acceptFrom }) });
  onTestFinished(() => plugin.service.stop());
  return plugin;
}

/** A local cluster, and tokens for it. */
export async function startCluster() {
  const directory = await temporaryFolder();
  const cluster = await openCluster({ directory, host: "127.0.0.1", port: 0, name: "testbed" });
  onTestFinished(() => cluster.close());
  const token = async (name: string) => {
    const grant = { name, slots: 2, capabilities: ["offload"], expires_ms: 3_600_000 };
    return (await cluster.call("grant_issue", grant)).token;
  };
  return { cluster, token };
}

/** Two plugins of one cluster. @param acceptFrom from whom bob takes messages without being asked */
export async function pairTwo(
  acceptFrom?: string,
): Promise<{ alice: Plugin; bob: Plugin; aliceDid: string; bobDid: string }> {
  const { token } = await startCluster();
  const alice = openPluginAt(join(await temporaryFolder(), "alice"));
  const bob = openPluginAt(join(await temporaryFolder(), "bob"), "bob", acceptFrom);
  const first = await alice.call("mesh_pair", { token: await token("alice-laptop"), display_name: "alice" });
  const second = await bob.call("mesh_pair", { token: await token("bob-laptop") });
  return { alice, bob, aliceDid: first.details.did, bobDid: second.details.did };
}
