import { MeshError } from "../errors.ts";
import { type CertificateFiles, readCertificate, watchCertificate } from "./certificate.ts";
import { textLog } from "./log.ts";
import { type ClusterServer, type ServerOptions, startServer } from "./server.ts";

// A server as an operator starts it: with a certificate that may be renewed, and with errors that say what to do.

export interface Serving extends Pick<ServerOptions, "trustProxy" | "metricsToAll" | "rates" | "onEvent"> {
  readonly certificate?: CertificateFiles | undefined;
  /** Calls back when the certificate is to be read again at once. */
  readonly onRenewal?: ((renew: () => void) => void) | undefined;
}

/** @throws MeshError `input_invalid` when the port or the certificate cannot be used */
export async function openServing(options: ServerOptions, serving: Serving): Promise<ClusterServer> {
  const { certificate: files, onRenewal, ...rest } = serving;
  const { host, port } = options;
  const tls = files && (await readCertificate(files));
  const server = await startServer({ ...options, ...rest, tls }).catch((cause: unknown) => {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    if (code === "EADDRINUSE" || code === "EACCES")
      throw new MeshError(
        "input_invalid",
        `Port ${port} of ${host} cannot be used (${code}); choose another with --port.`,
      );
    if (/^ERR_(?:OSSL|SSL|TLS|CRYPTO)/.test(code))
      throw new MeshError("input_invalid", "--tls-cert and --tls-key are no certificate and its key in PEM.", {
        cause,
      });
    throw cause;
  });
  if (!files) return server;
  const log = serving.onEvent ?? textLog(options.log ?? (() => undefined));
  const watch = watchCertificate(files, server.renew, log);
  onRenewal?.(() => void watch.renew());
  return {
    ...server,
    close: () => {
      watch.close();
      return server.close();
    },
  };
}
