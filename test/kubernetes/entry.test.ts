import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { openApi } from "../../src/cluster/kubernetes/api.ts";
import { apiServer, config, folder, leadTo } from "./world.ts";

// The entry of a sandbox as a pod runs it.

const ENTRY = fileURLToPath(new URL("../../src/cluster/sandbox-main.ts", import.meta.url));

function entry(...words: string[]): { child: ChildProcess; ended: Promise<{ code: number | null; text: string }> } {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", ENTRY, ...words], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let text = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    text += chunk.toString("utf8");
  });
  const ended = once(child, "close").then(([code]) => ({ code, text }));
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  return { child, ended };
}

describe("the entry of a sandbox", () => {
  it("without anything to say what it is says so", async () => {
    expect(await entry().ended).toEqual({ code: 2, text: expect.stringContaining("KARS_SANDBOX_CONFIG") });
  });

  it("ends well when it is asked to, also before it is on the mesh", async () => {
    // A registry that takes connections, and says nothing.
    const silent = createServer().listen(0, "127.0.0.1");
    await once(silent, "listening");
    onTestFinished(() => void silent.close());
    const address = silent.address();
    const port = typeof address === "object" && address ? address.port : 0;
    const directory = folder();
    const told = config({ directory, relay_url: `ws://127.0.0.1:${port}`, registry_url: `http://127.0.0.1:${port}` });
    const seed = Buffer.alloc(32, 7).toString("base64");
    writeFileSync(join(directory, "sandbox.json"), JSON.stringify({ ...told, seed }));
    const { child, ended } = entry(join(directory, "sandbox.json"));
    const [socket] = await once(silent, "connection");
    child.kill("SIGTERM");
    expect((await ended).code).toBe(0);
    socket.destroy();
  });
});

describe("the client of Kubernetes", () => {
  it("that is not installed is named, with the command that installs it", async () => {
    vi.doMock("@kubernetes/client-node", () => {
      throw new Error("Cannot find package");
    });
    onTestFinished(() => void vi.doUnmock("@kubernetes/client-node"));
    await expect(openApi({ namespace: "n" })).rejects.toMatchObject({
      code: "kubernetes_unavailable",
      message: expect.stringContaining("npm install @kubernetes/client-node@2"),
    });
  });

  it("knows the contexts of the kubeconfig", async () => {
    const server = await apiServer();
    leadTo(server);
    expect((await openApi({ namespace: "n", context: "test" })).server).toBe(server.url);
    await expect(openApi({ namespace: "n", context: "prod" })).rejects.toMatchObject({
      code: "input_invalid",
      message: expect.stringContaining('no context "prod" (it has: test)'),
    });
  });
});
