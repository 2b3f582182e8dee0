import { NAME_LENGTH_MAX } from "../limits.ts";
import { isRecord } from "../wire/text.ts";

// An agent as a registry describes it.

export interface Agent {
  readonly did: string;
  /** The name that the agent gives itself: a hint, no proof of who it is. */
  readonly name: string | null;
  readonly capabilities: readonly string[];
  /** null when the registry does not say. */
  readonly online: boolean | null;
  readonly last_seen: string | null;
}

/** The metadata entries in which agents publish their name: the entry of this program, and that of the deployed clients. */
const NAME_ENTRIES = ["name", "display_name"] as const;

/** The name that an agent gives itself: the one in its metadata, if the agent registered it as a capability, too. */
export function nameOf({
  capabilities,
  metadata,
}: {
  readonly capabilities: readonly string[];
  readonly metadata?: unknown;
}): string | null {
  if (!isRecord(metadata)) return null;
  const names = NAME_ENTRIES.map((entry) => metadata[entry]);
  const isName = (name: unknown): name is string =>
    typeof name === "string" && name.length <= NAME_LENGTH_MAX && capabilities.includes(name);
  return names.find(isName) ?? null;
}
