/**
 * Wycheproof's vectors (C2SP/wycheproof, testvectors_v1, Apache-2.0). They lie beside the repository, in
 * `../shared/vectors`, and are not copied into it; where that folder is absent the tests say so and skip.
 */
import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";

const folder = new URL("../../../../shared/vectors/", import.meta.url);

/** The `describe` title of one file: it says aloud when there is nothing to run. */
export function title(file: string): string {
  return present(file) ? `Wycheproof ${file}` : `Wycheproof ${file}: SKIPPED, ../shared/vectors/${file} is absent`;
}

export function present(file: string): boolean {
  return existsSync(new URL(file, folder));
}

const bytes = z.string().transform((text) => new Uint8Array(Buffer.from(text, "hex")));
const test = z.object({
  tcId: z.number(),
  comment: z.string(),
  flags: z.array(z.string()),
  result: z.enum(["valid", "invalid", "acceptable"]),
});

function load<T extends z.ZodRawShape, G extends z.ZodRawShape>(file: string, fields: T, group: G) {
  const schema = z.object({
    numberOfTests: z.number(),
    testGroups: z.array(z.object({ ...group, tests: z.array(test.extend(fields)) })),
  });
  return schema.parse(JSON.parse(readFileSync(new URL(file, folder), "utf8")));
}

export const loadEd25519 = () =>
  load("ed25519.json", { msg: bytes, sig: bytes }, { publicKey: z.object({ pk: bytes }) });
export const loadX25519 = () => load("x25519.json", { public: bytes, private: bytes, shared: bytes }, {});
export const loadHkdf = () =>
  load("hkdf_sha256.json", { ikm: bytes, salt: bytes, info: bytes, size: z.number(), okm: bytes }, {});
export const loadHmac = () => load("hmac_sha256.json", { key: bytes, msg: bytes, tag: bytes }, { tagSize: z.number() });
export const loadAead = (file: "chacha20_poly1305.json" | "xchacha20_poly1305.json") =>
  load(file, { key: bytes, iv: bytes, aad: bytes, msg: bytes, ct: bytes, tag: bytes }, {});
