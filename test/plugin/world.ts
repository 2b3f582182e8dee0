import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { Service, Tool, ToolContext, ToolResult } from "../../src/plugin/api.ts";
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

export const RESERVED = ["status", "ok", "success", "error", "timedOut", "exitCode"];

/** Registers the plugin with this configuration. */
export function openPlugin(pluginConfig?: unknown): Plugin {
  const factories = new Map<string, (context: ToolContext) => Tool>();
  const services: Service[] = [];
  const log: string[] = [];
  register({
    pluginConfig,
    logger: { info: (text) => log.push(text), warn: (text) => log.push(text) },
    registerTool: (factory, { name }) => {
      factories.set(name, factory);
    },
    registerService: (service) => {
      services.push(service);
    },
  });
  const [service] = services;
  if (!service || services.length !== 1) throw new Error(`${services.length} services were registered`);
  const tool = (name: string, context: ToolContext = {}) => {
    const factory = factories.get(name);
    if (!factory) throw new Error(`no tool ${name}`);
    return factory(context);
  };
  return {
    names: [...factories.keys()],
    service,
    log,
    tool,
    async call(name, params, { signal, context, onUpdate } = {}) {
      const { content, details } = await tool(name, context).execute("call-1", params, signal, onUpdate);
      for (const key of RESERVED) if (key in details) throw new Error(`details of ${name} carry ${key}`);
      return { text: content.map(({ text }) => text).join("\n"), details };
    },
  };
}

/** The plugin on a state directory, let go at the end of the test. */
export function openPluginAt(home: string, name?: string): Plugin {
  const plugin = openPlugin({ home, ...(name === undefined ? {} : { name }) });
  onTestFinished(() => plugin.service.stop());
  return plugin;
}
