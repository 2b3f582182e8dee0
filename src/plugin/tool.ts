import { MeshError } from "../errors.ts";
import { markedValue } from "../foreign.ts";
import type { ToolParameters } from "../wire/tool.ts";
import type { Tool, ToolContext, ToolResult } from "./api.ts";
import type { PluginConfig } from "./config.ts";
import { type PluginNode, requirePaired } from "./node.ts";
import { toolError } from "./render.ts";

// What every tool has in common: parse, call, render.

export interface Answer {
  readonly text: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** One run of a tool. */
export interface Run {
  readonly node: PluginNode;
  readonly config: PluginConfig;
  readonly context: ToolContext;
  readonly signal: AbortSignal | undefined;
  /** Tells how it stands before it ends. */
  readonly update: (answer: Answer) => void;
}

export interface ToolDefinition<T> {
  readonly name: string;
  readonly label: string;
  readonly description: string;
  readonly parameters: ToolParameters<T>;
  /** It may be used before the laptop is paired. */
  readonly beforePairing?: boolean;
  /** Its result carries words of others. */
  readonly inbound?: boolean;
  run(input: T, run: Run): Promise<Answer>;
}

/** A tool that waits for the context of a run. */
export interface MeshTool {
  readonly name: string;
  bind(node: PluginNode, config: PluginConfig, context: ToolContext): Tool;
}

/** OpenClaw shows a model the text and the details too. */
const asResult = ({ text, details }: Answer): ToolResult => ({
  content: [{ type: "text", text }],
  details: markedValue(details),
});

export function defineTool<T>(definition: ToolDefinition<T>): MeshTool {
  const { name, label, description, parameters, beforePairing = false, inbound = false } = definition;
  return {
    name,
    bind: (node, config, context) => ({
      name,
      label,
      description,
      parameters: parameters.jsonSchema(),
      ...(inbound ? { resultContentSource: "network" } : {}),
      prepareArguments(raw) {
        try {
          return parameters.prepare(raw);
        } catch {
          // What is wrong with it is said by the validation, or by the call.
          return raw;
        }
      },
      async execute(_toolCallId, params, signal, onUpdate) {
        try {
          const input = parameters.parse(params);
          if (signal?.aborted) throw new MeshError("aborted");
          const update = (answer: Answer) => onUpdate?.(asResult(answer));
          const work = async () => {
            if (!beforePairing) await requirePaired(node, signal);
            return definition.run(input, { node, config, context, signal, update });
          };
          return asResult(await node.during(work, context.oneShotCliRun === true));
        } catch (error) {
          throw toolError(error);
        }
      },
    }),
  };
}
