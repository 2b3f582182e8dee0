/** What a task leaves in the place of its results: links, and all that is no plain file. Nothing of the host leaves by it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { entriesOnly } from "../../src/actors/drafts.ts";
import { hold } from "../../src/cluster/runner/held.ts";
import { collectResults } from "../../src/cluster/runner/results.ts";
import { DEFAULT_LIMITS } from "../../src/cluster/runner/rules.ts";
import { SandboxFiles } from "../../src/cluster/sandbox-files.ts";
import { folder, isLinux, isolation, script } from "../cluster/tasks.ts";
import { broughtBack, openTenancy } from "./tenant.ts";

const hiding = isolation.hidesFolders ? it : it.skip;
const onLinux = isLinux ? it : it.skip;

describe("the collector of results", () => {
  hiding(
    "does not follow out/ into the cluster's keys (skipped where the host allows no user namespaces)",
    async () => {
      const { directory, run, settled } = await openTenancy();
      const home = join(directory, "controller");
      const key = readFileSync(join(home, "store.key"), "latin1");
      const view = await run(`rmdir out; ln -s ${home} out; echo linked`);
      expect(view.files).toEqual([]);
      expect(broughtBack(view)).not.toContain(key);
      expect(view).toMatchObject({ status: "done" });
      expect(view.summary).toContain("out (a link)");
      // Nor is what lies there changed or taken away.
      await settled();
      expect(readFileSync(join(home, "store.key"), "latin1")).toBe(key);
      expect(existsSync(join(home, "journal"))).toBe(true);
    },
  );

  it.each([
    ["a link to a file", `ln -s SECRET out/key`, "key (a link)"],
    ["a hard link", `echo x > mine; ln mine out/key`, "key (a hard link)"],
    ["a pipe, at which a reader waits", `mkfifo out/pipe`, "pipe (no plain file)"],
    ["a folder", `mkdir out/deep; echo x > out/deep/y`, "deep (a folder)"],
    ["a name that is no text", `echo x > "out/$(printf '\\377')"`, "(its name is no text)"],
    ["out/ as a pipe", `rm -r out; mkfifo out`, "out (no plain file)"],
    ["out/ as a file", `rm -r out; echo x > out`, "out (no folder)"],
    ["an out/ that is gone", `rm -r out`, "out (not there any more)"],
  ])("leaves out %s, and says so", async (_, text, said) => {
    const secret = join(folder(), "id_ed25519");
    writeFileSync(secret, "private");
    const { result } = script("attack.sh", `echo fine > out/fine.txt\n${text.replace("SECRET", secret)}\n`);
    const { ok, summary, files } = await result;
    expect(ok).toBe(true);
    expect(summary).toContain(said);
    expect(files.map((path) => readFileSync(path, "utf8"))).toEqual(said.startsWith("out") ? [] : ["fine\n"]);
    expect(readFileSync(secret, "utf8")).toBe("private");
  });

  it("takes a result that its task closed to everybody", async () => {
    const { files } = await script("closed.sh", `echo mine > out/closed; chmod 000 out/closed; chmod 000 out`).result;
    expect(files.map((path) => readFileSync(path, "utf8"))).toEqual(["mine\n"]);
  });

  onLinux(
    "is not outrun by what swaps a result for a link, and out/ for another folder, as fast as it can",
    async () => {
      const place = folder();
      const elsewhere = join(place, "host");
      mkdirSync(elsewhere);
      writeFileSync(join(elsewhere, "key"), "private");
      const work = join(place, "work");
      mkdirSync(join(work, "out"), { recursive: true });
      // A process that got away from its task, and goes on.
      const swapper = spawn(
        "sh",
        [
          "-c",
          `echo begun; while :; do
           mkdir -p out; echo mine > out/key; rm -f out/key; ln -s ${elsewhere}/key out/key
           rm -rf out; ln -s ${elsewhere} out; rm -f out
         done`,
        ],
        { cwd: work, stdio: ["ignore", "pipe", "ignore"] },
      );
      const ended = once(swapper, "exit");
      onTestFinished(async () => {
        swapper.kill("SIGKILL");
        await ended;
      });
      await once(swapper.stdout, "data");
      const held = await hold(work);
      onTestFinished(() => held.close());
      const brought: string[] = [];
      for (let round = 0; round < 300; round++) {
        // What is gone between look and move ends the collecting, and brings nothing.
        const { files } = await collectResults(held, place, 1000).catch(() => ({ files: [] }));
        brought.push(...files.map((path) => readFileSync(path, "utf8")));
      }
      expect(brought.filter((text) => text.includes("private"))).toEqual([]);
      expect(readFileSync(join(elsewhere, "key"), "utf8")).toBe("private");
    },
  );
});

describe("the file in which tokens are counted", () => {
  it.each([
    ["a pipe, at which a reader waits", `mkfifo "$KARS_USAGE_FILE"`],
    ["a link to what never ends", `ln -s /dev/zero "$KARS_USAGE_FILE"`],
    ["a link to numbers elsewhere", `ln -s "$PWD/other.json" "$KARS_USAGE_FILE"`],
  ])("may be %s: it says nothing, and nobody waits", async (_, text) => {
    const { result, usage } = script("count.sh", `${text}\nsleep 1.2\necho over\n`, {
      files: { "other.json": `{"prompt":7,"completion":7}` },
    });
    expect(await result).toMatchObject({ ok: true, summary: "over" });
    expect(usage).toEqual([]);
  });
});

describe("what lies in a task's folders is measured", () => {
  it.each([
    ["behind a link that took a folder's place: not", `rmdir out; ln -s /usr out`, undefined],
    [
      "deeper than a path is long",
      `i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done`,
      "deep in each other",
    ],
    ["in a folder that is closed", `mkdir c; head -c 3000000 /dev/zero > c/f; chmod 000 c`, "allows a task 2 MB"],
  ])("%s", async (_, text, reason) => {
    const { result } = script("attack.sh", text, { rules: { limits: { ...DEFAULT_LIMITS, output_mb: 2 } } });
    const found = await result;
    if (reason === undefined) expect(found.ok).toBe(true);
    else expect(found.reason).toContain(reason);
  });
});

describe("a file that a laptop sends after its task began", () => {
  it("is not taken: it would be named, and compared, in a folder that the task controls", async () => {
    let isBegun = false;
    const files = new SandboxFiles({
      core: () => {
        throw new Error("nothing is said");
      },
      laptop: "laptop",
      run: "run",
      directory: folder(),
      rules: { max_file_mb: 1 },
      isBegun: () => isBegun,
      onReceived: entriesOnly,
    });
    const offer = {
      type: "mesh:file_offer" as const,
      transfer_id: "t",
      request_id: "run",
      file_name: "late",
      size_bytes: 1,
      chunk_size: 1,
      sha256: "0".repeat(64),
    };
    expect(await files.place("laptop", offer)).toHaveProperty("directory");
    expect(files.areWanted).toBe(true);
    isBegun = true;
    expect(await files.place("laptop", offer)).toMatchObject({ refused: { code: "cluster_refused" } });
    expect(files.areWanted).toBe(false);
  });
});
