import { SWEEP_EVERY_MS } from "../limits.ts";
import type { Disk } from "../store/disk.ts";
import { PairRequest, type PairResponse } from "../wire/pair.ts";
import type { Membership } from "../wire/registry.ts";
import { openAgents } from "./agents.ts";
import { openMailboxes } from "./mailboxes.ts";
import { registryRoutes } from "./registry.ts";
import { createRelay, type Relay } from "./relay.ts";
import { answering, type Reply, type Request, type Route } from "./routes.ts";

// All of a cluster that an agent talks to, whatever carries it: relay, registry and pairing.

export interface ServicesOptions {
  readonly disk: Disk;
  /** Mail lies in its folder `mail`, the registry's records in `registry`. */
  readonly directory: string;
  readonly now: () => number;
  /** Runs a task again and again until it is called off. */
  readonly every: (milliseconds: number, task: () => void) => () => void;
  /** Calls back after a while, unless it is taken back before. */
  readonly after: (milliseconds: number, task: () => void) => () => void;
  /** Answers `POST /v1/pair`; a MeshError becomes the refusal. */
  readonly pair: (request: PairRequest) => Promise<PairResponse>;
  /** The controller's word for an agent that the cluster let in; undefined for any other. */
  readonly vouch?: ((did: string) => Membership | undefined) | undefined;
  /** When set, the relay takes only connects that carry it. */
  readonly token?: string | undefined;
  /** Takes agents that do not prove that they hold their key, as `@microsoft/agent-governance-sdk` 4.0.0 does not. */
  readonly allowUnproven?: boolean | undefined;
  /** Bytes of journal below which mail and records are never rewritten. */
  readonly rewriteSizeMin?: number | undefined;
  /** Told when an agent connects, beats and leaves. */
  readonly onSign?: ((did: string) => void) | undefined;
  readonly log: (line: string) => void;
}

export interface Services {
  readonly relay: Relay;
  /** Takes an agent out of the registry that cannot do it any more. */
  forget(did: string): Promise<void>;
  answer(request: Request): Promise<Reply>;
  /** Ends what recurs; what was taken is durable then. */
  close(): Promise<void>;
}

/** Opens the cluster's records. @throws MeshError `store_damaged` when they cannot be read */
export async function openServices(options: ServicesOptions): Promise<Services> {
  const { disk, directory, now, every, after, pair, vouch, token, allowUnproven, log } = options;
  const store = {
    disk,
    directory,
    now,
    log,
    ...(options.rewriteSizeMin !== undefined && { rewriteSizeMin: options.rewriteSizeMin }),
  };
  const agents = await openAgents({ ...store, allowUnproven });
  const mailboxes = await openMailboxes(store).catch(async (error) => {
    await agents.close();
    throw error;
  });
  const admitsUnproven = allowUnproven ? (did: string) => (agents.get(did)?.provedAt ?? null) === null : undefined;
  const onSign = (did: string) => {
    agents.seen(did);
    options.onSign?.(did);
  };
  const relay = createRelay({ mailboxes, now, after, token, admitsUnproven, onSign, log });
  const routes: readonly Route[] = [
    ...registryRoutes({
      agents,
      now,
      isConnected: relay.isConnected,
      allowUnproven,
      vouch,
      onProved: relay.endUnproven,
    }),
    {
      method: "POST",
      path: "/v1/pair",
      handle: async (call) => ({ status: 200, body: await pair(await call.body(PairRequest)) }),
    },
    { method: "GET", path: "/health", handle: () => ({ status: 200, body: { status: "ok" } }) },
  ];
  const callOff = every(SWEEP_EVERY_MS, () => {
    relay.sweep();
    void mailboxes.tidy();
    void agents.tidy();
  });
  return {
    relay,
    forget: async (did) => {
      await agents.remove(did);
    },
    answer: answering(routes, log),
    async close() {
      callOff();
      await mailboxes.close();
      await agents.close();
    },
  };
}
