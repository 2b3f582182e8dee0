import { z } from "zod";
import { safeParse } from "../parse.ts";
import type { DeliveryContext, ToolContext } from "./api.ts";

// The session in which something was asked for, as it stands in the journal, so that its news comes back there: to the same
// agent, session and chat, also after a restart.

export interface Origin {
  readonly session: string;
  readonly agent?: string | undefined;
  /** The chat behind the session. */
  readonly chat?: DeliveryContext | undefined;
}

const Stored = z.object({
  session: z.string().min(1),
  agent: z.string().min(1).optional(),
  chat: z
    .object({
      channel: z.string().optional(),
      to: z.string().optional(),
      accountId: z.string().optional(),
      threadId: z.union([z.string(), z.number()]).optional(),
    })
    .optional(),
});

/** Undefined where OpenClaw does not say which session it is. */
export function originOf({ sessionKey, agentId, deliveryContext }: ToolContext): string | undefined {
  if (sessionKey === undefined || sessionKey === "") return undefined;
  return JSON.stringify(Stored.parse({ session: sessionKey, agent: agentId, chat: deliveryContext }));
}

/** Null when it says nothing of use. */
export function parseOrigin(text: string | null): Origin | null {
  if (text === null) return null;
  try {
    return safeParse(Stored, JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

const Agent = z.object({ id: z.string().optional(), default: z.boolean().optional() });
const Config = z.object({
  agents: z
    .object({ list: z.array(Agent), entries: z.record(z.string(), Agent) })
    .partial()
    .optional(),
  session: z.object({ scope: z.string(), mainKey: z.string() }).partial().optional(),
});

/** Where what nobody asked for is told: the main session of the default agent, as OpenClaw's configuration has them. */
export function mainSession(config: unknown): Origin {
  const { agents, session } = safeParse(Config, config ?? {}).data ?? {};
  const entries = Object.entries(agents?.entries ?? {}).map(([id, entry]) => ({ ...entry, id }));
  const all = [...entries, ...(agents?.list ?? [])];
  const agent = (all.find((each) => each.default) ?? all[0])?.id ?? "main";
  return session?.scope === "global"
    ? { session: "global", agent }
    : { session: `agent:${agent}:${session?.mainKey ?? "main"}`, agent };
}
