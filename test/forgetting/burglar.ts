/** Someone who took a whole home, the store key among it, and tries every key in it on everything that is sealed in it. */
import { xchacha20 } from "@noble/ciphers/chacha.js";
import { unseal } from "../../src/store/seal.ts";
import { filesBelow } from "../store/disks.ts";

const NONCE_SIZE = 24;
const TAG_SIZE = 16;
const VAULT_MAGIC = Buffer.from("kars-mesh-vault-v1\n");

/** Everything in a text that may be a key of 32 bytes, or be sealed: base64 in either alphabet. */
const WORDS = /[A-Za-z0-9+/_-]{43,}={0,2}/g;

interface Sealed {
  readonly bytes: Uint8Array;
  /** What it is authenticated with when it is where it belongs. */
  readonly places: readonly string[];
  readonly path: string;
}

const decode = (text: string) => new Uint8Array(Buffer.from(text, "base64"));

/** The scopes of words: whom the journal's streams name, and offloads by their streams. */
const scopesOf = (texts: readonly string[]) =>
  new Set(texts.flatMap((text) => text.match(/did:mesh:[0-9a-f]{32}|offload\/[0-9a-f-]{36}/g) ?? []));

function sealedIn(path: string, bytes: Buffer, scopes: ReadonlySet<string>): Sealed[] {
  const bodies = [...scopes].map((scope) => `body/${scope}`);
  const start = bytes.subarray(0, VAULT_MAGIC.length).equals(VAULT_MAGIC) ? VAULT_MAGIC.length : 0;
  const found: Sealed[] = [{ path, bytes: new Uint8Array(bytes.subarray(start)), places: ["vault-v1", ...bodies] }];
  for (const line of bytes.toString("utf8").split("\n")) {
    const number = /^\{"n":(\d+),/.exec(line)?.[1];
    for (const match of line.matchAll(/(?:"(\d+)\.|")([A-Za-z0-9+/]{50,}={0,2})"/g)) {
      const [, epoch, text = ""] = match;
      const places = epoch === undefined ? bodies : [`journal/${epoch}/${number}`];
      found.push({ path: `${path}, commit ${number}`, bytes: decode(text), places });
    }
  }
  return found;
}

/** Every file at one moment: where one is replaced meanwhile, all are read again. */
async function taken(home: string): Promise<Map<string, Buffer>> {
  for (;;) {
    try {
      return await filesBelow(home);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
}

/**
 * Looks for some bytes in every file of a home as they lie there, and in whatever any key in the home makes of anything that
 * is sealed there; a key in what was opened is tried in its turn.
 * @returns where each of them was found
 */
export async function burgle(home: string, wanted: Readonly<Record<string, Uint8Array | string>>): Promise<string[]> {
  const files = await taken(home);
  const texts = [...files.values()].map((bytes) => bytes.toString("utf8"));
  const scopes = scopesOf(texts);
  const sealed = [...files].flatMap(([path, bytes]) => sealedIn(path, bytes, scopes));
  const keys = new Map<string, Uint8Array>();
  const untried: Uint8Array[] = [];
  const collect = (text: string) => {
    for (const [word] of text.matchAll(WORDS)) {
      const key = decode(word.replaceAll("-", "+").replaceAll("_", "/"));
      const name = Buffer.from(key).toString("hex");
      if (key.length !== 32 || keys.has(name)) continue;
      keys.set(name, key);
      untried.push(key);
    }
  };
  const found = new Set<string>();
  const needles = Object.entries(wanted).flatMap(([name, value]) =>
    typeof value === "string"
      ? [[name, Buffer.from(value)] as const]
      : [
          Buffer.from(value),
          ...(["base64", "base64url", "hex"] as const).map((form) => Buffer.from(Buffer.from(value).toString(form))),
        ].map((bytes) => [name, bytes] as const),
  );
  const look = (bytes: Uint8Array, where: string) => {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (const [name, needle] of needles) if (buffer.includes(needle)) found.add(`${name} in ${where}`);
  };
  for (const [path, bytes] of files) look(bytes, path);
  for (const text of texts) collect(text);
  for (let key = untried.pop(); key; key = untried.pop()) {
    for (const { bytes, places, path } of sealed) {
      if (bytes.length <= NONCE_SIZE) continue;
      // Without its tag too: a file may be cut, or have been moved.
      const body = bytes.subarray(NONCE_SIZE, Math.max(NONCE_SIZE + 1, bytes.length - TAG_SIZE));
      look(xchacha20(key, bytes.subarray(0, NONCE_SIZE), body, undefined, 1), `${path}, opened`);
      for (const place of places) {
        try {
          collect(Buffer.from(unseal(key, bytes, place)).toString("utf8"));
        } catch {
          // Another key.
        }
      }
    }
  }
  return [...found].sort();
}
