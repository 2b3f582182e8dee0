import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cluster, documentOf, folder, type Laptop, run, tidyUp } from "./harness.ts";

const STORY_MS = 240_000;

interface Offload {
  readonly offload_id: string;
  readonly status: string;
  readonly phase: string;
  readonly position: number | null;
  readonly files: readonly { readonly name: string; readonly path: string; readonly size: number }[];
}

afterAll(tidyUp);

describe("offloads", { timeout: STORY_MS }, () => {
  let cluster: Cluster;
  let laptop: Laptop;
  let files: string;

  beforeAll(async () => {
    cluster = await Cluster.up();
    laptop = await cluster.laptop("alice-laptop", "--slots", "1", "--capabilities", "offload");
    files = folder();
    // Goes on until its standard input of signals ends it.
    writeFileSync(join(files, "forever.js"), 'console.log("begun 5%"); setInterval(() => undefined, 1000);\n');
    writeFileSync(
      join(files, "double.js"),
      'const { readFileSync, writeFileSync } = require("node:fs");\n' +
        'console.log("\\u001b[31mhalf 50%"); writeFileSync("out/twice.txt", readFileSync("once.txt", "utf8").repeat(2));\n',
    );
    writeFileSync(join(files, "once.txt"), "words\n");
  }, STORY_MS);

  const own = (...args: string[]) => run("kars-mesh", ["--home", laptop.home, ...args], { cwd: files });

  test("a task with files, waited for", async () => {
    const ended = await own("offload", "run double.js", "--file", "double.js", "once.txt", "--wait", "--json");
    expect(ended.code, ended.stderr).toBe(0);
    const done = documentOf(ended) as Offload;
    expect(done).toEqual({
      offload_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      status: "done",
      phase: "done",
      position: null,
      progress: { stage: expect.anything(), pct: 100, message: expect.any(String), bytes: null, bytes_total: null },
      summary: "\x1b[31mhalf 50%",
      files: [
        {
          name: "twice.txt",
          path: expect.stringContaining(done.offload_id),
          size: 12,
          sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        },
      ],
      files_missing: 0,
      exit: 0,
      tokens: null,
      duration_seconds: expect.any(Number),
      log: { name: "log.txt", path: expect.stringContaining(done.offload_id), size: 14, sha256: expect.anything() },
      folder: expect.stringContaining(done.offload_id),
      error: null,
    });
    expect(readFileSync(done.files[0]?.path ?? "", "utf8")).toBe("words\nwords\n");
    expect(ended.stderr).toMatch(/^requested\n(.*\n)*done\n$/m);

    expect(await laptop.json("status", done.offload_id)).toEqual(done);
    expect(await laptop.json("status")).toEqual({ offloads: [done] });
    const text = await laptop.text("status", done.offload_id.slice(0, 8));
    expect(text).toContain(`Offload ${done.offload_id} is done.`);
    expect(text).toContain("\\x1b[31mhalf");
    expect(text).not.toContain("\x1b");
    expect(await laptop.text("status")).toMatch(/^[0-9a-f-]{36} +done +just now +run double\.js$/m);
  });

  test("one that is left running, followed, found busy, and cancelled", async () => {
    const waiting = laptop.start("offload", "run forever.js", "--file", join(files, "forever.js"), "--wait", "--json");
    const [, id = ""] = await waiting.says(/^Offload (\S+)\. Ctrl-C leaves it running\.\n/, "stderr");
    await waiting.says(/^running .*begun/m, "stderr");
    const left = await waiting.end();
    expect(left.code).toBe(130);
    expect(left.stderr).toContain(`kars-mesh status ${id.slice(0, 8)} --watch`);
    expect(documentOf(left)).toMatchObject({ error: { code: "aborted" } });

    expect(await laptop.json("status", id)).toMatchObject({ offload_id: id, status: "running", phase: "running" });
    const { sandboxes } = await cluster.json<{ sandboxes: { run: string; phase: string; pid: number }[] }>("sandboxes");
    const sandbox = sandboxes.find(({ run }) => run === id);
    expect(sandbox).toMatchObject({
      run: id,
      name: `sandbox-${id.slice(0, 8)}`,
      did: expect.stringMatching(/^did:mesh:/),
      phase: "ready",
      grant: "alice-laptop",
      laptop: expect.stringMatching(/^did:mesh:/),
      pid: expect.any(Number),
      started_at: expect.any(String),
      ended_at: null,
      failure: null,
    });
    expect((await cluster.run("sandboxes")).stdout).toContain(`sandbox-${id.slice(0, 8)}`);

    // There is one slot.
    const second = await laptop.json<Offload>("offload", "another");
    expect(second).toMatchObject({ status: "pending", phase: "queued", position: 1 });
    expect(await laptop.text("offload", "a third")).toMatch(/^Offload \S+ is number 2 in the queue\./);
    const { offloads } = await laptop.json<{ offloads: Offload[] }>("status");
    for (const { offload_id, position } of offloads)
      if (position !== null) expect(await laptop.json("cancel", offload_id)).toMatchObject({ status: "cancelled" });

    const watching = laptop.start("status", id, "--watch", "--json");
    await watching.says(/^running/m, "stderr");
    const cancelled = await laptop.json<Offload>("cancel", id.slice(0, 8));
    expect(cancelled).toMatchObject({ offload_id: id, status: "cancelled", error: null });
    const watched = await watching.ended;
    expect(watched.code).toBe(1);
    expect(documentOf(watched)).toEqual(cancelled);
    const again = await laptop.run("cancel", id);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringMatching(/already ended/) });
  });

  test("one-shot: the request is out when the command ends", async () => {
    const asked = await laptop.json<Offload>("offload", "look at this");
    expect(asked.status).toBe("pending");
    expect(asked.phase).not.toBe("requested");
    const watched = await laptop.run("status", "--watch", "--json");
    expect(watched.code).toBe(0);
    const { offloads } = documentOf(watched) as { offloads: Offload[] };
    expect(offloads.at(-1)).toMatchObject({ offload_id: asked.offload_id, status: "done" });
  });

  test("what the grant does not allow", async () => {
    const refused = await own("offload", "x", "--capability", "gpu", "--wait");
    expect(refused).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/failed\.(.|\n)*gpu \(granted: offload\)/),
    });
  });

  test("files that cannot be sent", async () => {
    const missing = await own("offload", "x", "--file", "nowhere.txt", "--json");
    expect(missing.code).toBe(1);
    expect(documentOf(missing)).toMatchObject({
      error: { code: "file_unreadable", message: expect.stringContaining(join(files, "nowhere.txt")) },
    });
  });

  test("a sandbox that stands: started, asked for by its name, shown, recorded and stopped", async () => {
    const nobody = await own("offload", "x", "--to", "box", "--wait");
    expect(nobody.stdout + nobody.stderr).toContain("box: none stands there.");
    const started = await cluster.run("sandboxes", "start", "box", "--capabilities", "offload");
    expect(started.stdout).toMatch(/^box stands as did:mesh:[0-9a-f]{32}\.\n$/);
    const again = await cluster.run("sandboxes", "start", "box");
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining("stands already") });
    const ended = documentOf(await own("offload", "an inventory", "--to", "box", "--wait", "--json")) as Offload;
    expect((await own("status", ended.offload_id)).stdout).toMatch(/^sandbox +box$/m);
    expect((await cluster.run("sandboxes")).stdout).toMatch(/^STANDING .*\nbox +ready .* offload +did:mesh:/);
    expect((await cluster.run("sandboxes", "stop", "box")).stdout).toBe("box is gone.\n");
    expect((await cluster.run("sandboxes", "stop", "box")).code).toBe(1);
    const { entries } = await cluster.json<{ entries: readonly object[] }>("audit");
    expect(entries).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ what: "sandbox.opened", sandbox: "box", capabilities: ["offload"] }),
        expect.objectContaining({ what: "sandbox.closed", sandbox: "box" }),
      ]),
    );
  });

  test("the sandboxes end with the cluster", async () => {
    const started = laptop.start("offload", "run forever.js", "--file", join(files, "forever.js"), "--wait");
    await started.says(/^running .*begun/m, "stderr");
    const { sandboxes } = await cluster.json<{ sandboxes: { pid: number; ended_at: string | null }[] }>("sandboxes");
    const pid = sandboxes.find(({ ended_at }) => ended_at === null)?.pid ?? 0;
    expect(pid).toBeGreaterThan(0);
    await started.end();
    expect(await cluster.process.end("SIGTERM")).toMatchObject({ code: 0 });
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    expect(existsSync(cluster.directory)).toBe(true);
  });
});
