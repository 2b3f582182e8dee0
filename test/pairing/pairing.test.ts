import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { openCluster, openOperator } from "../../src/cluster/local.ts";
import { base64url, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import { decodeToken, encodeToken, PairRequest, type PairResponse, pairedProofText } from "../../src/wire/pair.ts";
import { HeldDisk } from "../store/disks.ts";

type Cluster = Awaited<ReturnType<typeof openCluster>>;

let folder: string;
let cluster: Cluster;
let laptop: Mesh;

const issue = async (name = "alice", expires_ms = 60_000) =>
  (await cluster.call("grant_issue", { name, expires_ms })).token;
const codeOf = (token: string, mesh = laptop) =>
  mesh.call("pair", { token }).then(
    () => "paired",
    ({ code }: { code: string }) => code,
  );
const isPaired = async (mesh = laptop) => (await mesh.call("whoami", {})).clusters.length > 0;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "kars-mesh-pairing-"));
  cluster = await openCluster({ directory: join(folder, "cluster"), port: 0 });
  laptop = await openMesh({ home: join(folder, "laptop") });
});

afterEach(async () => {
  await laptop.close();
  await cluster.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Every byte of every file below a folder. */
function contentsOf(directory: string): string {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"))
    .join("\n");
}

describe("pairing with a token", () => {
  it("gives an identity, the grant and a place in the registry under the grant's name", async () => {
    const paired = await laptop.call("pair", { token: await issue() });
    expect(paired).toMatchObject({
      name: "alice",
      cluster: "local",
      grant: { name: "alice", slots: 1, capabilities: ["offload"] },
    });
    expect(paired.did).toMatch(/^did:mesh:[0-9a-f]{32}$/);
    const other = await openMesh({ home: join(folder, "other") });
    await other.call("pair", { token: await issue("bob") });
    expect((await other.call("discover", { name: "alice" })).agents.map(({ did }) => did)).toEqual([paired.did]);
    await other.close();
    expect(await cluster.call("grant", { name: "alice" })).toMatchObject({ phase: "Active", did: paired.did });
  });

  it("registers under another name when one is given", async () => {
    expect(await laptop.call("pair", { token: await issue(), name: "studio" })).toMatchObject({ name: "studio" });
  });

  it("forgives white space that was pasted along", async () => {
    const token = await issue();
    expect(await codeOf(`  ${token.slice(0, 30)}\n ${token.slice(30)} `)).toBe("paired");
  });

  it("may be repeated with the same token by the same laptop: its first answer may have been lost", async () => {
    const token = await issue();
    expect([await codeOf(token), await codeOf(token)]).toEqual(["paired", "paired"]);
  });

  it("keeps the token's secret nowhere: the cluster holds a hash, the laptop nothing", async () => {
    const token = await issue();
    const { secret } = decodeToken(token);
    await laptop.call("pair", { token });
    await laptop.close();
    expect(contentsOf(folder)).not.toContain(secret);
    expect(contentsOf(folder)).not.toContain(token);
    laptop = await openMesh({ home: join(folder, "laptop") });
  });

  it("survives the cluster's restart", async () => {
    const token = await issue();
    await cluster.close();
    cluster = await openCluster({
      directory: join(folder, "cluster"),
      port: Number(new URL(decodeToken(token).pairUrl).port),
    });
    expect(await codeOf(token)).toBe("paired");
  });

  it("works with a token made while the cluster was down", async () => {
    const { pair_url } = cluster.urls;
    await cluster.close();
    const operator = await openOperator(join(folder, "cluster"));
    const { token } = await operator.call("grant_issue", { name: "late", expires_ms: 60_000 });
    await operator.close();
    cluster = await openCluster({ directory: join(folder, "cluster"), port: Number(new URL(pair_url).port) });
    expect(await codeOf(token)).toBe("paired");
  });
});

describe("a laptop that closes while it pairs", () => {
  it("tells the caller, and goes on with it when it is opened again", async () => {
    await laptop.close();
    const asked = Promise.withResolvers<void>();
    const silent = realPorts({
      ...realNetwork,
      fetch: (url, init) => {
        if (url.endsWith("/v1/pair")) return realNetwork.fetch(url, init);
        asked.resolve();
        return new Promise(() => undefined);
      },
    });
    laptop = await openMesh({ home: join(folder, "laptop"), ports: silent });
    const pairing = codeOf(await issue());
    await asked.promise;
    await laptop.close();
    expect(await pairing).toBe("closed");
    laptop = await openMesh({ home: join(folder, "laptop") });
    await laptop.call("settle", {});
    expect(await isPaired()).toBe(true);
  });
});

describe("a token that cannot be used", () => {
  it("has its own error for each reason, and leaves the laptop unpaired", async () => {
    const used = await issue("used");
    const other = await openMesh({ home: join(folder, "other") });
    await other.call("pair", { token: used });
    await other.close();
    const revoked = await issue("revoked");
    await cluster.call("grant_revoke", { name: "revoked" });
    const good = decodeToken(await issue("good"));
    const unknown = encodeToken({ ...good, secret: "A".repeat(43) });
    const expired = await issue("expired", 1);
    expect(await codeOf(used)).toBe("token_used");
    expect(await codeOf(revoked)).toBe("token_revoked");
    expect(await codeOf(unknown)).toBe("token_invalid");
    expect(await codeOf(expired)).toBe("token_expired");
    for (const mangled of ["kars-pair-", used.slice(0, -5), used.replace("kars-pair-", ""), "hello", `${used}x`]) {
      expect(await codeOf(mangled)).toBe("token_mangled");
    }
    expect(await isPaired()).toBe(false);
    expect(await codeOf(await issue("fresh"))).toBe("paired");
  });

  it("is not used up when the cluster cannot be reached", async () => {
    const token = await issue();
    const port = Number(new URL(decodeToken(token).pairUrl).port);
    await cluster.close();
    expect(await codeOf(token)).toBe("cluster_unreachable");
    expect(await isPaired()).toBe(false);
    cluster = await openCluster({ directory: join(folder, "cluster"), port });
    expect(await codeOf(token)).toBe("paired");
  });

  it("is answered for itself, also when it is given while an earlier one comes to its end", async () => {
    await laptop.close();
    const held = new HeldDisk();
    let published: Promise<void> | undefined;
    const answered = Promise.withResolvers<void>();
    const slow = realPorts({
      ...realNetwork,
      async fetch(url, init) {
        const answer = await realNetwork.fetch(url, init);
        if (url.endsWith("/prekeys")) {
          published ??= held.hold();
          answered.resolve();
        }
        return answer;
      },
    });
    laptop = await openMesh({ home: join(folder, "laptop"), ports: { ...slow, disk: held.disk } });
    const first = codeOf(await issue("first"));
    await answered.promise;
    await published;
    const second = laptop.call("pair", { token: await issue("second") });
    held.release();
    expect(await first).toBe("paired");
    expect(await second).toMatchObject({ grant: { name: "second" } });
  });

  it("does not end a pairing that is there", async () => {
    expect(await codeOf(await issue())).toBe("paired");
    const revoked = await issue("second");
    await cluster.call("grant_revoke", { name: "second" });
    expect(await codeOf(revoked)).toBe("token_revoked");
    expect(await isPaired()).toBe(true);
    await laptop.close();
    laptop = await openMesh({ home: join(folder, "laptop") });
    expect(await isPaired()).toBe(true);
  });
});

describe("a server that is not the controller of the token", () => {
  let impostor: Server;
  afterEach(() => impostor.close());

  it("cannot take a laptop in, even with a well-formed and well-signed answer of its own", async () => {
    const genuine = decodeToken(await issue());
    const stranger = identityFromSeed(new Uint8Array(randomBytes(32)));
    impostor = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const { did, proof_timestamp } = PairRequest.parse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
      const { relay_url, registry_url } = cluster.urls;
      const signed = utf8.encode(pairedProofText(did, relay_url, registry_url, proof_timestamp));
      const answer: PairResponse = {
        cluster: "local",
        relay_url,
        registry_url,
        controller_did: genuine.controllerDid,
        controller_key: base64url.encode(stranger.publicKey),
        signature: base64url.encode(sign(stranger, signed)),
        grant: { name: "alice", slots: 1, capabilities: ["offload"], token_budget: null, expires_at: null },
      };
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
    await new Promise<void>((resolve) => impostor.listen(0, "127.0.0.1", resolve));
    const { port } = impostor.address() as AddressInfo;
    expect(await codeOf(encodeToken({ ...genuine, pairUrl: `http://127.0.0.1:${port}/v1/pair` }))).toBe(
      "cluster_refused",
    );
    expect(await isPaired()).toBe(false);
  });
});
