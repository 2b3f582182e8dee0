// The slice of OpenClaw's plugin API that is used here, as our own types: the plugin is built without OpenClaw.

export interface Logger {
  info(message: string): void;
  warn(message: string): void;
}

/** What OpenClaw tells about the run that a tool is made for. */
export interface ToolContext {
  readonly workspaceDir?: string | undefined;
  /** The agent's own tools run in a container: it may not reach the host's files. */
  readonly sandboxed?: boolean | undefined;
  readonly fsPolicy?: { readonly workspaceOnly?: boolean | undefined } | undefined;
  /** The process ends after this run, and no service was started in it. */
  readonly oneShotCliRun?: boolean | undefined;
}

export interface ToolResult {
  readonly content: readonly { readonly type: "text"; readonly text: string }[];
  /** For programs. OpenClaw grades the call by `status`, `ok`, `success`, `error`, `timedOut`, `exitCode`: none of ours. */
  readonly details: Readonly<Record<string, unknown>>;
}

export interface Tool {
  readonly name: string;
  readonly label: string;
  readonly description: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** The result carries words from outside. */
  readonly resultContentSource?: "network";
  /** Puts what the model wrote into the form that `parameters` describes, before OpenClaw validates it. */
  prepareArguments(raw: unknown): unknown;
  execute(
    toolCallId: string,
    params: unknown,
    signal?: AbortSignal,
    onUpdate?: (partial: ToolResult) => void,
  ): Promise<ToolResult>;
}

export interface Service {
  readonly id: string;
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface PluginApi {
  /** `plugins.entries.kars-mesh.config`. */
  readonly pluginConfig?: unknown;
  readonly logger: Logger;
  registerTool(factory: (context: ToolContext) => Tool, options: { readonly name: string }): void;
  registerService(service: Service): void;
}
