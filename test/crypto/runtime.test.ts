/** Which primitives are used where some are wrong or not there, and the one switch that forces noble's. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { identityFromSeed, nativeInUse } from "../../src/crypto/index.ts";
import { combine, proven } from "../../src/crypto/primitives/chosen.ts";
import { native } from "../../src/crypto/primitives/native.ts";
import { noble } from "../../src/crypto/primitives/noble.ts";
import type { Primitives } from "../../src/crypto/primitives/primitives.ts";

const has = proven(native);

describe("a runtime", () => {
  const wrong: Primitives = {
    ...noble,
    sha256: () => new Uint8Array(32),
    aeadOpen: () => new Uint8Array(),
    x25519Public: () => new Uint8Array(32),
    ed25519Verify: () => true,
  };
  const lacking = (): never => {
    throw new Error("unsupported");
  };

  test("whose primitives are wrong, or not there, is not asked again: noble's stand in", () => {
    expect([...proven(wrong)]).toEqual([]);
    const partly: Primitives = { ...native, x25519: lacking, x25519Public: lacking, aeadSeal: lacking };
    expect([...proven(partly)]).toEqual([...has].filter((name) => name === "sha256" || name === "ed25519"));
    const secret = new Uint8Array(32).fill(6);
    for (const by of [combine(wrong), combine(partly)]) {
      expect(by.x25519Public(secret)).toEqual(noble.x25519Public(secret));
      const sealed = by.aeadSeal(secret, new Uint8Array(12), new Uint8Array(5000), secret, secret);
      expect(by.aeadOpen(secret, new Uint8Array(12), sealed.subarray(32), secret)).toHaveLength(5000);
      expect(by.ed25519Verify(secret, secret, new Uint8Array(64))).toBe(false);
    }
  });

  const answer = `
    import { hex, identityFromSeed, nativeInUse, sha256, x25519 } from "./src/crypto/index.ts";
    import "./src/actors/ports.ts";
    const { did, dhSecret, dhPublic } = identityFromSeed(new Uint8Array(32).fill(1));
    console.log(JSON.stringify([nativeInUse(), did, hex.encode(sha256(x25519(dhSecret, dhPublic)))]));`;
  const ask = (variables: Record<string, string>): unknown => {
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", answer], {
      cwd: join(import.meta.dirname, "../.."),
      env: { PATH: process.env.PATH, ...variables },
      encoding: "utf8",
    });
    expect(stderr.replaceAll(/^.*ExperimentalWarning.*\n.*\n/gm, "")).toBe("");
    return JSON.parse(stdout);
  };
  const { did } = identityFromSeed(new Uint8Array(32).fill(1));

  test("that is told KARS_MESH_CRYPTO=noble uses noble's alone", () => {
    expect(ask({ KARS_MESH_CRYPTO: "noble" })).toEqual([[], did, expect.any(String)]);
    expect(ask({})).toEqual([nativeInUse(), did, expect.any(String)]);
  });
});
