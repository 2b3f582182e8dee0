import { copyFileSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { openCluster, openOperator } from "../../src/cluster/local.ts";

// What an operator does by mistake, or somebody who may write the cluster's folder does on purpose, to the audit record.

function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), "kars-operator-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A cluster that runs, whose record has one line. */
async function running() {
  const directory = temporary();
  const notes: string[] = [];
  const cluster = await openCluster({ directory, port: 0, onNote: (text) => notes.push(text) });
  onTestFinished(() => cluster.close());
  const issue = (name: string) =>
    cluster.call("grant_issue", { name, slots: 1, capabilities: ["offload"], expires_ms: 60_000 });
  await issue("first");
  const path = join(directory, "audit.jsonl");
  await cluster.call("audit", {});
  return { directory, path, notes, cluster, issue, grants: () => grantsOf(path) };
}

const grantsOf = (path: string): unknown[] =>
  readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line).grant);

it.each<[string, (path: string) => void]>([
  [
    "replaced by a copy",
    (path) => {
      copyFileSync(path, `${path}.new`);
      renameSync(`${path}.new`, path);
    },
  ],
  ["moved away, as rotation does", (path) => renameSync(path, `${path}.1`)],
  ["copied and cut to nothing, as rotation does", (path) => truncateSync(path, 0)],
])("a record that is %s under a running cluster hides nothing of what follows", async (_, attack) => {
  const { path, notes, cluster, issue, grants } = await running();
  attack(path);
  await issue("second");
  const { verdict } = await cluster.call("audit", { verify: true });
  expect(grants()).toEqual(["first", "second"]);
  expect(verdict?.problem).toBeNull();
  expect(notes.join("\n")).toMatch(/audit record .* (replaced|moved|cut)/);
  // It goes on from there as before.
  await issue("third");
  expect((await cluster.call("audit", { verify: true })).verdict?.problem).toBeNull();
  expect(grants()).toEqual(["first", "second", "third"]);
});

it("a folder that is named wrongly is no cluster: it is not made, and nothing of it is whole", async () => {
  const directory = join(temporary(), "typo");
  await expect(openOperator(directory)).rejects.toMatchObject({
    code: "input_invalid",
    message: expect.stringContaining(directory),
  });
  expect(existsSync(directory)).toBe(false);
});
