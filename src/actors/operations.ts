import { z } from "zod";
import { MeshError } from "../errors.ts";
import {
  CAPABILITY_LENGTH_MAX,
  FILES_MAX,
  NAME_LENGTH_MAX,
  OFFLOAD_TIMEOUT_MINUTES_MAX,
  PASSPHRASE_LENGTH_MAX,
  PATH_LENGTH_MAX,
  SETTLE_MS,
  TASK_SIZE_MAX,
  TOKEN_PASTED_LENGTH_MAX,
} from "../limits.ts";
import { Origin } from "../machines/notice/events.ts";
import type { PairingContext } from "../machines/pairing/events.ts";
import { Id, Name } from "../wire/text.ts";
import { diagnose } from "./diagnosis.ts";
import { discover } from "./discovery.ts";
import { until } from "./inbox.ts";
import { lookingOperations } from "./looking-operations.ts";
import { messageOperations } from "./message-operations.ts";
import { newsOperations } from "./news.ts";
import type { MeshNode } from "./node.ts";
import { isOver, type OffloadView, offloadOf } from "./offloads.ts";
import { membershipOf, operation, Wait } from "./operation.ts";
import { peerOperations } from "./peer-operations.ts";
import { forgettingOf } from "./registry-forgot.ts";
import { queued, settle } from "./settling.ts";

// What callers may ask of a node.

/** The cluster that takes offloads. @throws MeshError `not_paired`; `input_invalid` when it cannot choose a sandbox as is wished */
function clusterFor(node: MeshNode, target: { to?: string | undefined; capability?: string | undefined }) {
  const pairing = membershipOf(node);
  if (pairing.asking) throw new MeshError("not_paired", "The controller of the cluster has not answered yet.");
  if (pairing.plain !== null && (target.to ?? target.capability) !== undefined)
    throw new MeshError(
      "input_invalid",
      "This cluster does not choose a sandbox by name or capability: leave that out.",
    );
  return { controller: pairing.controller, plain: pairing.plain !== null };
}

/** Whether the state directory takes commits; what it holds can be read all the same. */
function storeOf({ health }: MeshNode): { state: "ok" } | { state: "failing"; since: string; reason: string } {
  const { state } = health;
  return state.state === "ok" ? state : { ...state, since: new Date(state.since).toISOString() };
}

const Paths = z.array(z.string().min(1).max(PATH_LENGTH_MAX)).max(FILES_MAX);

