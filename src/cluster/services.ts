import { SWEEP_EVERY_MS } from "../limits.ts";
import { PairRequest, type PairResponse } from "../wire/pair.ts";
import type { Caller } from "./address.ts";
import { type Counts, openCounts } from "./counts.ts";
import { LIMIT_LOG_EVERY_MS, TROUBLE_LOOK_MS } from "./limits.ts";
import type { Log } from "./log.ts";
import { METRICS_TYPE } from "./metrics.ts";
import { type Limit, type Meter, openMeter, type Rates } from "./rates.ts";
import { openReadiness } from "./readiness.ts";
import { registryRoutes, type Vouch } from "./registry.ts";
import { createRelay, type Relay } from "./relay.ts";
import { answering, HttpError, type Reply, type Request, type Route, tooMany } from "./routes.ts";
import type { ClusterState } from "./state.ts";

// All of a cluster that an agent talks to, whatever carries it: relay, registry and pairing.

/** What a server is to agents: the relay's sockets at `/ws`, the registry and pairing at `/v1`. */
export type ServerRole = "relay" | "registry";

export interface ServicesOptions {
  /** Closed with the services. */
  readonly state: ClusterState;
  readonly now: () => number;
  /** Runs a task again and again until it is called off. */
  readonly every: (milliseconds: number, task: () => void) => () => void;
  /** Calls back after a while, unless it is taken back before. */
  readonly after: (milliseconds: number, task: () => void) => () => void;
  /** Both unless it says less. */
  readonly roles?: readonly ServerRole[] | undefined;
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
  /** In place of the rates of limits.ts. */
  readonly rates?: Partial<Rates> | undefined;
  /** Shows the counts to everyone; otherwise only to this machine. */
  readonly metricsToAll?: boolean | undefined;
  readonly log: Log;
}

export interface Services {
  readonly relay: Relay;
  /** Takes an agent out of the registry that cannot do it any more. */
  forget(did: string): Promise<void>;
  answer(request: Request): Promise<Reply>;
  readonly meter: Meter;
  readonly counts: Counts;
  /** Takes nobody in any more, says so to whoever asks whether it is ready, and hands all connections over. */
  drain(before?: () => Promise<void>): Promise<void>;
  readonly isDraining: boolean;
  /** Ends what recurs; what was taken is durable then. */
  close(): Promise<void>;
}

/** Writes a limit that was met to the log, but not each time. */
function tellingLimits(now: () => number, log: Log): (limit: Limit, key: string) => void {
  const toldAt = new Map<Limit, number>();
  return (limit, key) => {
    const last = toldAt.get(limit);
    if (last !== undefined && now() - last < LIMIT_LOG_EVERY_MS) return;
    toldAt.set(limit, now());
    log("limit_met", limit.endsWith("_per_address") ? { limit, address: key } : { limit, did: key });
  };
}

export function openServices(options: ServicesOptions): Services {
  const { state, now, every, after, pair, vouch, token, allowUnproven, metricsToAll = false, log } = options;
  const { roles = ["relay", "registry"] } = options;
  const { mailboxes, agents, presence } = state;
  const counts = openCounts();
  const tell = tellingLimits(now, log);
  const onMet = (limit: Limit, key: string) => {
    counts.limitsMet.add([limit]);
    tell(limit, key);
  };
  const meter = openMeter({ now, rates: options.rates, onMet });
  const readiness = openReadiness(now, () => state.trouble?.());
  const admitsUnproven = allowUnproven
    ? async (did: string) => ((await agents.get(did))?.provedAt ?? null) === null
    : undefined;
  const onSign = (did: string) => {
    agents.seen(did);
    options.onSign?.(did);
  };
  const onStored = readiness.stored;
  const told = { onSign, onStored, meter, counts, log };
  const relay = createRelay({ mailboxes, presence, now, after, token, admitsUnproven, ...told });
  const pairing: Route = {
    method: "POST",
    path: "/v1/pair",
    handle: async (call) => ({ status: 200, body: await pair(await call.body(PairRequest)) }),
  };
  const routes: readonly Route[] = [
    ...(roles.includes("registry")
      ? [...registryRoutes({ agents, presence, now, allowUnproven, vouch, meter }), pairing]
      : []),
    { method: "GET", path: "/health", handle: () => ({ status: 200, body: { status: "ok" } }) },
    {
      method: "GET",
      path: "/ready",
      handle: () => {
        const { reason } = readiness;
        return reason === undefined
          ? { status: 200, body: { status: "ready" } }
          : { status: 503, body: { status: "not ready", reason } };
      },
    },
    {
      method: "GET",
      path: "/metrics",
      handle: ({ caller }) => {
        if (!metricsToAll && caller?.isLocal !== true)
          throw new HttpError(403, "forbidden", "The counts are shown to this machine only.");
        return { status: 200, plain: { type: METRICS_TYPE, text: counts.metrics.text() } };
      },
    },
  ];
  /** Those that ask how it is must be heard, however much else they ask. */
  const UNCOUNTED: ReadonlySet<string> = new Set(["/health", "/ready"]);
  const admit = (caller: Caller | undefined, path: string) => {
    if (!caller || UNCOUNTED.has(path)) return;
    const waitMs = meter.take("requests_per_address", caller.address, caller);
    if (waitMs > 0) throw tooMany("requests_per_address", waitMs);
  };
  const onAnswered = (route: string, status: number) => counts.requests.add([route, String(status)]);
  counts.metrics.gauge({ name: "kars_ready", help: "1 when it can serve." }, () => (readiness.reason ? 0 : 1));
  const callOff = every(SWEEP_EVERY_MS, () => {
    relay.sweep();
    state.tidy(now());
  });
  const callOffLooking = every(TROUBLE_LOOK_MS, () => {
    // What cannot be stored or read here may be elsewhere.
    if (state.trouble?.() !== undefined) relay.turnOut();
  });
  return {
    relay,
    meter,
    counts,
    forget: async (did) => {
      await agents.remove(did);
    },
    answer: answering(routes, { log, admit, onAnswered }),
    async drain(before) {
      readiness.drain();
      await before?.();
      await relay.drain();
    },
    get isDraining() {
      return readiness.reason === "draining";
    },
    async close() {
      callOff();
      callOffLooking();
      await state.close();
    },
  };
}
