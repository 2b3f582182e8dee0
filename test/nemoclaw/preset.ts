/** NemoClaw's policy presets: what setup.sh renders, read as strictly as NemoClaw reads it, and what it lets through. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";

const Method = z.enum(["GET", "POST", "PUT", "DELETE"]);
const Path = z.string().regex(/^\//);
const Host = z.string().regex(/^[a-z0-9.-]+$/);
const Port = z.int().min(1).max(65_535);
const AllowedIps = z.array(z.string()).min(1).optional();
const rules = <T extends z.ZodType>(method: T) =>
  z.array(z.strictObject({ allow: z.strictObject({ method, path: Path }) })).min(1);

const Endpoint = z.union([
  z.strictObject({
    host: Host,
    port: Port,
    protocol: z.literal("rest"),
    enforcement: z.literal("enforce"),
    rules: rules(Method),
    allowed_ips: AllowedIps,
  }),
  z.strictObject({
    host: Host,
    port: Port,
    path: Path.optional(),
    protocol: z.literal("websocket"),
    enforcement: z.literal("enforce"),
    rules: rules(z.enum(["GET", "WEBSOCKET_TEXT"])),
    allowed_ips: AllowedIps,
  }),
  z.strictObject({ host: Host, port: Port, access: z.literal("full"), allowed_ips: AllowedIps }),
]);
export type Endpoint = z.infer<typeof Endpoint>;

const Label = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
const Entry = z.strictObject({
  name: Label,
  endpoints: z.array(Endpoint).min(1),
  binaries: z.array(z.strictObject({ path: Path })).min(1),
});
const Preset = z.strictObject({
  preset: z.strictObject({ name: Label, description: z.string().min(1) }),
  network_policies: z.record(Label, Entry),
});

/** The one entry of a preset; its three names are the same. */
export function readPreset(text: string): z.infer<typeof Entry> {
  const { preset, network_policies } = Preset.parse(parse(text, { strict: true, uniqueKeys: true }));
  const [entry, ...others] = Object.entries(network_policies);
  if (!entry || others.length > 0) throw new Error("one entry is expected");
  const [key, policy] = entry;
  if (key !== preset.name || policy.name !== preset.name) throw new Error(`${key}, ${policy.name}: ${preset.name}`);
  return policy;
}

/** Whether a pattern matches a path as OpenShell's newest does: `*` stays within a segment. */
function matches(pattern: string, path: string): boolean {
  const [parts, segments] = [pattern.split("/"), path.split("/")];
  return parts.length === segments.length && parts.every((part, i) => part === segments[i] || part === "*");
}

/** The endpoint that judges a request: the one whose path is the most particular. */
export const endpointFor = (endpoints: readonly Endpoint[], path: string): Endpoint | undefined =>
  endpoints.find((each) => "path" in each && each.path === path) ??
  endpoints.find((each) => !("path" in each) || each.path === undefined);

/** The rule that lets a request through, as `METHOD pattern`. */
export function ruleFor(endpoint: Endpoint | undefined, method: string, path: string): string | undefined {
  if (!endpoint || !("rules" in endpoint)) return undefined;
  const found = endpoint.rules.find(({ allow }) => allow.method === method && matches(allow.path, path));
  return found && `${found.allow.method} ${found.allow.path}`;
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const script = fileURLToPath(new URL("../../nemoclaw/setup.sh", import.meta.url));

/** Runs setup.sh with nothing of our own environment but where programs are. */
export function setup(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    execFile(
      "bash",
      [script, ...args],
      { env: { PATH: process.env.PATH, HOME: "/nonexistent", ...env } },
      (error, stdout, stderr) => {
        if (error && typeof error.code !== "number") reject(error);
        else resolve({ code: Number(error?.code ?? 0), stdout, stderr });
      },
    );
  });
}