export const operations = {
  whoami: operation(z.object({}), async (_, { node }) => {
    const clusters = [...node.core.system.streams("pairing")].map(([, state]) => {
      const context: PairingContext = state.snapshot.context;
      const { cluster, controller, name, relayUrl, registryUrl, grant, plain } = context;
      return {
        cluster,
        controller,
        name,
        relay_url: relayUrl,
        registry_url: registryUrl,
        grant,
        /** Its controller speaks plaintext: it and the relay read what it is asked for. */
        plaintext: plain !== null,
        forgotten: forgettingOf(context),
        state: JSON.stringify(state.snapshot.value).replaceAll(/["{}]/g, ""),
      };
    });
    const paired = node.membership.current;
    return {
      did: node.core.keyring.hasIdentity ? node.core.keyring.identity.did : null,
      name: paired?.name ?? null,
      clusters: clusters.filter(({ state }) => state !== "unpaired"),
      link: {
        state: node.core.link.value,
        ...(node.core.link.context?.closed ? { closed: node.core.link.context.closed } : {}),
        /** Frames that were in no form that is understood. */
        malformed: node.core.link.malformed,
      },
      store: storeOf(node),
    };
  }),

  pair: operation(
    z.object({ token: z.string().min(1).max(TOKEN_PASTED_LENGTH_MAX), name: Name.optional() }),
    async ({ token, name }, { node, signal }) => {
      const {
        did,
        cluster,
        name: registered,
        grant,
        relayUrl,
        plain,
      } = await node.membership.pair(token, name ?? null, signal);
      return { did, name: registered, cluster, grant, relay_url: relayUrl, plaintext: plain !== null };
    },
  ),

  ...messageOperations,

  discover: operation(
    z.object({
      name: z.string().max(NAME_LENGTH_MAX).optional(),
      capability: z.string().max(CAPABILITY_LENGTH_MAX).optional(),
    }),
    async (by, { node }) => discover(node.core, by),
  ),

  ...peerOperations,
  ...newsOperations,

  offload: operation(
    z.object({
      task: z.string().min(1).max(TASK_SIZE_MAX),
      files: Paths.default([]),
      to: z.string().min(1).max(NAME_LENGTH_MAX).optional(),
      capability: z.string().min(1).max(CAPABILITY_LENGTH_MAX).optional(),
      timeout_minutes: z.number().positive().max(OFFLOAD_TIMEOUT_MINUTES_MAX).optional(),
      /** Chosen by the caller, so that asking again is the same offload again. */
      id: z.uuid().optional(),
      origin: Origin.optional(),
      /** Also when the same runs already. */
      force: z.boolean().default(false),
      /** Of the files, those that may go although they look like secrets. */
      secrets: Paths.default([]),
    }),
    async ({ task, files, to, capability, timeout_minutes, id: chosen, origin, force, secrets }, { node }) => {
      const { id, duplicate } = await node.offloads.begin({
        id: chosen,
        force,
        secrets,
        ...clusterFor(node, { to, capability }),
        task,
        files,
        target: { ...(to === undefined ? {} : { name: to }), ...(capability === undefined ? {} : { capability }) },
        timeoutMinutes: timeout_minutes,
        origin,
      });
      return { ...(await node.offloads.view(id)), duplicate };
    },
  ),

  /** One offload, now or at its next change (`wait_ms`), or all of them. */
  offload_status: operation(
    z.object({ id: Id.optional(), wait_ms: Wait.default(0), until_over: z.boolean().default(false) }),
    async ({ id, wait_ms, until_over }, { node, signal, progress }) => {
      if (id === undefined)
        return { offloads: await Promise.all(node.offloads.list().map((each) => node.offloads.view(each))) };
      const first = await node.offloads.view(id);
      if (wait_ms === 0 || isOver(first.status)) return first;
      const stream = offloadOf(id);
      const { system, ports } = node.core;
      const deadline = ports.clock.now() + wait_ms;
      for (let seen = system.state(stream); ; ) {
        const changed = await until(node, () => system.state(stream) !== seen, {
          timeoutMs: Math.max(0, deadline - ports.clock.now()),
          signal,
          concerns: (each) => each === stream,
        });
        seen = system.state(stream);
        const view: OffloadView = await node.offloads.view(id);
        if (!changed || !until_over || isOver(view.status)) return view;
        progress(view);
      }
    },
  ),

  offload_cancel: operation(z.object({ id: Id }), async ({ id }, { node }) => {
    await node.offloads.cancel(id);
    return node.offloads.view(id);
  }),

  /** Draws a new store key and protects it so. Nothing of it is journaled or noted. */
  change_key: operation(
    z.discriminatedUnion("protection", [
      z.object({ protection: z.literal("file") }),
      z.object({ protection: z.literal("passphrase"), passphrase: z.string().max(PASSPHRASE_LENGTH_MAX) }),
      z.object({ protection: z.literal("keychain") }),
    ]),
    async (wish, { node }) => {
      await node.changeKey(wish);
      return { protection: node.protection };
    },
  ),

  /** Fetches what waits and sends what is queued; says what is still queued when the time is up. */
  settle: operation(z.object({ wait_ms: Wait.default(SETTLE_MS) }), async ({ wait_ms }, { node, signal }) => {
    await settle(node, wait_ms, signal);
    return { queued: queued(node), online: node.core.link.online };
  }),

  /** What only the owner of the state directory knows, for `doctor`. */
  diagnose: operation(z.object({}), async (_, { node }) => diagnose(node)),

  ...lookingOperations,
} as const;

export type Operations = typeof operations;
