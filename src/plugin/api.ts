import type { IncomingMessage, ServerResponse } from "node:http";

// The slice of OpenClaw's plugin API that is used here, as our own types: the plugin is built without OpenClaw.

export interface Logger {
  info(message: string): void;
  warn(message: string): void;
}

/** A chat: where answers of a session go. */
export interface DeliveryContext {
  readonly channel?: string | undefined;
  readonly to?: string | undefined;
  readonly accountId?: string | undefined;
  readonly threadId?: string | number | undefined;
}

/** What OpenClaw tells about the run that a tool is made for. */
export interface ToolContext {
  readonly sessionKey?: string | undefined;
  readonly agentId?: string | undefined;
  /** The chat behind the session. */
  readonly deliveryContext?: DeliveryContext | undefined;
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

/** What OpenClaw tells about a command that somebody typed in a chat. */
export interface CommandContext {
  /** What stands behind the command's name. */
  readonly args?: string | undefined;
  /** Told to commands that require scopes. */
  readonly senderIsOwner?: boolean | undefined;
  /** Throws when who was the owner as the command began no longer is. */
  readonly assertOwnerCurrent?: (() => void) | undefined;
  /** What a client of the gateway may do; absent where a chat is the source. */
  readonly gatewayClientScopes?: readonly string[] | undefined;
}

export interface CommandReply {
  readonly text: string;
  readonly isError?: boolean;
}

export interface ChatCommand {
  readonly name: string;
  readonly description: string;
  readonly acceptsArgs: boolean;
  /** Only for senders that OpenClaw authorises. */
  readonly requireAuth: boolean;
  /** What a client of the gateway must be allowed; in a chat it must be the owner who types. */
  readonly requiredScopes: readonly string[];
  handler(context: CommandContext): Promise<CommandReply>;
}

/** The part of a commander command by which one is added to OpenClaw's command line, which brings a commander of its own. */
export interface HostCommand {
  command(name: string): HostCommand;
  description(text: string): HostCommand;
  argument(flags: string): HostCommand;
  allowUnknownOption(): HostCommand;
  /** @throws Error where the command above takes options anywhere */
  passThroughOptions(passThrough?: false): HostCommand;
  helpOption(flags: false): HostCommand;
  action(run: (words: string[]) => Promise<void>): HostCommand;
}

export interface CliDescriptor {
  readonly name: string;
  readonly description: string;
  readonly hasSubcommands: boolean;
  /** Whether standard output is for a program: OpenClaw then writes none of its own notes there. */
  machineOutput?(invocation: { readonly argv: readonly string[] }): boolean;
}

/** A request to the gateway by a client of it. */
export interface GatewayRequest {
  readonly params: unknown;
  readonly signal?: AbortSignal | undefined;
  respond(ok: boolean, payload?: unknown, error?: { readonly code: string; readonly message: string }): void;
}

interface Wake {
  readonly sessionKey: string;
  readonly agentId?: string;
  readonly reason: string;
  /** Where the answer of the turn goes: to the session's last chat. */
  readonly heartbeat: { readonly target: "last" };
}

/** How events come to sessions: kept in memory until the session's next turn, which may be asked for. */
export interface HostSystem {
  enqueueSystemEvent(
    text: string,
    options: {
      readonly sessionKey: string;
      readonly agentId?: string;
      readonly contextKey: string;
      /** The pending event with the same key goes. */
      readonly replace: boolean;
      readonly deliveryContext?: DeliveryContext;
    },
  ): unknown;
  requestHeartbeat?(wake: Wake & { readonly source: "other"; readonly intent: "event" }): void;
  /** What older ones have in its place. */
  requestHeartbeatNow?(wake: Wake): void;
}

/** What a turn of an agent tells: `lifecycle` with the phases `start`, `end`, `error`. */
export interface AgentEvent {
  readonly runId: string;
  readonly stream: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly sessionKey?: string | undefined;
}

export interface HostEvents {
  onAgentEvent(listener: (event: AgentEvent) => void): () => void;
}

export interface HttpRoute {
  readonly path: string;
  /** The gateway's own authentication stands before it. */
  readonly auth: "gateway";
  readonly match: "exact";
  /** Whether it was answered here. */
  handler(request: IncomingMessage, response: ServerResponse): Promise<boolean>;
}

/** A page in OpenClaw's dashboard. */
export interface DashboardTab {
  readonly surface: "tab";
  readonly id: string;
  readonly label: string;
  readonly description: string;
  readonly path: string;
  readonly group: "agent";
  readonly requiredScopes: readonly string[];
}

export interface PluginApi {
  /** OpenClaw's whole configuration. */
  readonly config?: unknown;
  readonly runtime?: { readonly system?: HostSystem; readonly events?: HostEvents } | undefined;
  /** `plugins.entries.kars-mesh.config`. */
  readonly pluginConfig?: unknown;
  readonly logger: Logger;
  registerTool(factory: (context: ToolContext) => Tool, options: { readonly name: string }): void;
  registerService(service: Service): void;
  registerCommand(command: ChatCommand): void;
  registerCli(
    registrar: (context: { readonly program: HostCommand }) => void,
    options: { readonly commands: readonly string[]; readonly descriptors: readonly CliDescriptor[] },
  ): void;
  registerGatewayMethod(
    name: string,
    handler: (request: GatewayRequest) => Promise<void>,
    options: { readonly scope: "operator.read" },
  ): void;
  registerHttpRoute?(route: HttpRoute): void;
  readonly session?: {
    readonly controls?: { registerControlUiDescriptor?(descriptor: DashboardTab): void } | undefined;
  };
}
