import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import type { Governance } from "../../src/cluster/governance.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { DEFAULT_LIMITS, DEFAULT_RULES } from "../../src/cluster/runner/rules.ts";

// What an operator decides, as the laptop that asks meets it.

const isView = (answer: object): answer is OffloadView => "offload_id" in answer;

interface Wishes {
  readonly runner?: string;
  readonly governance?: Governance;
  readonly slots?: number;
  readonly tokenBudget?: number;
}

async function place({ runner, governance, slots = 2, tokenBudget }: Wishes) {
  const folder = mkdtempSync(join(tmpdir(), "kars-mesh-governed-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const directory = join(folder, "cluster");
  let cluster = await openCluster({ directory, port: 0, runner, governance });
  onTestFinished(() => cluster.close());
  const laptop = await openMesh({ home: join(folder, "laptop") });
  onTestFinished(() => laptop.close());
  const grant = { name: "laptop", slots, capabilities: ["offload"], expires_ms: 600_000 };
  const { token } = await cluster.call("grant_issue", { ...grant, token_budget: tokenBudget ?? null });
  await laptop.call("pair", { token });
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const begin = async (task: string, files: readonly string[] = []) =>
    (await laptop.call("offload", { task, files: [...files] })).offload_id;
  const offload = async (task: string, files: readonly string[] = []) => ended(laptop, await begin(task, files));
  /** Resolves when the cluster is done with all its sandboxes, with its grant. */
  const settled = async () => {
    const stop = new AbortController();
    await new Promise<void>((resolve, reject) => {
      const look = async () => {
        const { sandboxes } = await cluster.call("sandboxes", {});
        if (sandboxes.every((each) => each.settled)) resolve();
      };
      cluster.call("watch", {}, { signal: stop.signal, onProgress: () => look().catch(reject) }).catch(reject);
    });
    stop.abort();
    return cluster.call("grant", { name: "laptop" });
  };
  const restart = async () => {
    const port = Number(new URL(cluster.urls.registry_url).port);
    await cluster.close();
    cluster = await openCluster({ directory, port, runner, governance });
  };
  return { cluster: () => cluster, laptop, file, begin, offload, settled, restart };
}

async function ended(laptop: Mesh, id: string): Promise<OffloadView> {
  const view = await laptop.call("offload_status", { id, wait_ms: 30_000, until_over: true });
  if (!isView(view)) throw new Error("not one offload");
  return view;
}

describe("the operator's policy", () => {
  /** Refuses by what it reads, and writes down what it was asked. */
  const hook = (folder: string) => {
    const path = join(folder, "policy.mjs");
    writeFileSync(
      path,
      `import { appendFileSync, readFileSync } from "node:fs";
       const text = readFileSync(0, "utf8");
       appendFileSync(${JSON.stringify(join(folder, "asked.jsonl"))}, text);
       const question = JSON.parse(text);
       if (question.stage === "task" && question.task.includes("forbidden")) { console.log("no such words here"); process.exit(10); }
       if (question.stage === "result" && question.files.some(({ path }) => readFileSync(path, "utf8").includes("secret"))) {
         console.error("a secret is in it");
         process.exit(1);
       }`,
    );
    return { command: `node ${path}`, directory: folder };
  };
  const scratch = () => {
    const folder = mkdtempSync(join(tmpdir(), "kars-policy-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    return folder;
  };

  it("is asked before a task begins and before a result leaves, with what it needs to decide", async () => {
    const folder = scratch();
    const { offload, file } = await place({
      runner: "cat > out/task.txt; wc -c < data.txt",
      governance: { policy: hook(folder) },
    });
    const view = await offload("a harmless task", [file("data.txt", "12345")]);
    expect(view).toMatchObject({ status: "done", files: [{ name: "task.txt" }] });
    const [task, result] = readFileSync(join(folder, "asked.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const subject = { grant: "laptop", laptop: expect.stringMatching(/^did:mesh:/), request_id: view.offload_id };
    const data = { name: "data.txt", size: 5, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) };
    expect(task).toMatchObject({ stage: "task", ...subject, task: "a harmless task", files: [data] });
    expect(result).toMatchObject({ stage: "result", ...subject, ok: true, exit: 0, summary: "5" });
    expect(result.files.map(({ name }: { name: string }) => name)).toContain("task.txt");
  });

  it("refuses a task: it never runs, and the asker is told the reason", async () => {
    const { offload, settled } = await place({ runner: "echo ran > out/ran", governance: { policy: hook(scratch()) } });
    const view = await offload("a forbidden task");
    expect(view).toMatchObject({ status: "error", files: [], error: { code: "policy_refused" } });
    expect(view.error?.message).toContain("Refused by the cluster's policy: no such words here");
    expect(await settled()).toMatchObject({ slots_used: 0, failed: 1 });
  });

  it("refuses a result: nothing of it leaves, not even as progress", async () => {
    const runner = "echo 'the secret line'; echo secret > out/leak; echo '50 % of the secret'; sleep 1.2; echo end";
    const { laptop, begin } = await place({ runner, governance: { policy: hook(scratch()) } });
    const id = await begin("tell me");
    const shown: unknown[] = [];
    const stop = new AbortController();
    const watching = laptop
      .call("watch", {}, { signal: stop.signal, onProgress: (news) => shown.push(news) })
      .catch(() => undefined);
    const view = await ended(laptop, id);
    stop.abort();
    await watching;
    expect(view).toMatchObject({ status: "error", files: [], summary: null, error: { code: "policy_refused" } });
    expect(view.error?.message).toContain("a secret is in it");
    expect(JSON.stringify([view, shown])).not.toContain("secret line");
    expect(view.progress.pct).toBe(50);
  });

  it.each([
    ["crashes", "kill -9 $$", "failed: it was ended by SIGKILL"],
    ["gives no reason", "exit 3", "no reason was given \\(exit 3\\)"],
  ])("that %s refuses", async (_, command, reason) => {
    const governance = { policy: { command, directory: tmpdir() } };
    const { offload } = await place({ runner: "echo done", governance });
    const view = await offload("anything");
    expect(view.error?.code).toBe("policy_refused");
    expect(view.error?.message).toMatch(new RegExp(reason, "i"));
  });
});

describe("a policy that is taken away while the cluster is up", () => {
  it("refuses", async () => {
    const folder = mkdtempSync(join(tmpdir(), "kars-policy-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const command = join(folder, "judge");
    writeFileSync(command, "#!/bin/sh\n", { mode: 0o755 });
    const { offload } = await place({ runner: "echo done", governance: { policy: { command, directory: folder } } });
    rmSync(command);
    const { error } = await offload("anything");
    expect(error?.code).toBe("policy_refused");
    expect(error?.message).toMatch(/no such|not found/i);
  });
});

describe("tokens", () => {
  /** A runner that uses tokens, tells of them, and then does as its task says. */
  const SPENDER = `printf '{"prompt":70,"completion":30}' > "$KARS_USAGE_FILE"; sh -c "$(cat)"`;

  it("are counted for a run that is done", async () => {
    const { offload, settled } = await place({ runner: SPENDER });
    expect(await offload("echo fine")).toMatchObject({ status: "done" });
    expect(await settled()).toMatchObject({ tokens_used: 100, completed: 1 });
  });

  it("are counted for one that fails", async () => {
    const { offload, settled } = await place({ runner: SPENDER });
    expect(await offload("exit 4")).toMatchObject({ status: "error" });
    expect(await settled()).toMatchObject({ tokens_used: 100, failed: 1 });
  });

  it("are counted for one that is cancelled half way, and while it still runs", async () => {
    const { cluster, laptop, begin, settled } = await place({ runner: SPENDER, tokenBudget: 100 });
    const id = await begin("echo '10 % of it'; while :; do sleep 1; done");
    const stop = new AbortController();
    await new Promise<void>((resolve, reject) => {
      const look = async () => {
        if ((await cluster().call("grant", { name: "laptop" })).tokens_used === 100) resolve();
      };
      cluster()
        .call("watch", {}, { signal: stop.signal, onProgress: () => look().catch(reject) })
        .catch(reject);
    });
    stop.abort();
    // It holds for the next request, though the first one is not over.
    expect((await ended(laptop, await begin("echo more"))).error?.code).toBe("budget_exhausted");
    await laptop.call("offload_cancel", { id });
    expect((await ended(laptop, id)).status).toBe("cancelled");
    expect(await settled()).toMatchObject({ tokens_used: 100, slots_used: 0 });
  });

  it("are counted once when the cluster starts again, and the budget holds", async () => {
    const { offload, settled, restart } = await place({ runner: SPENDER, tokenBudget: 150 });
    await offload("echo one");
    await offload("echo two");
    expect(await settled()).toMatchObject({ tokens_used: 200 });
    await restart();
    expect(await settled()).toMatchObject({ tokens_used: 200, completed: 2, failed: 0 });
    expect((await offload("echo three")).error?.code).toBe("budget_exhausted");
  });

  it("mean nothing where the file says nothing", async () => {
    const { offload, settled } = await place({
      runner: `echo '{"prompt":-5,"completion":"x"}' > "$KARS_USAGE_FILE"; sh`,
    });
    expect(await offload("echo fine")).toMatchObject({ status: "done" });
    expect(await settled()).toMatchObject({ tokens_used: 0 });
  });
});

describe("limits", () => {
  it("reach the laptop as an error that names the limit and its option", async () => {
    const governance = { rules: { ...DEFAULT_RULES, limits: { ...DEFAULT_LIMITS, output_mb: 1 } } };
    const { offload, file, settled } = await place({ governance });
    const view = await offload("run fill.sh", [file("fill.sh", "yes > out/full\n")]);
    expect(view.error?.code).toBe("limit_reached");
    expect(view.error?.message).toContain(
      "this cluster allows a task 1 MB, which its operator can raise with --output-size",
    );
    expect(await settled()).toMatchObject({ slots_used: 0, failed: 1 });
  });
});

describe("a script that was sent along", () => {
  it("does not read the keys of its cluster", async () => {
    const { offload, file } = await place({});
    const text = `import { readFileSync } from "node:fs"; console.log(readFileSync("../../../controller/store.key"));`;
    const view = await offload("run curious.mjs", [file("curious.mjs", text)]);
    expect(view.status).toBe("error");
    expect(view.error?.message).toContain("may read and write its working directory only");
  });
});
