import { type Command, InvalidArgumentError, Option } from "commander";
import type { NatsOptions } from "../cluster/jetstream/bus.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { integer } from "./arguments.ts";

// Where a cluster keeps what it knows, when that is NATS, as options of `kars-local`.

export interface NatsChoice {
  /** The name of the cluster that is meant: only of who asks one. */
  readonly cluster: string;
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

/** Addresses of NATS, with commas between several. */
function addresses(text: string): string {
  const all = text.split(",").map((address) => address.trim());
  for (const address of all) {
    if (!/^(nats|tls):\/\/[^\s/]+$/.test(address))
      throw new InvalidArgumentError("Give nats://host:4222 or tls://host:4222, several with commas between them.");
  }
  return all.join(",");
}

/** How NATS is reached: every command of `kars-local` takes these. */
export function addNats(program: Command): Command {
  const where = new Option("--nats <urls>", "the cluster keeps all it has in NATS JetStream: docs/scale.md");
  return program
    .addOption(where.argParser(addresses).env("KARS_NATS_URL"))
    .option("--nats-creds <file>", "credentials for NATS (.creds)")
    .option("--nats-ca <file>", "the authority that NATS is checked against (TLS)")
    .option("--nats-cert <file>", "a certificate that NATS asks for, with --nats-key")
    .option("--nats-key <file>", "its key")
    .option("--cluster <name>", "with --nats: which cluster is asked", "local");
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
  if (nats === undefined) {
    const said = [natsCreds, natsCa, natsCert, natsKey, natsReplicas, natsShards].some((each) => each !== undefined);
    if (said) throw new InvalidArgumentError("The --nats-… options go with --nats.");
    return undefined;
  }
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
