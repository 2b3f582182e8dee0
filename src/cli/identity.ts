import type { Command } from "commander";
import type { Agent } from "../actors/agent.ts";
import { forgettingText } from "../actors/registry-forgot.ts";
import { SETTLE_BRIEFLY_MS, TOKEN_PASTED_LENGTH_MAX } from "../limits.ts";
import { atHome, fetchFirst } from "./home.ts";
import { wordsOf } from "./input.ts";
import { age, count, facts, line, table } from "./output.ts";
import { action, type Io } from "./program.ts";

// Who this laptop is, and whom it knows.

/** @param pairAs the name that pairing asks for when none is given */
export function addIdentity(program: Command, pairAs?: string): void {
  program
    .command("pair")
    .description("join a cluster with a token from its operator")
    .argument("<token...>", "kars-pair-…, or azcp_1_… of a deployed cluster; - reads it from standard input")
    .option("--name <name>", "the name to be found under (default: the one of the grant)", pairAs)
    .option("--ca <file>", "the cluster's own authority, from its operator (PEM): this home trusts it from now on")
    .action(action(pair));
  program.command("whoami").description("show this laptop's identity and clusters").action(action(whoami));
  program
    .command("peers")
    .description("show whom this laptop has talked to, and who waits to be accepted")
    .action(action(peers));
}

export function addDiscovery(program: Command): void {
  program
    .command("discover")
    .description("show who is on the mesh")
    .addHelpText(
      "after",
      `
Without options it shows all agents. Some registries list agents only by capability or name: then the list may be incomplete, and the
answer says what was asked for. SEEN is "unknown" if the registry does not say whether an agent is online.`,
    )
    .option("--name <name>", "only agents of that name")
    .option("--capability <capability>", "only agents that can do that")
    .action(action(discover));
}

/** What whoever pairs with a deployed cluster must know. */
const PLAINTEXT =
  "This cluster's controller speaks plaintext: it, its relay, and with ws:// anyone on the way read the task and the file names of each offload, and could answer in its name. Messages, files and results are sealed.";

async function pair(io: Io, typed: string[], { name, ca }: { name?: string; ca?: string }): Promise<void> {
  // The shell splits a token with line breaks into several words.
  const token = await wordsOf(typed, TOKEN_PASTED_LENGTH_MAX, "token");
  const forgetAuthority = await trust(io, ca);
  let isPaired = false;
  const pairing = atHome(io, async ({ mesh, signal, settle, offline }) => {
    const paired = await mesh.call("pair", { token, ...(name === undefined ? {} : { name }) }, { signal });
    isPaired = true;
    await settle();
    const { grant, cluster } = paired;
    const allowed =
      grant === null
        ? undefined
        : `${count(grant.slots, "slot")}: ${grant.capabilities.join(", ")}${grant.expires_at === null ? "" : `, ends ${age(grant.expires_at)}`}`;
    io.result(
      paired,
      [
        `Paired with ${line(cluster ?? "the cluster")}.`,
        facts([
          ["name", paired.name],
          ["did", paired.did],
          ["grant", allowed],
        ]),
        ...(paired.plaintext ? [PLAINTEXT] : []),
        "Look who is there with kars-mesh discover.",
      ].join("\n"),
    );
    const problem = await offline();
    if (problem !== undefined) io.note(problem);
  });
  await pairing.catch(async (error: unknown) => {
    // Whom it did not join it need not trust.
    if (!isPaired) await forgetAuthority();
    throw error;
  });
}

/** Has the home trust an authority, which pairing needs already. Returns what takes it back. */
async function trust(io: Io, ca: string | undefined): Promise<() => Promise<void>> {
  if (ca === undefined) return async () => undefined;
  const { readAuthorities, trustAuthorities } = await import("../actors/authorities.ts");
  return trustAuthorities(io.directory, readAuthorities(ca));
}

async function whoami(io: Io): Promise<void> {
  await atHome(io, async ({ mesh, settle }) => {
    await settle(SETTLE_BRIEFLY_MS);
    const { did, name, clusters, link, store } = await mesh.call("whoami", {});
    const text = [
      facts([
        ["name", name],
        ["did", did ?? "none yet: it is made by pairing"],
        ["home", io.directory],
        ["link", clusters.length === 0 ? null : link.state],
        ["store", store.state === "ok" ? null : `failing since ${age(store.since)}: ${line(store.reason)}`],
      ]),
      clusters.length === 0
        ? "Not paired with a cluster. Pair with a token from its operator: kars-mesh pair <token>."
        : table(
            ["CLUSTER", "STATE", "CONTROLLER", "SLOTS", "CAPABILITIES", "RELAY"],
            clusters.map(({ cluster, state, grant, plaintext, relay_url }) => [
              cluster ?? "",
              state,
              plaintext ? "plaintext" : "sealed",
              String(grant?.slots ?? ""),
              grant?.capabilities.join(", ") ?? "",
              relay_url ?? "",
            ]),
          ),
      ...clusters.flatMap(({ forgotten }) => forgettingText(forgotten, Date.now()) ?? []).map(line),
    ];
    io.result({ did, name, clusters, ...(store.state === "ok" ? {} : { store }) }, text.join("\n\n"));
  });
}

async function peers(io: Io): Promise<void> {
  await atHome(io, async (visit) => {
    await fetchFirst(io, visit);
    const result = await visit.mesh.call("peers", {});
    const text =
      result.peers.length === 0
        ? "Nobody yet. Look who is there with kars-mesh discover."
        : table(
            ["NAME", "TRUST", "SESSION", "SENT", "RECEIVED", "UNREAD", "QUEUED", "LOST", "DID"],
            result.peers.map((peer) => [
              peer.name ?? "",
              peer.verified_at !== null
                ? `verified ${age(peer.verified_at)}`
                : peer.admission === "held"
                  ? "waiting"
                  : peer.admission === "unasked"
                    ? ""
                    : peer.admission,
              peer.plaintext
                ? "plaintext (legacy controller)"
                : peer.session === null
                  ? peer.state
                  : peer.confirmed
                    ? "confirmed"
                    : "unconfirmed",
              String(peer.sent),
              String(peer.received),
              String(peer.unread),
              String(peer.queued),
              String(peer.undeliverable),
              peer.did,
            ]),
          );
    const held = result.peers.filter(({ admission }) => admission === "held").length;
    const next =
      held === 0 ? "" : "\n\nLet one in with kars-mesh accept <peer>, or turn it away with kars-mesh decline <peer>.";
    io.result(result, `${text}${next}`);
  });
}

const seenOf = ({ online, last_seen }: Agent): string => {
  if (online) return "online";
  if (last_seen !== null) return age(last_seen);
  return online === null ? "unknown" : "never";
};

async function discover(io: Io, by: { name?: string; capability?: string }): Promise<void> {
  await atHome(io, async ({ mesh, signal }) => {
    const found = await mesh.call("discover", by, { signal });
    const { agents, note, asked = [] } = found;
    const text = [
      agents.length === 0
        ? note === undefined
          ? "No agent matches."
          : "No agents were found."
        : table(
            ["NAME", "SEEN", "CAPABILITIES", "DID"],
            agents.map((agent) => [agent.name ?? "", seenOf(agent), agent.capabilities.join(", "), agent.did]),
          ),
      note,
      asked.length === 0 ? undefined : `Asked for: ${asked.map(line).join(", ")}.`,
      note === undefined
        ? undefined
        : "Ask for others with kars-mesh discover --capability <capability>, or --name <name>.",
    ];
    io.result(found, text.filter((part) => part !== undefined).join("\n"));
  });
}
