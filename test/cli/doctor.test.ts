import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { MeshNode } from "../../src/actors/node.ts";
import { offline } from "../actors/world.ts";
import { ALICE } from "../specification.ts";
import { documentOf, type Ended, folder, Running, run, tidyUp } from "./harness.ts";

afterAll(tidyUp);

interface Document {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly status: string; readonly message: string }[];
  readonly repair?: { readonly outcome: string; readonly damaged: string } | null;
}
const doctor = async (home: string, ...args: string[]): Promise<Ended & { document: Document }> => {
  const ended = await run("kars-mesh", ["doctor", "--home", home, "--json", ...args]);
  return { ...ended, document: documentOf(ended) as Document };
};

/** A home that is damaged in its second of three commits. */
async function damagedHome(): Promise<string> {
  const home = join(folder(), "home");
  const node = await MeshNode.open({ home, ports: offline() });
  for (const name of ["a", "b", "c"]) {
    const event = { type: "NAMED", name, source: "registry" };
    await node.core.system.commit([{ stream: `conversation/${ALICE}`, event }]).durable;
  }
  await node.close();
  const segment = join(home, "journal", "000000000001.jsonl");
  writeFileSync(segment, readFileSync(segment, "utf8").replace('"name":"b"', '"name":"B"'));
  return home;
}

describe.concurrent("doctor", () => {
  test("a home that does not exist yet is well, and is not made", async () => {
    const home = join(folder(), "none");
    const { code, stderr, document } = await doctor(home);
    expect([code, stderr, document.ok]).toEqual([0, "", true]);
    expect(existsSync(home)).toBe(false);
    expect(await run("kars-mesh", ["doctor", "--home", home])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^ok {7}node {2}Node\.js .*\nnote {5}home {2}There is nothing at/),
    });
  });

  test("a damaged home ends with 1; --repair says what it did and where the damaged home is; then all is well", async () => {
    const home = await damagedHome();
    expect(await doctor(home)).toMatchObject({ code: 1, document: { ok: false } });
    expect(await run("kars-mesh", ["history", "--home", home, "--json"])).toMatchObject({
      code: 1,
      stdout: expect.stringContaining("kars-mesh doctor"),
    });
    const repaired = await doctor(home, "--repair");
    expect(repaired).toMatchObject({ code: 0, document: { ok: true, repair: { outcome: "repaired" } } });
    const { checks, repair } = repaired.document;
    const said = checks.filter(({ name }) => name === "repair").map(({ message }) => message);
    expect(said[0]).toMatch(/^The home now has what is sound: 1 commit, up to /);
    expect(said[1]).toMatch(/^Left in the damaged home only: 2 commits, from /);
    expect(said.at(-1)).toContain(`The damaged home is kept at ${repair?.damaged}.`);
    expect(readdirSync(dirname(home))).toHaveLength(2);
    expect(await doctor(home, "--repair")).toMatchObject({ code: 0, document: { repair: { outcome: "sound" } } });
  });

  test("what cannot be repaired is said, and everything is looked at all the same", async () => {
    const home = await damagedHome();
    writeFileSync(join(home, "vault"), "nonsense");
    const { code, document } = await doctor(home, "--repair");
    expect([code, document.repair]).toEqual([1, null]);
    expect(document.checks[0]).toMatchObject({
      name: "repair",
      status: "problem",
      message: expect.stringMatching(/^Nothing was repaired\. .*vault is not a vault\..*kars-mesh history/),
    });
    expect(document.checks.map(({ name }) => name)).toContain("clock");
    expect(readdirSync(dirname(home))).toEqual(["home"]);
  });

  test("a process that has the home open is asked, and a repair does not run beside it", async () => {
    const home = join(folder(), "home");
    const owner = new Running("kars-mesh", ["run", "--home", home]);
    await owner.says(/./s, "stderr");
    const { document } = await doctor(home);
    expect(document.checks.find(({ name }) => name === "ownership")?.message).toContain(`Process ${owner.pid} has it`);
    const repair = await doctor(home, "--repair");
    expect(repair).toMatchObject({ code: 1, document: { repair: null } });
    expect(repair.document.checks[0]?.message).toBe(
      "Nothing was repaired. Another process has the home open: end it, and repeat this.",
    );
    await owner.end();
  });
});
