/** Keys and forgetting as a person meets them: processes, environments, terminals. */
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { MeshNode } from "../../src/actors/node.ts";
import { offline } from "../actors/world.ts";
import { PROGRAMS } from "../build.ts";
import { ALICE } from "../specification.ts";
import { documentOf, folder, Laptop, run, tidyUp } from "./harness.ts";

afterAll(tidyUp);

const PATIENCE_MS = 120_000;
const OLD = { KARS_MESH_PASSPHRASE: "the old passphrase" };
const at = (home: string, args: readonly string[], env = {}) => run("kars-mesh", ["--home", home, ...args], { env });
const errorOf = (ended: Awaited<ReturnType<typeof run>>) =>
  (documentOf(ended) as { error: { code: string } }).error.code;

describe("kars-mesh key", { timeout: PATIENCE_MS }, () => {
  test("says how the key is protected and changes that, with the passphrase from the environment", async () => {
    const { home } = new Laptop();
    expect(documentOf(await at(home, ["key", "--json"]))).toEqual({ protection: null });
    const changed = await at(home, ["key", "--passphrase", "--json"], OLD);
    expect(documentOf(changed)).toEqual({ protection: "passphrase" });
    expect(changed.stderr).toContain("KARS_MESH_PASSPHRASE");
    // Without the passphrase it says so, and what to set; how the key is protected it says all the same.
    expect((await at(home, ["key"])).stdout).toContain("sealed with a passphrase");
    const closed = await at(home, ["whoami"]);
    expect([closed.code, closed.stdout]).toEqual([1, ""]);
    expect(closed.stderr).toMatch(/^The store key is protected by a passphrase\. Set KARS_MESH_PASSPHRASE/);
    expect(errorOf(await at(home, ["whoami", "--json"], { KARS_MESH_PASSPHRASE: "another one" }))).toBe(
      "passphrase_wrong",
    );

    const file = join(folder(), "passphrase");
    writeFileSync(file, "the new passphrase\n");
    const again = { ...OLD, KARS_MESH_NEW_PASSPHRASE_FILE: file };
    expect((await at(home, ["key", "--passphrase", "--json"], again)).code).toBe(0);
    expect(errorOf(await at(home, ["whoami", "--json"], OLD))).toBe("passphrase_wrong");
    expect((await at(home, ["whoami", "--json"], { KARS_MESH_PASSPHRASE_FILE: file })).code).toBe(0);
    const everything = [changed, closed].map(({ stdout, stderr }) => stdout + stderr).join("");
    expect(everything + readFileSync(join(home, "store.key"), "utf8")).not.toMatch(/(old|new) passphrase/);
  });

  test("goes through the process that owns the home", async () => {
    const laptop = new Laptop();
    const owner = laptop.start("run");
    await owner.says(/stays online here/, "stderr");
    expect(documentOf(await at(laptop.home, ["key", "--passphrase", "--json"], OLD))).toEqual({
      protection: "passphrase",
    });
    expect(await laptop.json("whoami")).toMatchObject({ did: null });
    const { code, stdout, stderr } = await owner.end();
    expect([code, stdout + stderr]).toEqual([0, expect.not.stringContaining("old passphrase")]);
    expect(errorOf(await at(laptop.home, ["whoami", "--json"]))).toBe("passphrase_needed");
    expect((await at(laptop.home, ["whoami", "--json"], OLD)).code).toBe(0);
  });

  test("where nobody can be asked for a new passphrase it says what to set", async () => {
    const ended = await at(new Laptop().home, ["key", "--passphrase"]);
    expect([ended.code, ended.stderr]).toEqual([1, expect.stringContaining("KARS_MESH_NEW_PASSPHRASE")]);
  });
});

/** util-linux's `script` gives a process a terminal. */
const hasTerminals = spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux") ?? false;

