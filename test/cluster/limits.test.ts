import { existsSync, readFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { DEFAULT_LIMITS } from "../../src/cluster/runner/rules.ts";
import { begin, has, isLinux, isolation, pathWithoutNamespaces, script } from "./tasks.ts";

// What a task may take, and that nothing of it is left, whatever it tried.

// Where namespaces are allowed all of it is tried twice: with them, and as on a host that does not allow any.
describe.each([
  ["in namespaces of its own", true],
  ["without namespaces", false],
])("%s", (_, namespaces) => {
  beforeEach(({ skip }) => {
    skip(namespaces && !isolation.ownProcesses, "this host allows no user namespaces");
    const { PATH } = process.env;
    if (!namespaces) process.env.PATH = pathWithoutNamespaces();
    return () => {
      process.env.PATH = PATH;
    };
  });

  describe.skipIf(!isLinux)(
    "a task that takes more than its cluster allows is ended, and the limit is named (watched through /proc)",
    () => {
      it("memory", async () => {
        const hog = `const kept = []; setInterval(() => kept.push(Buffer.alloc(20_000_000, 1)), 10);`;
        const { result, alive } = script("hog.mjs", hog, { rules: { limits: { ...DEFAULT_LIMITS, memory_mib: 200 } } });
        const { ok, code, reason, summary } = await result;
        expect({ ok, code }).toEqual({ ok: false, code: "limit_reached" });
        expect(reason).toMatch(/^it used \d+ MiB of memory; this cluster allows a task 200 MiB, .* --memory$/);
        expect(summary).toContain("hog.mjs was ended: it used");
        expect(alive()).toEqual([]);
      });

      it("memory of all its processes together", async () => {
        const child = `node -e 'Buffer.alloc(60e6, 1); globalThis.b = Buffer.alloc(60e6, 1); setInterval(() => 0, 1000)' &`;
        const { result, alive } = script("many.sh", `${`${child}\n`.repeat(4)}wait\n`, {
          rules: { limits: { ...DEFAULT_LIMITS, memory_mib: 250 } },
        });
        expect((await result).reason).toContain("MiB of memory");
        expect(alive()).toEqual([]);
      });

      it("processes: by the watching, or by the system, which refuses more", async () => {
        const many = `i=0; while [ $i -lt 600 ]; do sleep 1000 & i=$((i+1)); done; wait\n`;
        const { result, alive } = script("many.sh", many, { rules: { limits: { ...DEFAULT_LIMITS, processes: 60 } } });
        const { ok, summary } = await result;
        expect(ok).toBe(false);
        expect(summary).toContain("--processes");
        expect(alive()).toEqual([]);
      });

      it("processes: a bomb, which is gone when the task is", async ({ skip }) => {
        skip(process.getuid?.() === 0, "of root the system counts no processes: a bomb would take all that there are");
        const bomb = `echo lit\nbomb() { while :; do bomb & sleep 0.05; done; }\nbomb &\nexec sleep 1000\n`;
        const { result, says, cancel, alive } = script("bomb.sh", bomb, {
          rules: { limits: { ...DEFAULT_LIMITS, processes: 60 } },
        });
        await says("lit");
        cancel();
        expect((await result).ok).toBe(false);
        expect(alive()).toEqual([]);
      });

      it("processor time of all its processes together", async () => {
        const { result, alive } = script("spin.sh", `(while :; do :; done) &\nwhile :; do :; done\n`, {
          rules: { limits: { ...DEFAULT_LIMITS, cpu_minutes: 0.02 } },
        });
        expect((await result).reason).toMatch(/minutes of processor time; this cluster allows a task 0\.02,/);
        expect(alive()).toEqual([]);
      });
    },
  );

  describe("what a task writes is bounded", () => {
    it("on its output, which does not fill the log", async () => {
      const { result, alive } = script("yes.sh", "yes 'a line that never ends'\n", {
        rules: { limits: { ...DEFAULT_LIMITS, output_mb: 20 } },
      });
      const { ok, reason, log } = await result;
      expect(ok).toBe(false);
      expect(reason).toMatch(/MB of files and output; this cluster allows a task 20 MB/);
      expect(readFileSync(log ?? "").length).toBeLessThan(2_200_000);
      expect(readFileSync(log ?? "", "utf8")).toMatch(/\[\d+ bytes are left out here\]/);
      expect(alive()).toEqual([]);
    });

    it("without a single end of line", async () => {
      const { result } = script("zero.sh", "cat /dev/zero\n", {
        rules: { limits: { ...DEFAULT_LIMITS, output_mb: 20 } },
      });
      expect((await result).reason).toContain("MB of files and output");
    });

    it.each([
      ["one file", `while :; do echo 0123456789012345678901234567890123456789; done > out/large\n`],
      ["many files", `i=0; while :; do head -c 500000 /dev/zero > "$TMPDIR/f$i"; i=$((i+1)); done\n`],
      ["a file that it has just left", `head -c 6000000 /dev/zero > out/large; exit 0\n`],
    ])("in its folders: %s", async (_, text) => {
      const { result, alive } = script("fill.sh", text, { rules: { limits: { ...DEFAULT_LIMITS, output_mb: 5 } } });
      const { ok, reason, files } = await result;
      expect({ ok, files }).toEqual({ ok: false, files: [] });
      expect(reason).toContain("this cluster allows a task 5 MB");
      expect(alive()).toEqual([]);
    });
  });

  describe("nothing of a task outlives it", () => {
    it("neither what it left running nor what went away in the background", async () => {
      const text = `
        (sleep 1000 &)
        nohup sleep 1001 > /dev/null 2>&1 &
        ${has("setsid") ? "setsid sh -c 'sleep 1002 & sleep 1003' &" : ""}
        echo started`;
      const { result, alive } = script("leave.sh", text);
      expect(await result).toMatchObject({ ok: true, exit: 0, summary: "started" });
      expect(alive()).toEqual([]);
    });

    it("nor what does not want to end when it is cancelled", async () => {
      const text = `
        trap '' TERM INT HUP
        (trap '' TERM INT HUP; while :; do sleep 1; done) &
        echo deaf
        while :; do sleep 1; done`;
      const { result, says, cancel, alive } = script("deaf.sh", text);
      await says("deaf");
      cancel();
      expect(await result).toMatchObject({ ok: false });
      expect(alive()).toEqual([]);
    });

    it("and one that ends when it is asked to has a moment for it", async () => {
      const { result, says, cancel, directory } = script(
        "polite.mjs",
        `import { writeFileSync } from "node:fs";
         process.on("SIGTERM", () => { writeFileSync("out/bye", "bye"); process.exit(5); });
         setInterval(() => undefined, 1000);
         console.log("ready");`,
      );
      await says("ready");
      cancel();
      expect(await result).toMatchObject({ ok: false });
      expect(existsSync(`${directory}/out/bye`)).toBe(true);
    });
  });
});

describe("a task that keeps its limits", () => {
  it("comes back with its exit code and all that it printed, in its order", async () => {
    const { exit, log, ok } = await script("talk.sh", "echo one; echo two >&2; echo three; exit 7\n").result;
    expect({ ok, exit }).toEqual({ ok: false, exit: 7 });
    expect(
      readFileSync(log ?? "", "utf8")
        .split("\n")
        .toSorted(),
    ).toEqual(["", "one", "three", "two"]);
  });

  it("may have no limits at all", async () => {
    const limits = { memory_mib: null, cpu_minutes: null, processes: null, output_mb: null };
    expect(await script("free.sh", "ulimit -t\n", { rules: { limits } }).result).toMatchObject({ ok: true });
  });

  it("is told so when its program is missing", async () => {
    const { ok, summary } = await begin("anything", { runner: "no-such-program-anywhere" }).result;
    expect(ok).toBe(false);
    expect(summary).toContain("exited with 127");
  });
});
