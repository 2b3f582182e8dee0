/**
 * The scenarios against servers that are already there: a reference relay and registry, or a cluster that runs. docs/live-test.md says
 * what the environment names.
 */
import { describe, it } from "vitest";
import { commandKind } from "../scenarios/command-peer.ts";
import { withFiles } from "../scenarios/files.ts";
import { withKills, withKillsBesidePlainPeer } from "../scenarios/kills.ts";
import { betweenOurs } from "../scenarios/ours.ts";
import type { PeerKind } from "../scenarios/peers.ts";
import { withPlainPeer } from "../scenarios/plain.ts";
import { withForgetfulRegistry } from "../scenarios/registry.ts";
import { liveStage, type OpenStage } from "../scenarios/stage.ts";
import { publishedKind, wantsProof } from "./published.ts";
import { olderTongue } from "./suite.ts";

const title = "at the servers of AGT_RELAY_URL and AGT_REGISTRY_URL";

function scenarios(open: OpenStage, proves: boolean, kinds: readonly PeerKind[]): void {
  betweenOurs(open);
  withFiles(open);
  withKills(open);
  olderTongue(open, proves);
  for (const kind of kinds) {
    withPlainPeer(open, kind);
    withKillsBesidePlainPeer(open, kind);
  }
  withForgetfulRegistry(open, kinds);
}

if (process.env.AGT_LIVE_TEST === "1") {
  const stage = liveStage(process.env);
  const proves = await wantsProof(stage);
  const { AGT_PEER_COMMAND: command } = process.env;
  const kinds = [publishedKind(proves), ...(command === undefined ? [] : [commandKind(command)])];
  console.info(`Live test at ${stage.relayUrl} and ${stage.registryUrl}: ${proves ? "with" : "without"} proofs.`);
  describe(title, () => scenarios(async () => stage, proves, kinds));
} else {
  console.warn("SKIPPED: the live test. Set AGT_LIVE_TEST=1, AGT_RELAY_URL and AGT_REGISTRY_URL to run it.");
  it.skip(title, () => undefined);
}
