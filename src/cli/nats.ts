import { type Command, InvalidArgumentError, Option } from "commander";
import type { NatsOptions } from "../cluster/jetstream/bus.ts";
import { NATS_SERVERS_FORM, natsServers } from "../cluster/jetstream/servers.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { clusterName, integer } from "./arguments.ts";

// Where a cluster keeps what it knows, when that is NATS, as options of `kars-local`.

export interface NatsChoice {
  /** The name of the cluster that is meant, when that was said. */
  readonly cluster?: string;
  readonly nats?: string;
  readonly natsCreds?: string;
  readonly natsCa?: string;
  readonly natsCert?: string;
  readonly natsKey?: string;
}

export interface NatsBeginning {
  readonly natsReplicas?: number;
  readonly natsShards?: number;
}

/** The cluster of who says nothing. */
export const CLUSTER_DEFAULT = "local";

/** How NATS is reached: every command of `kars-local` takes these. */
export function addNats(program: Command): Command {
  const where = new Option(
    "--nats <urls>",
    "the cluster keeps all it has in NATS JetStream (docs/scale.md): nats://host:4222, tls://…, several with commas; nats://user:password@… or nats://token@… rather in the variable, which no other user sees",
  );
  return program
    .addOption(where.env("KARS_NATS_URL"))
    .option("--nats-creds <file>", "credentials for NATS (.creds)")
    .option("--nats-ca <file>", "the authority that NATS is checked against (TLS)")
    .option("--nats-cert <file>", "a certificate that NATS asks for, with --nats-key")
    .option("--nats-key <file>", "its key")
    .option("--cluster <name>", "with --nats: which cluster is meant (default: local)", clusterName);
}

/** What the first process of a cluster settles for ever. */
export function addNatsBeginning(command: Command): Command {
  return command
    .option("--nats-replicas <n>", "copies of every stream (default: 3 in a cluster of NATS, else 1)", integer(1, 5))
    .option("--nats-shards <n>", "streams over which mailboxes are spread (default: 8)", integer(1, 1024));
}

/** @param cluster its name, which is the only thing that tells clusters of one NATS apart */
export function natsOf(options: NatsChoice & NatsBeginning, cluster: string): NatsOptions | undefined {
  const { nats, natsCreds, natsCa, natsCert, natsKey, natsReplicas, natsShards } = options;
  const beside = [options.cluster, natsCreds, natsCa, natsCert, natsKey, natsReplicas, natsShards];
  if (nats === undefined) {
    if (beside.some((each) => each !== undefined))
      throw new InvalidArgumentError("--cluster and the --nats-… options go with --nats.");
    return undefined;
  }
  const servers = natsServers(nats);
  // Commander would repeat what it refuses, and that may hold a password.
  if (!servers) throw new InvalidArgumentError(NATS_SERVERS_FORM);
  if (natsCreds !== undefined && (servers.user ?? servers.token) !== undefined)
    throw new InvalidArgumentError("--nats names a user or token, and --nats-creds another: give one of them.");
  if ((natsCert === undefined) !== (natsKey === undefined))
    throw new InvalidArgumentError("--nats-cert and --nats-key go together.");
  return {
    servers: nats,
    cluster,
    credentials: natsCreds,
    ca: natsCa,
    cert: natsCert,
    key: natsKey,
    replicas: natsReplicas,
    shards: natsShards,
  };
}

/** Loads what needs the clients of NATS, which are optional. @throws MeshError `nats_unavailable` when they are not there */
export async function withNatsClients<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    throw new MeshError(
      "nats_unavailable",
      `Its clients are not installed beside this program: npm install @nats-io/transport-node @nats-io/jetstream @nats-io/kv. ${asMeshError(cause).message}`,
      { cause },
    );
  }
}
