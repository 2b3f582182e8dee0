import { readFile, stat } from "node:fs/promises";
import { MeshError } from "../errors.ts";
import type { Certificate } from "./door.ts";
import { CERTIFICATE_LOOK_EVERY_MS } from "./limits.ts";
import type { Log } from "./log.ts";

// The files of a certificate, which whoever renews it replaces while the server runs.

/** Where a certificate and its key lie, PEM both. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

const detailOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** @throws MeshError `input_invalid` when they cannot be read */
export async function readCertificate({ cert, key }: CertificateFiles): Promise<Certificate> {
  try {
    return { cert: await readFile(cert, "utf8"), key: await readFile(key, "utf8") };
  } catch (cause) {
    throw new MeshError("input_invalid", `The certificate cannot be read: ${detailOf(cause)}.`, { cause });
  }
}

/** What changes when a file is replaced or written. */
const markOf = async (path: string) => {
  const { mtimeMs, ino, size } = await stat(path);
  return `${mtimeMs} ${ino} ${size}`;
};

export interface CertificateWatch {
  /** Reads them now, whether they changed or not. Never rejects. */
  renew(): Promise<void>;
  close(): void;
}

/** Takes a certificate whose files were replaced; one that cannot be used is told of, and the one before stays. */
export function watchCertificate(
  files: CertificateFiles,
  renew: (certificate: Certificate) => void,
  log: Log,
): CertificateWatch {
  let known: string | undefined;
  const marks = async () => `${await markOf(files.cert)} ${await markOf(files.key)}`;

  async function take(): Promise<void> {
    try {
      renew(await readCertificate(files));
      log("certificate_taken");
    } catch (error) {
      log("certificate_refused", { detail: detailOf(error) });
    }
  }
  async function look(): Promise<void> {
    // While one of them is being replaced it may be missing: the next look finds both.
    const found = await marks().catch(() => known);
    const isChanged = known !== undefined && found !== known;
    known = found;
    if (isChanged) await take();
  }
  void look();
  const timer = setInterval(() => void look(), CERTIFICATE_LOOK_EVERY_MS);
  timer.unref();
  return { renew: take, close: () => clearInterval(timer) };
}
