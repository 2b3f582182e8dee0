import { Argument, type Command } from "commander";
import { KNOCK_POLICIES, type KnockPolicy } from "../actors/admission.ts";
import { asAddress } from "../wire/text.ts";
import { atHome } from "./home.ts";
import { count, line } from "./output.ts";
import { action, type Io } from "./program.ts";

// Who may talk to this laptop.

const MEANINGS: Readonly<Record<KnockPolicy, string>> = {
  circle: "agents of its own cluster may write to this laptop; others wait to be accepted",
  verified: "whoever was neither written to, accepted nor verified waits to be accepted",
  everyone: "every agent may write to this laptop",
  nobody: "whoever was neither written to, accepted nor verified is refused",
};

export function addAdmission(program: Command): void {
  program
    .command("accept")
    .description("let a peer write to this laptop, one that waits or one that has not knocked yet")
    .argument("<peer>", "a DID, or the name of one that waits", asAddress)
    .action(action(accept));
  program
    .command("decline")
    .description("refuse a peer, and keep what it said out of sight")
    .argument("<peer>", "a DID, or the name of one that waits", asAddress)
    .action(action(decline));
  program
    .command("policy")
    .description("show or set who may write to this laptop without being asked")
    .addArgument(new Argument("[policy]", "who may").choices(KNOCK_POLICIES))
    .addHelpText(
      "after",
      `
${KNOCK_POLICIES.map((policy) => `  ${policy.padEnd(9)} ${MEANINGS[policy]}`).join("\n")}

Whom this laptop wrote to, accepted or verified, its clusters' controllers and the sandboxes of its offloads always may.
A cluster that vouches for nobody has no circle but its registry: whoever is registered there counts.`,
    )
    .action(action(policy));
}

async function accept(io: Io, peer: string): Promise<void> {
  await atHome(io, async ({ mesh, settle }) => {
    const { did, name, unread } = await mesh.call("accept", { peer });
    await settle();
    const waiting = unread === 0 ? "" : ` ${count(unread, "message")} of it came to the inbox.`;
    io.result({ did, name, admission: "admitted" }, `${nameOf(did, name)} may write to this laptop.${waiting}`);
  });
}

async function decline(io: Io, peer: string): Promise<void> {
  await atHome(io, async ({ mesh, settle }) => {
    const { did, name } = await mesh.call("decline", { peer });
    await settle();
    io.result(
      { did, name, admission: "declined" },
      `${nameOf(did, name)} is refused. Change your mind with kars-mesh accept ${did}.`,
    );
  });
}

async function policy(io: Io, wanted: KnockPolicy | undefined): Promise<void> {
  await atHome(io, async ({ mesh }) => {
    const result = await mesh.call("knock_policy", wanted === undefined ? {} : { policy: wanted });
    io.result(result, `${result.policy}: ${MEANINGS[result.policy]}.`);
  });
}

const nameOf = (did: string, name: string | null) => (name === null ? did : `${line(name)} (${did})`);
