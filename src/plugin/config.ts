import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { z } from "zod";
import { KnockPolicy } from "../actors/admission.ts";
import { fileSizeMaxOf } from "../actors/file-size.ts";
import { type Places, placesOf, RegistryUrl, RelayUrl } from "../actors/places.ts";
import { MeshError } from "../errors.ts";
import { FILE_MEGABYTES_MAX, FILES_MAX, PATH_LENGTH_MAX } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { Name } from "../wire/text.ts";
import { UPLOAD_ROOTS_MAX } from "./limits.ts";

// The plugin's configuration, `plugins.entries.kars-mesh.config`. openclaw.plugin.json describes the same fields.

/** What sessions are told without asking: nothing; with their next turn; at once, by a turn of its own. */
const NotifyPolicy = z.enum(["off", "mention", "wake"]);
export type NotifyPolicy = z.infer<typeof NotifyPolicy>;

const Path = z
  .string()
  .max(PATH_LENGTH_MAX)
  .refine((path) => isAbsolute(path) || /^~[/\\]/.test(path), "must be an absolute path, or start with ~/");

const Config = z.strictObject({
  home: Path.optional(),
  name: Name.optional(),
  acceptFrom: KnockPolicy.optional(),
  notify: NotifyPolicy.default("wake"),
  uploadRoots: z.array(Path).max(UPLOAD_ROOTS_MAX).default([]),
  relayUrl: RelayUrl.optional(),
  registryUrl: RegistryUrl.optional(),
  limits: z
    .strictObject({
      filesPerOffload: z.int().min(0).max(FILES_MAX).optional(),
      megabytesPerFile: z.int().min(1).max(FILE_MEGABYTES_MAX).optional(),
      megabytesPerOffload: z.number().positive().optional(),
      runningOffloads: z.int().min(1).optional(),
    })
    .default({}),
});

export interface PluginConfig {
  /** The state directory, absolute. */
  readonly home: string;
  /** The display name that pairing asks for. */
  readonly name: string | undefined;
  /** Whose knocks are taken; what the state directory says, when it is not given. */
  readonly acceptFrom: KnockPolicy | undefined;
  readonly notify: NotifyPolicy;
  /** Folders outside of the workspace whose files may go to a cluster, absolute; undefined where every open one may. */
  readonly uploadRoots: readonly string[];
  /** Where relay and registry are reached from here. */
  readonly places: Places;
  readonly limits: OffloadLimits;
  /** Megabytes of a file, each way, and the same in bytes. */
  readonly maxFile: number | undefined;
  readonly fileSizeMax: number | undefined;
}

/** What one offload may take, and how many may run, as far as the person bounds it. */
export interface OffloadLimits {
  readonly filesPerOffload?: number | undefined;
  readonly megabytesPerFile?: number | undefined;
  readonly megabytesPerOffload?: number | undefined;
  readonly runningOffloads?: number | undefined;
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
  const { home, uploadRoots, relayUrl, registryUrl, name, acceptFrom, notify, limits } = parsed.data;
  return {
    home: home === undefined ? defaultHome() : resolve(expandTilde(home)),
    name,
    acceptFrom,
    notify,
    uploadRoots: uploadRoots.map((root) => resolve(expandTilde(root))),
    places: placesOf(
      {
        relayUrl: relayUrl ?? process.env.KARS_MESH_RELAY_URL,
        registryUrl: registryUrl ?? process.env.KARS_MESH_REGISTRY_URL,
      },
      { relay: "KARS_MESH_RELAY_URL", registry: "KARS_MESH_REGISTRY_URL" },
    ),
    limits,
    maxFile: limits.megabytesPerFile,
    fileSizeMax: fileSizeMaxOf(limits.megabytesPerFile ?? process.env.KARS_MESH_MAX_FILE, "KARS_MESH_MAX_FILE"),
  };
}
