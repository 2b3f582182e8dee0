import { type Command, InvalidArgumentError, Option } from "commander";
import type { NatsOptions } from "../cluster/jetstream/bus.ts";
import { integer } from "./arguments.ts";

// Where a cluster keeps what it knows, when that is NATS, as options of `kars-local`.

export interface NatsChoice {
  readonly nats?: string;
  readonly natsCreds?: string;
  readonly natsCa?: string;
  readonly natsCert?: string;
  readonly natsKey?: string;
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

/** How NATS is reached: all that talks to it takes these. */
export function addNats(command: Command, isMandatory = false): Command {
  const where = new Option("--nats <urls>", "keep all of the cluster in NATS JetStream, for replicas: docs/scale.md");
  return command
    .addOption(where.argParser(addresses).env("KARS_NATS_URL").makeOptionMandatory(isMandatory))
    .option("--nats-creds <file>", "credentials for NATS (.creds)")
    .option("--nats-ca <file>", "the authority that NATS is checked against (TLS)")
    .option("--nats-cert <file>", "a certificate that NATS asks for, with --nats-key")
    .option("--nats-key <file>", "its key");
}

/** What the first process of a cluster settles for ever. */
export function addNatsBeginning(command: Command): Command {
  return command
    .option("--nats-replicas <n>", "copies of every stream (default: 3 in a cluster of NATS, else 1)", integer(1, 5))
    .option("--nats-shards <n>", "streams over which mailboxes are spread (default: 8)", integer(1, 1024));
}

/** @param cluster its name, which is the only thing that tells clusters of one NATS apart */
export function natsOf(options: NatsChoice, cluster: string): NatsOptions | undefined {
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
