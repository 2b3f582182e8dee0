/**
 * Wycheproof's vectors (C2SP/wycheproof, testvectors_v1, Apache-2.0). They lie beside the repository, in
 * `../shared/vectors`, and are not copied into it; where that folder is absent the tests say so and skip.
 */
import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";

const folder = new URL("../../../shared/vectors/", import.meta.url);

export type File =
  | "chacha20_poly1305.json"
  | "ed25519.json"
  | "hkdf_sha256.json"
  | "hmac_sha256.json"
  | "x25519.json"
  | "xchacha20_poly1305.json";

/** Whether a file is there; says aloud when it is not. */
export function present(file: File): boolean {
  if (existsSync(new URL(file, folder))) return true;
  console.warn(`SKIPPED: Wycheproof's ${file}, since ../shared/vectors/${file} is absent.`);
  return false;
}

const bytes = z.string().transform((text) => new Uint8Array(Buffer.from(text, "hex")));
const test = z.object({
  tcId: z.number(),
  comment: z.string(),
  flags: z.array(z.string()),
  result: z.enum(["valid", "invalid", "acceptable"]),
});
const Counted = z.object({
  numberOfTests: z.int().min(1),
  testGroups: z.array(z.object({ tests: z.array(z.unknown()) })),
});

/** The groups of a file, with all their tests. Throws unless these are as many as the file says. */
function load<T extends z.ZodRawShape, G extends z.ZodRawShape>(file: File, fields: T, group: G) {
  const json: unknown = JSON.parse(readFileSync(new URL(file, folder), "utf8"));
  const counted = Counted.parse(json);
  const count = counted.testGroups.reduce((sum, { tests }) => sum + tests.length, 0);
  if (count !== counted.numberOfTests) throw new Error(`${file} says ${counted.numberOfTests} and has ${count} tests`);
  return z.object({ testGroups: z.array(z.object({ ...group, tests: z.array(test.extend(fields)) })) }).parse(json)
    .testGroups;
}

export const loadEd25519 = () =>
  load("ed25519.json", { msg: bytes, sig: bytes }, { publicKey: z.object({ pk: bytes }) });
export const loadX25519 = () => load("x25519.json", { public: bytes, private: bytes, shared: bytes }, {});
export const loadHkdf = () =>
  load("hkdf_sha256.json", { ikm: bytes, salt: bytes, info: bytes, size: z.number(), okm: bytes }, {});
export const loadHmac = () => load("hmac_sha256.json", { key: bytes, msg: bytes, tag: bytes }, { tagSize: z.number() });
export const loadAead = (file: "chacha20_poly1305.json" | "xchacha20_poly1305.json") =>
  load(file, { key: bytes, iv: bytes, aad: bytes, msg: bytes, ct: bytes, tag: bytes }, {});
