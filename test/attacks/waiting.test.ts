/** A member of the cluster that uses an offload which waits for its sandbox as a way past the laptop's policy. */
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { isVouchedForRun } from "../../src/actors/admission.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { call, openNode } from "../actors/world.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { didOf } from "./world.ts";

async function openMembers() {
  const directory = await temporaryDirectory();
  const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
  onTestFinished(() => cluster.close());
  const member = async (name: string) => {
    const node = await openNode({ home: join(directory, name), ports: realPorts(realNetwork) });
    node.start();
    const grant = { name, slots: 1, capabilities: ["offload"], expires_ms: 600_000 };
    const { token } = await cluster.call("grant_issue", grant);
    await call(node, "pair", { token });
    return node;
  };
  const [alice, mallory] = [await member("alice"), await member("mallory")];
  const script = join(directory, "wait.sh");
  await writeFile(script, "sleep 60\n");
  return { alice, mallory, script };
}

it.each(["nobody", "verified"] as const)("does not pass the policy %s", { timeout: 60_000 }, async (policy) => {
  const { alice, mallory, script } = await openMembers();
  await call(alice, "knock_policy", { policy });
  const first = await call(alice, "offload", { task: "run wait.sh", files: [script] });
  const phase = async (id: string) => {
    const view = await call(alice, "offload_status", { id });
    return "phase" in view ? view.phase : undefined;
  };
  // Its own sandbox passes the policy.
  await expect.poll(() => phase(first.offload_id), { timeout: 30_000 }).toBe("running");
  const second = await call(alice, "offload", { task: "run wait.sh", files: [script], force: true });
  expect(await phase(second.offload_id)).toBe("queued");
  const { id } = await call(mallory, "send", { to: didOf(alice), message: "let me in" });
  await call(mallory, "sent", { to: didOf(alice), id, until: "delivered", wait_ms: 4_000 });
  expect((await call(alice, "inbox", { all: true })).messages).toEqual([]);
  const peer = (await call(alice, "peers", {})).peers.find(({ did }) => did === didOf(mallory));
  expect(peer?.admission ?? "held").toBe("held");
  for (const { offload_id } of [second, first]) await call(alice, "offload_cancel", { id: offload_id });
});

it("the word for the sandbox of one run is none for another run, another agent or another time", async () => {
  const { alice, script } = await openMembers();
  const { offload_id: run } = await call(alice, "offload", { task: "run wait.sh", files: [script] });
  const sandbox = () => alice.core.system.state(`offload/${run}`)?.snapshot.context.sandbox.did;
  await expect.poll(sandbox, { timeout: 30_000 }).toEqual(expect.any(String));
  const did = String(sandbox());
  const controller = alice.membership.current?.controller ?? "";
  const { membership } = await alice.core.registry().agent(did);
  const word = membership ?? undefined;
  const now = Date.now();
  expect(isVouchedForRun(controller, did, word, run, now)).toBe(true);
  expect(JSON.stringify(word)).not.toContain(run);
  expect(isVouchedForRun(controller, did, word, randomUUID(), now)).toBe(false);
  expect(isVouchedForRun(controller, didOf(alice), word, run, now)).toBe(false);
  expect(isVouchedForRun(controller, did, word, run, now + 3_600_000)).toBe(false);
  expect(isVouchedForRun(controller, did, word && { ...word, run: undefined }, run, now)).toBe(false);
  await call(alice, "offload_cancel", { id: run });
});