/** Runs a command at a terminal, typing each answer when its question stands there. */
async function typed(home: string, args: readonly string[], answers: readonly (readonly [RegExp, string])[]) {
  const words = [
    process.execPath,
    "--disable-warning=ExperimentalWarning",
    PROGRAMS["kars-mesh"],
    "--home",
    home,
    ...args,
  ];
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  const env = { PATH, NODE_COMPILE_CACHE, HOME: home, TERM: "dumb" };
  const child = spawn("script", ["-qefc", words.join(" "), "/dev/null"], { env, stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  let screen = "";
  let from = 0;
  const left = [...answers];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    screen += text;
    for (let [next] = left; next; [next] = left) {
      const found = next[0].exec(screen.slice(from));
      if (!found) return;
      from += found.index + found[0].length;
      left.shift();
      child.stdin.write(`${next[1]}\r`);
    }
  });
  return { code: await ended, screen };
}

describe("at a terminal", { timeout: PATIENCE_MS }, () => {
  test("passphrases are asked for, and not shown", async ({ skip }) => {
    if (!hasTerminals) skip("no util-linux script here to make a terminal with");
    const { home } = new Laptop();
    const words = "words that nobody sees";
    const set = await typed(
      home,
      ["key", "--passphrase"],
      [
        [/New passphrase: /, words],
        [/The same again: /, words],
      ],
    );
    expect([set.code, set.screen]).toEqual([0, expect.stringContaining("sealed with a passphrase")]);
    const asked = /Passphrase of .*: /;
    const opened = await typed(
      home,
      ["whoami"],
      [
        [asked, "not these"],
        [asked, words],
      ],
    );
    expect([opened.code, opened.screen]).toEqual([0, expect.stringContaining("none yet")]);
    expect(opened.screen).toContain("does not open the store key");
    expect(set.screen + opened.screen).not.toMatch(/nobody sees|not these/);
    const differs = await typed(
      home,
      ["key", "--passphrase"],
      [
        [/New passphrase: /, "one of these"],
        [/The same again: /, "other of these"],
      ],
    );
    expect([differs.code, differs.screen]).toEqual([1, expect.stringContaining("nothing was changed")]);
  });

  test("forgetting is asked about", async ({ skip }) => {
    if (!hasTerminals) skip("no util-linux script here to make a terminal with");
    const { home } = new Laptop();
    await talkedTo(home);
    const no = await typed(home, ["forget", "bob"], [[/for ever\? \[y\/N\] /, ""]]);
    expect([no.code, no.screen]).toEqual([1, expect.stringContaining("1 message")]);
    expect((await at(home, ["history"])).stdout).not.toContain("FORGOTTEN");
    const yes = await typed(home, ["forget", "bob"], [[/for ever\? \[y\/N\] /, "y"]]);
    expect([yes.code, yes.screen]).toEqual([0, expect.stringContaining("Forgotten: 1 message")]);
  });
});

/** Gives a home a conversation of one message with somebody called bob. */
async function talkedTo(home: string): Promise<void> {
  const node = await MeshNode.open({ home, ports: offline() });
  const { body, size, secrets } = node.core.bodies.seal(ALICE, "a word");
  await node.core.system.commit(
    [
      { stream: `conversation/${ALICE}`, event: { type: "NAMED", name: "bob", source: "address" } },
      { stream: `conversation/${ALICE}`, event: { type: "RECEIVED", id: "m", session: "s", kind: "chat", body, size } },
    ],
    { secrets },
  ).durable;
  await node.close();
}

test("kars-mesh forget asks somebody, or wants --yes", { timeout: PATIENCE_MS }, async () => {
  const { home } = new Laptop();
  await talkedTo(home);
  expect(errorOf(await at(home, ["forget", "nobody", "--yes", "--json"]))).toBe("peer_unknown");
  const unasked = await at(home, ["forget", "bob"]);
  expect([unasked.code, unasked.stderr]).toEqual([1, expect.stringContaining("--yes")]);
  expect(documentOf(await at(home, ["forget", "bob", "--yes", "--json"]))).toEqual({
    did: ALICE,
    name: "bob",
    messages: 1,
    undelivered: 0,
    offloads: 0,
    folders: 0,
  });
  const told = await at(home, ["history"]);
  expect(told.stdout).toContain("FORGOTTEN");
});
