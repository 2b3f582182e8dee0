import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { z } from "zod";
import { KnockPolicy } from "../actors/admission.ts";
import { MeshError } from "../errors.ts";
import { safeParse } from "../parse.ts";
import { Name } from "../wire/text.ts";

// The plugin's configuration, `plugins.entries.kars-mesh.config`. openclaw.plugin.json describes the same fields.

/** What sessions are told without asking: nothing; with their next turn; at once, by a turn of its own. */
const NotifyPolicy = z.enum(["off", "mention", "wake"]);
export type NotifyPolicy = z.infer<typeof NotifyPolicy>;

const Config = z.strictObject({
  home: z
    .string()
    .max(4096)
    .refine((path) => isAbsolute(path) || /^~[/\\]/.test(path), "must be an absolute path, or start with ~/")
    .optional(),
  name: Name.optional(),
  acceptFrom: KnockPolicy.optional(),
  notify: NotifyPolicy.default("wake"),
});

export interface PluginConfig {
  /** The state directory, absolute. */
  readonly home: string;
  /** The display name that pairing asks for. */
  readonly name: string | undefined;
  /** Whose knocks are taken; what the state directory says, when it is not given. */
  readonly acceptFrom: KnockPolicy | undefined;
  readonly notify: NotifyPolicy;
}

function defaultHome(): string {
  const { KARS_MESH_HOME } = process.env;
  return KARS_MESH_HOME ? resolve(KARS_MESH_HOME) : join(homedir(), ".kars", "mesh");
}

/** `~/x` is meant from the user's home directory. */
export const expandTilde = (path: string): string => (/^~[/\\]/.test(path) ? join(homedir(), path.slice(2)) : path);

/** @throws MeshError `input_invalid`, which names the field */
export function readConfig(raw: unknown): PluginConfig {
  const parsed = safeParse(Config, raw ?? {});
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const field = ["plugins.entries.kars-mesh.config", ...(issue?.path ?? [])].join(".");
    throw new MeshError("input_invalid", `${field}: ${issue?.message ?? "not valid"}.`);
  }
  const { home, name, acceptFrom, notify } = parsed.data;
  return { home: home === undefined ? defaultHome() : resolve(expandTilde(home)), name, acceptFrom, notify };
}
