import {
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  StorageType,
  type StreamConfig,
} from "@nats-io/jetstream";
import { type KV, Kvm } from "@nats-io/kv";
import type { NatsConnection } from "@nats-io/transport-node";
import { z } from "zod";
import { MeshError } from "../../errors.ts";
import { MAILBOX_FRAMES_MAX } from "../../limits.ts";
import { safeParse } from "../../parse.ts";
import { connectNats, type NatsAccess } from "./connecting.ts";
import { ANSWER_WAIT_MS, CONTROLLER_WAIT_MS, SHARDS, START_PATIENCE_MS } from "./limits.ts";

// A cluster's connection to NATS, and the names of what lies there.
//
//   kars.<cluster>.mail.<shard>.<agent>         stream kars-<cluster>-mail-<shard>: the mailboxes, a subject a recipient
//   kars.<cluster>.part.<shard>.<agent>.<key>.<n>   stream kars-<cluster>-part-<shard>: large frames
//   kars.<cluster>.live.<agent>                 core NATS: a frame that was just stored, to whoever serves its recipient
//   kars.<cluster>.ended.<agent>                core NATS: a connection took another's place
//   kars-<cluster>-<bucket>                     key-value stores: facts, agents, capabilities, seen, places, beats, replicas, given
//
// An agent is named by the 32 hex digits of its DID; a name by base64url, since subjects have dots between their tokens.

