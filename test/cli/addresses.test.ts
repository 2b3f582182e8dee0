/** An address is taken in every form in which people write it, and given in one. */
import { afterAll, expect, test } from "vitest";
import { Cluster, run, tidyUp } from "./harness.ts";

afterAll(tidyUp);

test("a DID under its name in the specification, in capitals or with blanks, is that DID", {
  timeout: 180_000,
}, async () => {
  const cluster = await Cluster.up();
  const [alice, bob] = [await cluster.laptop("alice"), await cluster.laptop("bob")];
  const forms = [
    bob.did.replace("did:mesh:", "did:agentmesh:"),
    bob.did.toUpperCase(),
    ` ${bob.did.replace("mesh", "AgentMesh")} `,
  ] as const;
  const [alias, shouted, padded] = forms;
  const said: string[] = [];
  const tell = async (...args: string[]) => {
    const { code, stdout, stderr } = await run("kars-mesh", ["--home", alice.home, ...args]);
    expect({ code, stderr }, args.join(" ")).toMatchObject({ code: 0 });
    said.push(stdout, stderr);
    return stdout;
  };
  for (const form of forms) expect(await tell("send", form, "hello")).toBe(`Sent to ${bob.did}.\n`);
  await bob.json("await", "alice", "--timeout", "20");
  await bob.json("send", alice.did.replace("mesh", "agentmesh"), "hello back");
  expect(await tell("await", alias, shouted, "--timeout", "20")).toContain("hello back");
  expect(await tell("inbox", "--all", "--from", shouted)).toContain("hello back");
  expect((await tell("sent", "--to", alias)).match(/sent|delivered|read/g)?.length).toBeGreaterThanOrEqual(3);
  expect(await tell("verify", padded)).toContain(bob.did);
  expect(await tell("accept", alias)).toContain(bob.did);
  expect(await tell("decline", shouted)).toContain(bob.did);
  expect(await tell("history", "--peer", alias)).toContain("SEND");
  expect(await tell("replay", `conversation/${alias}`)).toContain(bob.did);
  expect(await tell("forget", alias, "--yes")).toMatch(/^Forgotten/);
  expect(said.join("\n")).not.toMatch(/agentmesh|DID:MESH|AgentMesh/);
});
