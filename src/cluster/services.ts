import { SWEEP_EVERY_MS } from "../limits.ts";
import { PairRequest, type PairResponse } from "../wire/pair.ts";
import { registryRoutes, type Vouch } from "./registry.ts";
import { createRelay, type Relay } from "./relay.ts";
import { answering, type Reply, type Request, type Route } from "./routes.ts";
import type { ClusterState } from "./state.ts";

// All of a cluster that an agent talks to, whatever carries it: relay, registry and pairing.

export interface ServicesOptions {
  /** Closed with the services. */
  readonly state: ClusterState;
  readonly now: () => number;
  /** Runs a task again and again until it is called off. */
  readonly every: (milliseconds: number, task: () => void) => () => void;
  /** Calls back after a while, unless it is taken back before. */
  readonly after: (milliseconds: number, task: () => void) => () => void;
  /** Answers `POST /v1/pair`; a MeshError becomes the refusal. */
  readonly pair: (request: PairRequest) => Promise<PairResponse>;
  /** The controller's word for an agent that the cluster let in; undefined for any other. */
  readonly vouch?: Vouch | undefined;
  /** When set, the relay takes only connects that carry it. */
  readonly token?: string | undefined;
  /** Takes agents that do not prove that they hold their key, as `@microsoft/agent-governance-sdk` 4.0.0 does not. */
  readonly allowUnproven?: boolean | undefined;
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

export function openServices(options: ServicesOptions): Services {
  const { state, now, every, after, pair, vouch, token, allowUnproven, log } = options;
  const { mailboxes, agents, presence } = state;
  const admitsUnproven = allowUnproven
    ? async (did: string) => ((await agents.get(did))?.provedAt ?? null) === null
    : undefined;
  const onSign = (did: string) => {
    agents.seen(did);
    options.onSign?.(did);
  };
  const relay = createRelay({ mailboxes, presence, now, after, token, admitsUnproven, onSign, log });
  const routes: readonly Route[] = [
    ...registryRoutes({ agents, presence, now, allowUnproven, vouch }),
    {
      method: "POST",
      path: "/v1/pair",
      handle: async (call) => ({ status: 200, body: await pair(await call.body(PairRequest)) }),
    },
    { method: "GET", path: "/health", handle: () => ({ status: 200, body: { status: "ok" } }) },
  ];
  const callOff = every(SWEEP_EVERY_MS, () => {
    relay.sweep();
    state.tidy(now());
  });
  return {
    relay,
    forget: async (did) => {
      await agents.remove(did);
    },
    answer: answering(routes, log),
    async close() {
      callOff();
      await state.close();
    },
  };
}
