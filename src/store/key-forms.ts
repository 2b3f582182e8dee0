import { type ScryptOptions, scrypt } from "node:crypto";
import { promisify } from "node:util";
import { z } from "zod";
import { MeshError } from "../errors.ts";
import {
  PASSPHRASE_LENGTH_MAX,
  PASSPHRASE_LENGTH_MIN,
  SCRYPT_COST,
  SCRYPT_MEMORY_MAX,
  SCRYPT_PARALLEL_MAX,
} from "../limits.ts";
import { safeParse } from "../parse.ts";
import type { Keychain } from "./keychain.ts";
import { type Random, SEAL_KEY_SIZE, seal, unseal } from "./seal.ts";

// The forms in which a store key lies in its file, each of which says what it is:
//
//   kars-mesh-store-key-v1:<the key, base64url>
//   kars-mesh-store-key-passphrase-v1:{"n","r","p","salt","sealed"}   sealed under scrypt (RFC 7914) of a passphrase
//   kars-mesh-store-key-keychain-v1:{"service","account"}             in the keychain of the operating system

export type Protection = "file" | "passphrase" | "keychain";

/** How a key that does not lie in the open is come by. */
export interface Unlock {
  /** The passphrase, or undefined when nobody gives one. */
  passphrase(): Promise<string | undefined>;
  /** @throws MeshError `keychain_unavailable` */
  keychain(): Promise<Keychain>;
}

const isPowerOfTwo = (n: number) => Number.isInteger(Math.log2(n));
/** The parameters of scrypt: memory is 128 · n · r bytes. */
const Cost = z
  .object({ n: z.int().min(2).refine(isPowerOfTwo), r: z.int().min(1), p: z.int().min(1).max(SCRYPT_PARALLEL_MAX) })
  .refine(({ n, r }) => 128 * n * r <= SCRYPT_MEMORY_MAX);
/** How a store key is to be protected. */
export type Wish =
  | { readonly protection: "file" }
  | { readonly protection: "passphrase"; readonly passphrase: string; readonly cost?: z.infer<typeof Cost> }
  | { readonly protection: "keychain" };

const Passphrase = z.intersection(Cost, z.object({ salt: z.base64url().max(200), sealed: z.base64url().max(200) }));
const InKeychain = z.object({ service: z.string().min(1).max(200), account: z.string().min(1).max(200) });

export type Form =
  | { readonly protection: "file"; readonly key: Uint8Array }
  | ({ readonly protection: "passphrase" } & z.infer<typeof Passphrase>)
  | ({ readonly protection: "keychain" } & z.infer<typeof InKeychain>);

const HEADERS = {
  file: "kars-mesh-store-key-v1:",
  passphrase: "kars-mesh-store-key-passphrase-v1:",
  keychain: "kars-mesh-store-key-keychain-v1:",
} as const;

const SERVICE = "kars-mesh";
const SALT_SIZE = 16;
const PLACE = "store-key-v1";

const fromText = (text: string) => new Uint8Array(Buffer.from(text, "base64url"));
const toText = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64url");

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // What is no JSON is no form either.
    return undefined;
  }
}

/** The form that a key file's text has, or undefined when it has none. */
export function parseForm(text: string): Form | undefined {
  const after = (header: string) => (text.startsWith(header) ? text.slice(header.length) : undefined);
  const plain = after(HEADERS.file);
  if (plain !== undefined) {
    const key = fromText(plain);
    return key.length === SEAL_KEY_SIZE ? { protection: "file", key } : undefined;
  }
  const passphrase = safeParse(Passphrase, json(after(HEADERS.passphrase) ?? ""));
  if (passphrase.success) return { protection: "passphrase", ...passphrase.data };
  const keychain = safeParse(InKeychain, json(after(HEADERS.keychain) ?? ""));
  return keychain.success ? { protection: "keychain", ...keychain.data } : undefined;
}

export function formatForm(form: Form): string {
  if (form.protection === "file") return `${HEADERS.file}${toText(form.key)}\n`;
  const { protection, ...rest } = form;
  return `${HEADERS[protection]}${JSON.stringify(rest)}\n`;
}

const scryptBytes = promisify<string, Uint8Array, number, ScryptOptions, Buffer>(scrypt);

/** The key of 32 bytes that a passphrase stands for. The same characters in another Unicode form are the same passphrase. */
async function derive(passphrase: string, salt: Uint8Array, { n, r, p }: z.infer<typeof Cost>): Promise<Uint8Array> {
  const options = { N: n, r, p, maxmem: 2 * SCRYPT_MEMORY_MAX };
  return new Uint8Array(await scryptBytes(passphrase.normalize("NFC"), salt, SEAL_KEY_SIZE, options));
}

/**
 * The key that a form stands for.
 * @throws MeshError `passphrase_needed`, `passphrase_wrong`, `keychain_unavailable`
 */
export async function keyOf(form: Form, unlock: Unlock): Promise<Uint8Array> {
  if (form.protection === "file") return form.key;
  if (form.protection === "passphrase") {
    const passphrase = await unlock.passphrase();
    if (passphrase === undefined) throw new MeshError("passphrase_needed");
    const derived = await derive(passphrase, fromText(form.salt), form);
    try {
      return unseal(derived, fromText(form.sealed), PLACE);
    } catch (cause) {
      throw new MeshError("passphrase_wrong", undefined, { cause });
    }
  }
  const keychain = await unlock.keychain();
  const { service, account } = form;
  const key = fromText((await keychain.read(service, account)) ?? "");
  if (key.length !== SEAL_KEY_SIZE)
    throw new MeshError("keychain_unavailable", `The keychain of this user and session has no ${service}/${account}.`);
  return key;
}

/** @throws MeshError `input_invalid` */
export function checkPassphrase(passphrase: string): void {
  const { length } = passphrase.normalize("NFC");
  if (length < PASSPHRASE_LENGTH_MIN || length > PASSPHRASE_LENGTH_MAX)
    throw new MeshError(
      "input_invalid",
      `A passphrase has ${PASSPHRASE_LENGTH_MIN} to ${PASSPHRASE_LENGTH_MAX} characters.`,
    );
}

/**
 * Puts a key into the wished form. In a keychain it gets a name of its own, so that the key before it stays beside it.
 * @throws MeshError `input_invalid`, `keychain_unavailable`
 */
export async function protect(key: Uint8Array, wish: Wish, unlock: Unlock, random: Random): Promise<Form> {
  if (wish.protection === "file") return { protection: "file", key };
  if (wish.protection === "passphrase") {
    checkPassphrase(wish.passphrase);
    const salt = random(SALT_SIZE);
    const cost = wish.cost ?? SCRYPT_COST;
    const sealed = seal(await derive(wish.passphrase, salt, cost), key, PLACE, random);
    return { protection: "passphrase", ...cost, salt: toText(salt), sealed: toText(sealed) };
  }
  const account = `store key ${Buffer.from(random(8)).toString("hex")}`;
  const keychain = await unlock.keychain();
  await keychain.write(SERVICE, account, toText(key));
  if ((await keychain.read(SERVICE, account)) !== toText(key))
    throw new MeshError("keychain_unavailable", "The keychain does not give back what was put into it.");
  return { protection: "keychain", service: SERVICE, account };
}
