/** What a task tells past a policy that refuses its result: by figures, names, codes and lengths, where words are held back. */
import { tmpdir } from "node:os";
import { describe, expect, it } from "vitest";
import { governed } from "../../src/cluster/runner/governed.ts";
import { runTask } from "../../src/cluster/runner/task.ts";
import type { TaskNews } from "../../src/wire/payload.ts";
import { begin, type ErrandOptions, script } from "../cluster/tasks.ts";
import { openTenancy } from "./tenant.ts";

const subject = { grant: "tenant", laptop: "did:mesh:00000000000000000000000000000000", request_id: "r" };
/** Refuses every result, and no task. */
const policy = { command: `grep -q '"stage":"task"'`, directory: tmpdir() };

/** A script under that policy. */
function refusedScript(text: string, options: ErrandOptions = {}) {
  const told: TaskNews[] = [];
  const run = governed({ subject, allowed: null, policy, tell: (news) => told.push(news) }, runTask);
  return { ...begin("run leak.sh", { ...options, files: { "leak.sh": text }, run }), told };
}

describe("progress that nobody has judged", () => {
  it("has no decimals, in which a key would fit", async () => {
    const { result, progress } = script("pct.sh", `for c in 107 101 121; do echo "12.$c %"; sleep 0.1; done\n`);
    expect(await result).toMatchObject({ ok: true });
    expect(progress.flatMap(({ pct }) => pct ?? [])).toEqual([12, 12, 12]);
  });

  it("grows in tens, each told once, however figures jump: their order spells nothing", async () => {
    const { result, progress } = refusedScript(
      `for c in 33.107 7 99 12 84 3 61; do echo "$c % of it"; sleep 0.05; done\n`,
    );
    expect(await result).toMatchObject({ ok: false, code: "policy_refused" });
    expect(progress.map(({ pct, message }) => [pct, message])).toEqual([
      [undefined, "at work"],
      [30, "at work"],
      [90, "at work"],
    ]);
  });
});

describe("a refused result tells its laptop nothing", () => {
  it("by its exit code, which only the operator sees", async () => {
    const { result, told } = refusedScript("exit 107\n");
    expect(await result).toMatchObject({ ok: false, code: "policy_refused", exit: null });
    expect(told.find(({ type }) => type === "ended")).toMatchObject({ exit: 107, code: "policy_refused" });
  });

  it.each([
    ["by the name of a file that is too large", `head -c 1100000 /dev/zero > out/swordfish\n`],
    ["by how many files there are", `i=0; while [ $i -lt 107 ]; do : > out/$i; i=$((i+1)); done\n`],
    ["by what is left out of its results", `mkdir out/swordfish\n`],
  ])("%s", async (_, text) => {
    const { result } = refusedScript(text, { rules: { max_file_mb: 1 } });
    const { summary, files, log, code } = await result;
    expect({ files, log, code }).toEqual({ files: [], log: undefined, code: "policy_refused" });
    expect(summary).not.toMatch(/swordfish|107/);
  });

  it("nor by progress that comes after the refusal, on a real cluster", async () => {
    const {
      laptop,
      begin: offload,
      ended,
    } = await openTenancy({ runner: "echo '41.107 %'; echo '77.5 %'; exit 9", policy });
    const shown: unknown[] = [];
    const stop = new AbortController();
    const watching = laptop
      .call("watch", {}, { signal: stop.signal, onProgress: (news) => shown.push(news) })
      .catch(() => undefined);
    const view = await ended(await offload("tell me"));
    stop.abort();
    await watching;
    expect(view).toMatchObject({ status: "error", error: { code: "policy_refused" }, files: [], exit: null });
    const figures = [...JSON.stringify([view, shown]).matchAll(/"pct":([^,}]+)/g)].map(([, figure]) => figure);
    expect(figures.filter((figure) => !["null", "40", "70"].includes(figure ?? ""))).toEqual([]);
  });
});
