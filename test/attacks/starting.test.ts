/** A cluster that would refuse, or fail, every task says so when it starts. */
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { problemOf } from "../../src/cluster/commands.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { folder } from "../cluster/tasks.ts";

describe("a cluster does not start", () => {
  it.each([
    [
      "with a policy that is not there",
      { policy: "/no/such/program --strict" },
      /--policy: \/no\/such\/program is no program/,
    ],
    ["with a policy whose script is not there", { policy: "node rules.mjs" }, /--policy: .*\/rules\.mjs is not there/],
    [
      "with a policy that the shell does not understand",
      { policy: "judge '" },
      /--policy: the shell does not understand/,
    ],
    [
      "with a runner that is not there",
      { runner: "no-such-agent --print" },
      /--runner: no-such-agent is not found on the PATH/,
    ],
    [
      "with a known agent that is not installed",
      { runner: "codex" },
      /--runner codex: codex is not found .* Install Codex/,
    ],
  ])("%s, and says what to do", async (_, { policy, runner }: { policy?: string; runner?: string }, said) => {
    const within = folder();
    const directory = join(within, "cluster");
    const governance = policy === undefined ? {} : { policy: { command: policy, directory: within } };
    const starting = openCluster({ directory, port: 0, runner, governance });
    await expect(starting).rejects.toMatchObject({ code: "input_invalid", message: expect.stringMatching(said) });
    expect(existsSync(directory)).toBe(false);
  });
});

describe("a command that may well work is not refused", () => {
  it.each<[string, string, "of the task"?]>([
    ["one that sets variables first", "LEVEL=high node --check"],
    ["one that the shell makes up", `"$HOME"/judge; exit 0`],
    ["a builtin", "exit 3"],
    ["a program of one's own", "./judge"],
    ["a pipeline", "cat > task; wc -c < data.txt"],
    ["a script that comes with the task", "sh ./run.sh", "of the task"],
    ["a program that comes with the task", "./run", "of the task"],
  ])("%s", async (_, command, place) => {
    const directory = folder();
    writeFileSync(join(directory, "judge"), "#!/bin/sh\n");
    chmodSync(join(directory, "judge"), 0o755);
    expect(await problemOf(command, place ? undefined : directory)).toBeUndefined();
  });
});
