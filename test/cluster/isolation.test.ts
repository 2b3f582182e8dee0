import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { isolate } from "../../src/cluster/runner/isolation.ts";
import { DEFAULT_RULES } from "../../src/cluster/runner/rules.ts";
import { begin, folder, has, isolation, script } from "./tasks.ts";

// What a task cannot reach: as far as this host allows it, and what holds on every host.

const cut = isolation.cutsNetwork ? it : it.skip;
const hiding = isolation.hidesFolders ? it : it.skip;
const apart = isolation.ownProcesses ? it : it.skip;
const WITHOUT = "(skipped where the host allows no user namespaces)";

/** Something that listens on this machine. */
async function listener(): Promise<number> {
  const server = createServer((socket) => socket.end("hello\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.close();
  });
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

const CALL = `
import { connect } from "node:net";
const socket = connect(Number(process.argv[2]), "127.0.0.1");
socket.on("data", (text) => { console.log("heard " + text); socket.end(); });
socket.on("error", ({ code }) => console.log("refused " + code));
`;

describe("the network", () => {
  cut(`is not there for a script ${WITHOUT}`, async () => {
    const { result } = begin(`run call.mjs ${await listener()}`, { files: { "call.mjs": CALL } });
    expect((await result).summary).toMatch(/^refused E/);
  });

  it("is there where the operator lets it", async () => {
    const { result } = begin(`run call.mjs ${await listener()}`, {
      files: { "call.mjs": CALL },
      rules: { network: "host" },
    });
    expect((await result).summary).toContain("heard hello");
  });

  it("is cut, or the task does not run, where the operator insists", async () => {
    const { result } = begin(`run call.mjs ${await listener()}`, {
      files: { "call.mjs": CALL },
      rules: { network: "none" },
    });
    if (isolation.cutsNetwork) expect((await result).summary).toMatch(/^refused E/);
    else await expect(result).rejects.toThrow("--network none");
  });
});

describe("the operator's folders", () => {
  hiding(`that are hidden are empty for every kind of task, and its own are there ${WITHOUT}`, async () => {
    const cluster = folder();
    const keys = join(cluster, "controller");
    mkdirSync(keys);
    writeFileSync(join(keys, "store.key"), "secret");
    const look = `
      cat ${keys}/store.key
      cd ..; cat ../controller/store.key
      cat "$OLDPWD/../../controller/store.key"
      umount ${cluster}; cat ${keys}/store.key
      ${has("unshare") ? `unshare -Ur --mount sh -c 'umount -l ${cluster}; cat ${keys}/store.key'` : ""}
      cat "$OLDPWD/data.txt"; echo kept > "$OLDPWD/out/kept"; echo forgotten > "$TMPDIR/forgotten"`;
    const files = { "data.txt": "mine" };
    const { result } = script("look.sh", look, { within: cluster, files, rules: { hidden: [cluster] } });
    const { summary, log, files: kept } = await result;
    expect(summary).toBe("mine");
    expect(readFileSync(log ?? "", "utf8")).not.toContain("secret");
    expect(kept.map((path) => readFileSync(path, "utf8"))).toEqual(["kept\n"]);
    const asRunner = begin("", {
      within: cluster,
      runner: `cat ${keys}/store.key || echo nothing`,
      rules: { hidden: [cluster] },
    });
    expect((await asRunner.result).summary).toBe("nothing");
  });

  it("are not covered where what runs the task lies in them", async () => {
    const { result } = script("hello.mjs", `console.log("hello")`, {
      rules: { hidden: [join(process.execPath, ".."), "/", "/no/such/folder"] },
    });
    expect(await result).toMatchObject({ ok: true, summary: "hello" });
  });
});

describe("other processes", () => {
  apart(`are not seen ${WITHOUT}`, async () => {
    const { summary } = await script(
      "list.sh",
      `ls -d /proc/[0-9]* | wc -l; test -e /proc/${process.pid} || echo alone`,
    ).result;
    expect(summary).toContain("alone");
  });
});

describe("the environment", () => {
  it("is scrubbed, but for what the operator names", async () => {
    process.env.KARS_TEST_SECRET = "s3cret";
    process.env.KARS_TEST_GIVEN = "given";
    onTestFinished(() => {
      delete process.env.KARS_TEST_SECRET;
      delete process.env.KARS_TEST_GIVEN;
    });
    const { result, directory } = script("env.sh", "env\n", { rules: { variables: ["KARS_TEST_GIVEN"] } });
    const { summary } = await result;
    expect(summary).not.toContain("s3cret");
    expect(summary).toContain("KARS_TEST_GIVEN=given");
    expect(summary).toContain(`HOME=${join(directory, "..", "scratch")}`);
  });
});

describe("a Node script", () => {
  it("reads its files and writes its results", async () => {
    const text = `
      import { mkdirSync, readFileSync, writeFileSync, readdirSync } from "node:fs";
      import { tmpdir } from "node:os";
      writeFileSync("out/copy", readFileSync("data.txt"));
      writeFileSync(tmpdir() + "/x", "x");
      mkdirSync("sub"); console.log(readdirSync(".").sort().join(" "));`;
    const { ok, summary, files } = await script("copy.ts", text, { files: { "data.txt": "12345" } }).result;
    expect({ ok, summary }).toEqual({ ok: true, summary: "copy.ts data.txt out sub" });
    expect(files.map((path) => readFileSync(path, "utf8"))).toEqual(["12345"]);
  });

  it.each([
    ["the operator's files", `import { readFileSync } from "node:fs"; readFileSync(SECRET);`],
    ["a place of its own choice", `import { writeFileSync } from "node:fs"; writeFileSync(SECRET + ".new", "x");`],
    ["another program", `import { execFileSync } from "node:child_process"; execFileSync("cat", [SECRET]);`],
    ["a worker", `import { Worker } from "node:worker_threads"; new Worker("", { eval: true });`],
  ])("does not reach %s, and says why", async (_, text) => {
    const home = folder();
    const secret = join(home, "id_ed25519");
    writeFileSync(secret, "private");
    const { ok, summary } = await script("curious.mjs", text.replaceAll("SECRET", JSON.stringify(secret))).result;
    expect(ok).toBe(false);
    expect(summary).toContain("curious.mjs exited with 1");
    expect(summary).toContain("a Node script may read and write its working directory only");
    expect(summary).not.toContain("private");
  });

  it("is as free as any program where the operator says so", async () => {
    const text = `import { execFileSync } from "node:child_process"; console.log(String(execFileSync("echo", ["free"])));`;
    const { summary } = await script("free.mjs", text, { rules: { node_permission: false } }).result;
    expect(summary).toContain("free");
  });
});

describe("a host that allows nothing", () => {
  it("is told from what it does, and its tasks run all the same", async () => {
    const place = { work: folder(), scratch: folder() };
    const { PATH } = process.env;
    onTestFinished(() => {
      process.env.PATH = PATH;
    });
    process.env.PATH = "/nowhere";
    const found = await isolate(["true"], place, DEFAULT_RULES);
    expect(found.isolation).toEqual({ cutsNetwork: false, hidesFolders: false, ownProcesses: false });
    process.env.PATH = PATH;
    const [program = "", ...args] = found.command;
    execFileSync(program, args);
  });
});
