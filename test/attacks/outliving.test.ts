/** A process that leaves the tree of its task, without namespaces to hold it. What it keeps of the task gives it away. */
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { has, isLinux, pathWithoutNamespaces, script } from "../cluster/tasks.ts";
import { isAlive } from "../processes.ts";

describe.skipIf(!isLinux || !has("setsid"))(
  "without namespaces, a process that forked twice with an empty environment",
  () => {
    beforeEach(() => {
      const { PATH } = process.env;
      process.env.PATH = pathWithoutNamespaces();
      return () => {
        process.env.PATH = PATH;
      };
    });

    it.each([
      ["its working directory", `> /dev/null 2>&1 < /dev/null`, ""],
      ["its output", "", "cd /; "],
    ])("ends with its task if it keeps %s", async (_, output, first) => {
      // Faster than anybody looks: it is a child of nobody's before the task has ended.
      const daemon = `(${first}exec sleep 1007) & echo $! > "$1"/out/pid`;
      const files = { "daemon.inc": `${daemon}\n` };
      const text = `env -i "$(command -v setsid)" "$(command -v sh)" "$PWD/daemon.inc" "$PWD" ${output}\n`;
      const result = await script("daemon.sh", text, { files }).result;
      const pid = Number(readFileSync(result.files[0] ?? "", "utf8"));
      onTestFinished(() => {
        if (isAlive(pid)) process.kill(pid, "SIGKILL");
      });
      expect(pid).toBeGreaterThan(1);
      expect(isAlive(pid)).toBe(false);
    });
  },
);
