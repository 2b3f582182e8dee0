import { describe, expect, it } from "vitest";
import { RENEW_QUIET_MS } from "../../src/actors/limits.ts";
import { startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import { atTheEnd } from "../ending.ts";
import { unhurried } from "../scenarios/clock.ts";
import { withKillsBesidePlainPeer } from "../scenarios/kills.ts";
import { withPlainPeer } from "../scenarios/plain.ts";
import { openLocal, openStandIns, type Stage } from "../scenarios/stage.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { Peer, publishedKind, wantsProof } from "./published.ts";
import { olderTongue } from "./suite.ts";

/** Time that must pass in truth for the published client, which keeps for a while what came before a knock. */
const TRULY_MS = RENEW_QUIET_MS;

/** A local cluster as it is by default. */
async function openByDefault(): Promise<Stage> {
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: await temporaryDirectory(),
    pair: () => Promise.reject(new MeshError("token_invalid")),
  });
  atTheEnd(() => server.close());
  return { relayUrl: server.relayUrl, registryUrl: server.url, clock: unhurried, keeps: true };
}

describe("at a local cluster that allows unproven clients", () => {
  withPlainPeer(() => openLocal(TRULY_MS), publishedKind(false));
  olderTongue(() => openLocal(TRULY_MS), false);
});

describe("at a local cluster as it is by default", () => {
  it("the published client is refused by relay and registry", async () => {
    const servers = await openByDefault();
    expect(await wantsProof(servers)).toBe(true);
    const peer = new Peer(servers);
    const closed = new Promise((resolve) => peer.client.onDisconnect((_, code) => resolve(code)));
    await expect(peer.client.connect()).rejects.toThrow("register failed: 400");
    expect(await closed).toBe(4005);
  });

  olderTongue(openByDefault, true);
});

describe("at stand-ins of the reference relay and registry", () => {
  withPlainPeer(() => openStandIns(TRULY_MS), publishedKind(true));
  withKillsBesidePlainPeer(() => openStandIns(), publishedKind(true));
  olderTongue(() => openStandIns(TRULY_MS), true);
});
