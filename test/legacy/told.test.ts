/** What the person and the agent are told of a cluster whose controller speaks plaintext, and whom names mean there. */
import { expect, it, onTestFinished } from "vitest";
import { call } from "../actors/world.ts";
import { Laptop as CommandLine, tidyUp } from "../cli/harness.ts";
import { openPluginAt, temporaryFolder } from "../plugin/world.ts";
import { Controller } from "../reference/controller.ts";
import { openServers } from "../reference/servers.ts";
import { Agent } from "./agents.ts";
import { openPaired } from "./world.ts";

it("the command line warns when it pairs, and shows it wherever it shows the cluster", {
  timeout: 60_000,
}, async () => {
  onTestFinished(tidyUp);
  const controller = await new Controller(await openServers()).open();
  const laptop = new CommandLine();
  const help = (await laptop.run("pair", "--help")).stdout;
  expect(help).toContain("kars-pair-");
  expect(help).toContain("azcp_1_");
  const paired = await laptop.text("pair", controller.issue());
  expect(paired).toMatch(/^Paired with prod-kars-1\./);
  expect(paired).toContain("speaks plaintext: it, its relay, and with ws:// anyone on the way read the task");
  expect(await laptop.text("whoami")).toMatch(/^prod-kars-1 +paired +plaintext/m);
  expect(await laptop.text("peers")).toContain("plaintext (legacy controller)");
  const { stdout } = await laptop.run("doctor");
  expect(stdout).toContain("Its controller speaks plaintext");
  const used = await laptop.run("pair", controller.issue({ phase: "Active" }), "--json");
  expect(used).toMatchObject({ code: 1, stdout: expect.stringContaining("token_used") });
  expect(await laptop.text("whoami")).toMatch(/^prod-kars-1 +paired +plaintext/m);
});

it("the agent is told, so that it tells the person", async () => {
  const controller = await new Controller(await openServers()).open();
  const plugin = openPluginAt(await temporaryFolder());
  const token = controller.issue();
  const { text, details } = await plugin.call("mesh_pair", { token, name: "studio" });
  expect(text).toContain("Tell the user: this cluster's controller speaks plaintext.");
  expect(details).toMatchObject({ plaintext: true, name: "studio" });
  expect(JSON.stringify([text, details])).not.toContain(token);
});

it("a name that one agent carries means it, and one that several carry means nobody", async () => {
  const { laptop, servers } = await openPaired();
  const [alone, first, second] = [
    await Agent.open(servers, "alone"),
    await Agent.open(servers, "shared"),
    await Agent.open(servers, "shared"),
  ];
  const { to, id } = await call(laptop.node, "send", { to: "alone", message: "hello" });
  expect(to).toBe(alone.did);
  expect(await call(laptop.node, "sent", { to, id, wait_ms: 10_000 })).toMatchObject({ state: "sent" });
  await expect(call(laptop.node, "send", { to: "shared", message: "hello" })).rejects.toMatchObject({
    code: "peer_ambiguous",
    message: expect.stringMatching(new RegExp(`${first.did}.*${second.did}|${second.did}.*${first.did}`)),
  });
  const { agents } = await call(laptop.node, "discover", { name: "shared" });
  expect(agents.map(({ did }) => did).sort()).toEqual([first.did, second.did].sort());
});
