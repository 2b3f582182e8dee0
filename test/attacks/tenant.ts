/** What attacks of a task share: a cluster with real sandboxes that hides its own folder, and a laptop that it let in. */
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished, vi } from "vitest";
import { openMesh } from "../../src/actors/mesh.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import type { Governance } from "../../src/cluster/governance.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { DEFAULT_RULES, type TaskRules } from "../../src/cluster/runner/rules.ts";

export const PATIENCE = { timeout: 20_000, interval: 50 };

export interface Wishes extends Omit<Governance, "rules"> {
  readonly runner?: string;
  readonly rules?: Partial<TaskRules>;
  readonly slots?: number;
}

export async function openTenancy({ runner, rules = {}, slots = 1, ...governance }: Wishes = {}) {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "kars-tenant-")));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const directory = join(folder, "cluster");
  mkdirSync(directory);
  const governed = { ...governance, rules: { ...DEFAULT_RULES, hidden: [directory], ...rules } };
  let cluster = await openCluster({ directory, port: 0, runner, governance: governed });
  onTestFinished(() => cluster.close());
  const laptop = await openMesh({ home: join(folder, "laptop") });
  onTestFinished(() => laptop.close());
  const { token } = await cluster.call("grant_issue", {
    name: "tenant",
    slots,
    capabilities: ["offload"],
    expires_ms: 600_000,
  });
  await laptop.call("pair", { token });
  const begin = async (task: string, files: Readonly<Record<string, string>> = {}, target: object = {}) => {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const paths = Object.keys(files).map((name) => join(folder, name));
    return (await laptop.call("offload", { task, files: paths, ...target })).offload_id;
  };
  const ended = async (id: string): Promise<OffloadView> => {
    const view = await laptop.call("offload_status", { id, wait_ms: 25_000, until_over: true });
    if (!("offload_id" in view)) throw new Error("not one offload");
    return view;
  };
  return {
    folder,
    directory,
    sandboxes: join(directory, "sandboxes"),
    cluster: () => cluster,
    laptop,
    begin,
    ended,
    /** A shell script that was sent along, run to its end. */
    run: async (text: string, target: object = {}) =>
      ended(await begin("run attack.sh", { "attack.sh": text }, target)),
    /** Resolves with the grant when no run holds a slot. */
    settled: () =>
      vi.waitFor(async () => {
        const grant = await cluster.call("grant", { name: "tenant" });
        if (grant.slots_used > 0) throw new Error(`${grant.slots_used} slots are held`);
        return grant;
      }, PATIENCE),
    /** What the audit record says of a task's end. */
    ending: (id: string) =>
      vi.waitFor(() => {
        const lines = readFileSync(join(directory, "audit.jsonl"), "utf8").trim().split("\n");
        const found = lines
          .map((line) => JSON.parse(line))
          .find(({ what, request }) => what === "task.ended" && request === id);
        if (!found) throw new Error("no task.ended");
        return found;
      }, PATIENCE),
    async restart() {
      const port = Number(new URL(cluster.urls.registry_url).port);
      await cluster.close();
      cluster = await openCluster({ directory, port, runner, governance: governed });
    },
  };
}

/** All that a laptop holds of what came back: its view, its files and its log. */
export const broughtBack = (view: OffloadView): string =>
  [
    JSON.stringify(view),
    ...[...view.files, ...(view.log ? [view.log] : [])].map(({ path }) => readFileSync(path, "latin1")),
  ].join("\n");
