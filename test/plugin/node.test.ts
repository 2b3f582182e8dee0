import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, it, onTestFinished, vi } from "vitest";
import { MeshNode } from "../../src/actors/node.ts";
import { startServer } from "../../src/cluster/server.ts";
import { register } from "../../src/plugin/index.ts";
import { API, openPluginAt, temporaryFolder } from "./world.ts";

/** A cluster without a controller, and a state directory that has joined it. */
async function memberHome(name: string): Promise<string> {
  const directory = await temporaryFolder();
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: join(directory, "cluster"),
    pair: async () => {
      throw new Error("nobody pairs here");
    },
  });
  onTestFinished(() => server.close());
  const home = join(directory, "home");
  const node = await MeshNode.open({ home });
  node.start();
  await node.membership.join({
    controller: null,
    cluster: "test",
    relayUrl: server.relayUrl,
    registryUrl: server.url,
    name,
    capabilities: ["chat"],
  });
  await node.close();
  return home;
}

/** Another process that owns a home, until it is ended. */
async function ownerProcess(home: string) {
  const script = `
    const { openMesh } = await import(${JSON.stringify(new URL("../../src/actors/mesh.ts", import.meta.url).href)});
    const mesh = await openMesh({ home: ${JSON.stringify(home)} });
    console.log(mesh.role);
    process.stdin.resume().on("end", async () => { await mesh.close(); process.exit(0); });
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const [role] = await once(child.stdout, "data");
  expect(String(role).trim()).toBe("owner");
  return {
    async kill() {
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await exit;
    },
    async end() {
      const exit = once(child, "exit");
      child.stdin.end();
      await exit;
    },
  };
}

it("is one node for all evaluations of the modules in a process", async () => {
  const home = await memberHome("alice");
  const first = openPluginAt(home);
  await first.call("discover", {});
  vi.resetModules();
  const again = await import("../../src/plugin/index.ts");
  expect(again.register).not.toBe(register);
  const slots = Reflect.get(globalThis, Symbol.for("@kars/mesh/nodes/2"));
  const mesh = slots.get(home).mesh;
  let answer: unknown;
  const calls: Promise<unknown>[] = [];
  again.register({
    ...API,
    pluginConfig: { home },
    registerTool: (factory, { name }) => {
      if (name === "discover")
        calls.push(
          factory({})
            .execute("1", {})
            .then((result) => (answer = result.details)),
        );
      if (name === "mesh_send")
        calls.push(
          expect(factory({}).execute("2", { to: "nobody", message: "x" })).rejects.toThrow(/^\[peer_unknown\] /),
        );
    },
  });
  await Promise.all(calls);
  expect(answer).toEqual({ agents: [] });
  expect(slots.get(home).mesh).toBe(mesh);
});

it("reaches the node of another process, and takes its place when that has ended", async () => {
  const home = await memberHome("alice");
  const owner = await ownerProcess(home);
  const plugin = openPluginAt(home);
  expect((await plugin.call("mesh_inbox", {})).details).toMatchObject({ messages: [], unread: 0 });
  await owner.end();
  expect((await plugin.call("mesh_inbox", {})).details).toMatchObject({ messages: [], unread: 0 });
});

it("takes the place of an owner that was killed during a call that only reads", async () => {
  const home = await memberHome("alice");
  const owner = await ownerProcess(home);
  const plugin = openPluginAt(home);
  await plugin.call("mesh_inbox", {});
  const calls = Promise.all(Array.from({ length: 20 }, () => plugin.call("offload_status", {})));
  await owner.kill();
  expect(await calls).toHaveLength(20);
});

it("goes on waiting for messages when the owner is killed: what was not handed over is still unread", async () => {
  const home = await memberHome("alice");
  const owner = await ownerProcess(home);
  const plugin = openPluginAt(home);
  const waiting = plugin.call("mesh_await", { from: `did:mesh:${"0".repeat(32)}`, timeout_seconds: 1 });
  await plugin.call("mesh_inbox", {});
  await owner.kill();
  expect((await waiting).details).toMatchObject({ outcome: "timeout", messages: [] });
});

it("is up from the start of the service if there is a home, takes over, and is free after its stop", async () => {
  const home = await memberHome("alice");
  const owner = await ownerProcess(home);
  const plugin = openPluginAt(home);
  await plugin.service.start();
  await owner.end();
  const slots = Reflect.get(globalThis, Symbol.for("@kars/mesh/nodes/2"));
  await expect.poll(async () => (await slots.get(home).mesh)?.role, { timeout: 10_000 }).toBe("owner");
  await plugin.service.stop();
  const next = await ownerProcess(home);
  await next.end();
});

it("lets go of the node after a one-shot run", async () => {
  const home = await memberHome("alice");
  const plugin = openPluginAt(home);
  const context = { oneShotCliRun: true };
  await Promise.all([plugin.call("mesh_inbox", {}, { context }), plugin.call("discover", {}, { context })]);
  const next = await ownerProcess(home);
  await next.end();
});

it("a home under a passphrase opens when the gateway's environment holds it, and else a tool says what to set", async () => {
  const home = await memberHome("alice");
  const node = await MeshNode.open({ home });
  await node.changeKey({ protection: "passphrase", passphrase: "of this home", cost: { n: 2, r: 1, p: 1 } });
  await node.close();
  const plugin = openPluginAt(home);
  const refusal = /^\[passphrase_needed\] .* Set KARS_MESH_PASSPHRASE or KARS_MESH_PASSPHRASE_FILE/;
  await expect(plugin.service.start()).rejects.toThrow(refusal);
  await expect(plugin.call("mesh_inbox", {})).rejects.toThrow(refusal);
  vi.stubEnv("KARS_MESH_PASSPHRASE", "of this home");
  onTestFinished(() => void vi.unstubAllEnvs());
  expect((await plugin.call("mesh_inbox", {})).details).toMatchObject({ messages: [] });
});
