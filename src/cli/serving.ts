import { resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { jsonLog } from "../cluster/log.ts";
import type { Serving } from "../cluster/serving.ts";
import type { Io } from "./program.ts";

// How the server of a cluster is open to others, as options of `kars-local up`.

export interface ServingOptions {
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly trustProxy: boolean;
  readonly metricsToAll: boolean;
  readonly log: "text" | "json";
}

export function addServing(command: Command): Command {
  return command
    .option("--tls-cert <file>", "clients come by https and wss: the certificate and its chain, PEM")
    .option("--tls-key <file>", "its private key, PEM; both are read again when they change, and on SIGHUP")
    .option("--trust-proxy", "clients are whom the last entry of X-Forwarded-For names", false)
    .option("--metrics-to-all", "show /metrics to others than this machine too", false)
    .addOption(
      new Option("--log <form>", "what the cluster says on stderr: lines for people, or of JSON")
        .choices(["text", "json"])
        .default("text"),
    );
}

/** @throws InvalidArgumentError when one of the two files is missing */
export function servingOf(io: Io, { tlsCert, tlsKey, trustProxy, metricsToAll, log }: ServingOptions): Serving {
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new InvalidArgumentError("--tls-cert and --tls-key go together.");
  return {
    trustProxy,
    metricsToAll,
    ...(tlsCert !== undefined &&
      tlsKey !== undefined && { certificate: { cert: resolve(tlsCert), key: resolve(tlsKey) } }),
    onRenewal: (renew) => void process.on("SIGHUP", renew),
    ...(log === "json" && { onEvent: jsonLog(io.note) }),
  };
}