export interface NatsOptions extends NatsAccess {
  /** The cluster's name: several clusters may share one NATS. */
  readonly cluster: string;
  /** False for who only asks: what a cluster settles once is for its own processes to say. */
  readonly begins?: boolean | undefined;
  /** Copies of every stream; three on a cluster of NATS, else one. */
  readonly replicas?: number | undefined;
  /** Streams over which the mailboxes are spread; only what the first process says counts. */
  readonly shards?: number | undefined;
  /** Frames of one mailbox; only what the first process says counts. */
  readonly mailboxFrames?: number | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

/** What is settled once for a cluster, by its first process. */
const Facts = z.object({
  version: z.literal(1),
  shards: z.int().min(1).max(1024),
  replicas: z.int().min(1).max(5),
  mailboxFrames: z.int().min(1).default(MAILBOX_FRAMES_MAX),
});
type Facts = z.infer<typeof Facts>;

export interface Bus {
  readonly nats: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly facts: Facts;
  /** How long NATS has been away, in milliseconds; 0 while it is there. */
  readonly awayMs: number;
  /** `kars.<cluster>.<…tokens>` */
  subject(...tokens: readonly (string | number)[]): string;
  /** `kars-<cluster>-<name>` */
  name(name: string): string;
  /** A key-value store, begun when there is none. */
  bucket(name: string, options?: { readonly ttlMs?: number; readonly inMemory?: boolean }): Promise<KV>;
  /** A stream, begun when there is none. */
  stream(name: string, config: Partial<StreamConfig>): Promise<string>;
  /** Calls back when NATS is there again after it was away; returns what takes that back. */
  onAttached(task: () => void): () => void;
  readonly log: (line: string) => void;
  close(): Promise<void>;
}

const PREFIX = "did:mesh:";
/** An agent as a token of a subject. */
export const tokenOf = (did: string): string => did.slice(PREFIX.length);
export const didOfToken = (token: string): string => PREFIX + token;
/** Any text as a token of a subject. */
export const nameToken = (text: string): string => Buffer.from(text, "utf8").toString("base64url");

const detailOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** What NATS refused or did not answer, as an error of ours. */
export const unavailable = (error: unknown): MeshError =>
  error instanceof MeshError ? error : new MeshError("nats_unavailable", `${detailOf(error)}.`, { cause: error });

/** NATS has no JetStream for us. A cluster of NATS may seem so while it finds together: another node may have it. */
const hasNoJetStream = (error: unknown) => error instanceof Error && error.name === "JetStreamNotEnabled";

/** What is asked for at the start, again and again while a cluster of NATS finds together. */
async function patiently<T>(nats: NatsConnection, ask: () => Promise<T>, patienceMs = START_PATIENCE_MS): Promise<T> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const isOver = Date.now() > deadline;
      if (hasNoJetStream(error) && (isOver || nats.info?.cluster === undefined))
        throw new MeshError(
          "nats_unavailable",
          "It has no JetStream, for this user at least: nats-server -js, or jetstream { … } in its configuration.",
          { cause: error },
        );
      if (isOver) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

export async function connectBus(options: NatsOptions): Promise<Bus> {
  const { cluster, log = () => undefined } = options;
  const nats = await connectNats(options, `kars-local ${cluster}`);
  const attached = new Set<() => void>();
  let awaySince: number | undefined;
  void (async () => {
    for await (const status of nats.status()) {
      if (status.type === "disconnect") {
        awaySince ??= performance.now();
        log("nats: the connection is lost");
      } else if (status.type === "reconnect") {
        awaySince = undefined;
        log(`nats: connected to ${status.server}`);
        for (const task of attached) task();
      }
    }
  })();

  const subject: Bus["subject"] = (...tokens) => ["kars", nameToken(cluster), ...tokens].join(".");
  const name: Bus["name"] = (part) => `kars-${nameToken(cluster)}-${part}`;
  const js = jetstream(nats, { timeout: ANSWER_WAIT_MS });
  try {
    const jsm = await patiently(nats, () => jetstreamManager(nats, { timeout: ANSWER_WAIT_MS }));
    const kvm = new Kvm(jetstream(nats, { timeout: 5 * ANSWER_WAIT_MS }));
    const isClustered = nats.info?.cluster !== undefined;
    const wanted: Facts = {
      version: 1,
      shards: options.shards ?? SHARDS,
      replicas: options.replicas ?? (isClustered ? 3 : 1),
      mailboxFrames: options.mailboxFrames ?? MAILBOX_FRAMES_MAX,
    };
    const found = safeParse(Facts, options.begins === false ? await told() : await settled());
    if (!found.success) throw new MeshError("store_newer", `NATS: the facts of the cluster ${cluster} cannot be read.`);
    const facts = found.data;

    /** What this process says, unless another was first. */
    async function settled(): Promise<unknown> {
      const bucket = await patiently(nats, () => kvm.create(name("facts"), { history: 1, replicas: wanted.replicas }));
      await bucket.create("facts", JSON.stringify(wanted)).catch(() => undefined);
      return (await bucket.get("facts"))?.json();
    }

    /** What others said, who may be just about to. */
    async function told(): Promise<unknown> {
      const bucket = await kvm.open(name("facts"));
      const ask = async () => (await bucket.get("facts"))?.json();
      return patiently(nats, ask, CONTROLLER_WAIT_MS).catch((cause: unknown) => {
        if (!(cause instanceof JetStreamApiError) || cause.code !== JetStreamApiCodes.StreamNotFound) throw cause;
        throw new MeshError(
          "cluster_unreachable",
          `This NATS has no cluster ${cluster}: name another with --cluster, or start it with kars-local controller.`,
          { cause },
        );
      });
    }
    const bus: Bus = {
      nats,
      js,
      jsm,
      facts,
      log,
      get awayMs() {
        if (nats.isClosed()) return Number.POSITIVE_INFINITY;
        return awaySince === undefined ? 0 : performance.now() - awaySince;
      },
      subject,
      name,
      bucket: (part, { ttlMs, inMemory = false } = {}) =>
        patiently(nats, () =>
          kvm.create(name(part), {
            history: 1,
            replicas: facts.replicas,
            ...(ttlMs !== undefined && { ttl: ttlMs }),
            ...(inMemory && { storage: StorageType.Memory }),
          }),
        ),
      async stream(part, config) {
        const whole = { ...config, name: name(part), num_replicas: facts.replicas };
        await patiently(nats, () => jsm.streams.info(whole.name).catch(() => jsm.streams.add(whole)));
        return whole.name;
      },
      onAttached(task) {
        attached.add(task);
        return () => void attached.delete(task);
      },
      close: async () => {
        await nats.flush().catch(() => undefined);
        await nats.close();
      },
    };
    return bus;
  } catch (error) {
    await nats.close();
    throw unavailable(error);
  }
}
