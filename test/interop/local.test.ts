import { describe, expect, it, onTestFinished } from "vitest";
import { startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { Peer, type Servers, wantsProof } from "./published.ts";
import { interop } from "./suite.ts";

const open = (allowUnproven: boolean) => async (): Promise<Servers> => {
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: await temporaryDirectory(),
    allowUnproven,
    pair: () => Promise.reject(new MeshError("token_invalid")),
  });
  onTestFinished(() => server.close());
  return { relayUrl: server.relayUrl, registryUrl: server.url };
};

describe("the published client, at a local cluster that allows unproven clients", () => interop(open(true), false));

describe("the published client, at a local cluster as it is by default", () => {
  it("is refused by relay and registry", async () => {
    const servers = await open(false)();
    expect(await wantsProof(servers)).toBe(true);
    const peer = new Peer(servers);
    const closed = new Promise((resolve) => peer.client.onDisconnect((_, code) => resolve(code)));
    await expect(peer.client.connect()).rejects.toThrow("register failed: 400");
    expect(await closed).toBe(4005);
  });

  interop(open(false), true);
});
