import { z } from "zod";
import { MeshError } from "../errors.ts";
import { visibleValue } from "../foreign.ts";
import { INBOX_PAGE_MAX, PEER_LENGTH_MAX } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { Id } from "../wire/text.ts";
import type { GatewayRequest, PluginApi } from "./api.ts";
import { type PluginNode, requirePaired } from "./node.ts";
import { failureOf } from "./render.ts";

// What clients of OpenClaw's gateway (its pages and apps) may read of the mesh: the results of the node's operations, with what
// cannot be seen in the words of others as escapes. Nothing is marked as read by looking.

/** What `whoami` says of a state directory that is not there yet: looking does not make one. */
const NOBODY = { did: null, name: null, clusters: [], link: { state: "down", malformed: 0 }, store: { state: "ok" } };

const Nothing = z.strictObject({});
const Inbox = z.strictObject({
  all: z.boolean().optional(),
  limit: z.int().min(1).max(INBOX_PAGE_MAX).optional(),
  from: z.string().min(1).max(PEER_LENGTH_MAX).optional(),
  id: Id.optional(),
  offset: z.int().min(0).optional(),
});

/** @throws MeshError `input_invalid`, which names the parameter */
function parse<T>(schema: z.ZodType<T>, params: unknown): T {
  const parsed = safeParse(schema, params ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new MeshError(
    "input_invalid",
    `${issue?.path.join(".") || "The parameters"}: ${issue?.message ?? "not valid"}.`,
  );
}

type Method = (node: PluginNode, params: unknown, signal: AbortSignal | undefined) => Promise<unknown>;

const METHODS: Readonly<Record<string, Method>> = {
  async "mesh.status"(node, params, signal) {
    parse(Nothing, params);
    return node.exists() ? node.call("whoami", {}, { signal, repeatable: true }) : NOBODY;
  },
  async "mesh.inbox"(node, params, signal) {
    const { all, limit, from, id, offset } = parse(Inbox, params);
    await requirePaired(node, signal);
    const wanted = {
      ...(all !== undefined && { all }),
      ...(limit && { limit }),
      ...(from && { from }),
      ...(id !== undefined && { id }),
      ...(offset && { offset }),
    };
    return node.call("inbox", wanted, { signal, repeatable: true });
  },
  async "mesh.offloads"(node, params, signal) {
    parse(Nothing, params);
    await requirePaired(node, signal);
    return node.call("offload_status", {}, { signal, repeatable: true });
  },
};

export function registerGatewayMethods(api: PluginApi, node: PluginNode): void {
  for (const [name, method] of Object.entries(METHODS)) {
    const handler = async ({ params, signal, respond }: GatewayRequest) => {
      try {
        respond(true, visibleValue(await node.visit(() => method(node, params, signal))));
      } catch (error) {
        respond(false, undefined, failureOf(error));
      }
    };
    api.registerGatewayMethod(name, handler, { scope: "operator.read" });
  }
}
