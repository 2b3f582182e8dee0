import { basename, sep } from "node:path";

// Files that look like secrets: what nobody means to hand to a cluster, unless he says so. By their real names and by how they begin. A
// secret in a file that looks like any other is not found; a hard link is such a file, because a file does not know its other names.

const NAMES: readonly RegExp[] = [
  /^\.env(?:\..*)?$/,
  /\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ovpn|ppk)$/,
  /^id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?$/,
  /^(?:[._]netrc|\.npmrc|\.pypirc|\.pgpass|\.git-credentials|\.htpasswd|wallet\.dat)$/,
  /^(?:\.?credentials|\.?secrets?|service[-_]account.*)(?:\.(?:json|ya?ml|toml|ini))?$/,
];
/** Templates of such files, which hold none. */
const TEMPLATE = /^\.env\.(?:example|sample|template|dist)$/;

const FOLDERS: ReadonlySet<string> = new Set([
  ".ssh",
  ".gnupg",
  ".aws",
  ".azure",
  ".kube",
  ".docker",
  ".password-store",
]);

/** How the private keys of OpenSSH, OpenSSL and PGP begin. */
const BEGINNING = /^\s*(?:-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File)/;

/** What of a file's beginning is looked at. */
const BEGINNING_SIZE = 256;

/** Why a path is taken for that of a secret, as the end of a sentence; undefined when it is not. */
export function secretByName(path: string): string | undefined {
  const name = basename(path).toLowerCase();
  const folder = path
    .split(sep)
    .slice(0, -1)
    .find((part) => FOLDERS.has(part.toLowerCase()));
  if (folder !== undefined) return `lies in ${folder}, where secrets are kept`;
  return NAMES.some((form) => form.test(name)) && !TEMPLATE.test(name) ? "is named as secrets are" : undefined;
}

/** The same by its first bytes. */
export const secretByContent = (bytes: Uint8Array): string | undefined =>
  BEGINNING.test(Buffer.from(bytes.subarray(0, BEGINNING_SIZE)).toString("latin1"))
    ? "begins as a private key does"
    : undefined;
