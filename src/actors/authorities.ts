import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import * as tls from "node:tls";
import { MeshError } from "../errors.ts";
import { AUTHORITIES_SIZE_MAX } from "../limits.ts";
import { joinPath, realDisk } from "../store/disk.ts";
import { refusedBy } from "../store/disk-errors.ts";

// Authorities that sign certificates of clusters and that this machine does not know by itself: an operator's own. A home keeps
// them in a file; they are trusted beside those of the system, for the connections of that home alone.

export const AUTHORITIES_FILE = "authorities.pem";

/** PEM text of authorities to trust; empty for none. Asked anew for each connection. */
export type Authorities = () => string;

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The certificates in a PEM file, each once. @throws MeshError `input_invalid` when there is none, or one that is damaged */
export function parseAuthorities(pem: string): string[] {
  const found = [...new Set(pem.match(CERTIFICATE) ?? [])];
  try {
    for (const certificate of found) new X509Certificate(certificate);
  } catch (cause) {
    throw new MeshError("input_invalid", "The file of authorities holds a damaged certificate.", { cause });
  }
  if (found.length === 0 || pem.length > AUTHORITIES_SIZE_MAX)
    throw new MeshError("input_invalid", "A file of authorities holds certificates in PEM, and nothing large.");
  return found;
}

/** @throws MeshError `input_invalid` */
export function readAuthorities(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new MeshError("input_invalid", `The authority's certificate cannot be read: ${why}.`, { cause });
  }
  return `${parseAuthorities(text).join("\n")}\n`;
}

/** Those that a home trusts. A file that cannot be read is none: then the certificate is not trusted, and that is told. */
export const authoritiesOf =
  (home: string): Authorities =>
  () => {
    try {
      return readFileSync(joinPath(home, AUTHORITIES_FILE), "utf8");
    } catch {
      return "";
    }
  };

/** Has a home trust more authorities. Returns what takes them back. @throws MeshError `store_io` */
export async function trustAuthorities(home: string, pem: string): Promise<() => Promise<void>> {
  const path = joinPath(home, AUTHORITIES_FILE);
  const before = authoritiesOf(home)();
  const known: string[] = before.match(CERTIFICATE) ?? [];
  const all = new Set([...known, ...parseAuthorities(pem)]);
  try {
    await realDisk.makeDirectory(home);
    await realDisk.replace(path, Buffer.from(`${[...all].join("\n")}\n`));
  } catch (cause) {
    throw refusedBy(path, cause);
  }
  return () => (before === "" ? realDisk.remove(path) : realDisk.replace(path, Buffer.from(before)));
}

const contexts = new Map<string, tls.SecureContext>();

/** What TLS trusts: undefined, which is what Node trusts by itself, where there is nothing more. */
export function trusting(pem: string): tls.SecureContext | undefined {
  if (pem === "") return undefined;
  const known = contexts.get(pem);
  if (known) return known;
  // Before Node 22.15 what NODE_EXTRA_CA_CERTS names cannot be asked for, and is not trusted beside a home's own authorities.
  const byItself = tls.getCACertificates?.("default") ?? tls.rootCertificates;
  const context = tls.createSecureContext({ ca: [...byItself, ...(pem.match(CERTIFICATE) ?? [])] });
  contexts.clear();
  contexts.set(pem, context);
  return context;
}

/** Nobody that is trusted signed it. */
const UNKNOWN_SIGNER: ReadonlySet<string> = new Set([
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_UNTRUSTED",
  "CERT_SIGNATURE_FAILURE",
]);
/** It is not good now, or not for that host. */
const UNFIT: ReadonlySet<string> = new Set([
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_REVOKED",
  "INVALID_PURPOSE",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);

export interface Distrust {
  readonly reason: string;
  /** Another authority would help. */
  readonly isUnknownSigner: boolean;
}

/** Why a server's certificate is not trusted, if that is what an error says, or what caused it. */
export function distrustOf(error: unknown): Distrust | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const code = "code" in at ? String(at.code) : "";
    const isUnknownSigner = UNKNOWN_SIGNER.has(code);
    if (isUnknownSigner || UNFIT.has(code)) return { reason: at.message.split(";")[0] ?? code, isUnknownSigner };
  }
  return undefined;
}

/** What to say of it, and what helps: a sentence's end. @param remedy for a signer that is not known */
export const distrustText = ({ reason, isUnknownSigner }: Distrust, remedy: string): string =>
  `a certificate that this machine does not trust: ${reason}. ${isUnknownSigner ? remedy : "Check this machine's clock, and the address; its operator renews the certificate"}`;

/** What a person at a laptop can do. */
export const LAPTOP_REMEDY =
  "If its operator has an authority of their own, get its certificate from them and pair with kars-mesh pair --ca FILE";
