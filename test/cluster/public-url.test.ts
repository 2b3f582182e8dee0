import { createServer } from "node:net";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { openMesh } from "../../src/actors/mesh.ts";
import { openCluster, openOperator } from "../../src/cluster/local.ts";
import { decodeToken, encodeToken } from "../../src/wire/pair.ts";
import { temporaryDirectory } from "./world.ts";

// A cluster that is reached under another address than the one where it listens.

const PUBLIC = "https://mesh.example.org";

const freePort = () =>
  new Promise<number>((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });

it("tells that address to everyone, and reaches itself where it listens", async () => {
  const directory = await temporaryDirectory();
  const port = await freePort();
  const cluster = await openCluster({ directory, port, publicUrl: PUBLIC });
  onTestFinished(() => cluster.close());
  expect(cluster.urls).toEqual({
    relay_url: "wss://mesh.example.org",
    registry_url: PUBLIC,
    pair_url: `${PUBLIC}/v1/pair`,
  });
  const status = await cluster.call("cluster_status", {});
  expect(status).toMatchObject(cluster.urls);
  const stop = new AbortController();
  await new Promise<void>((resolve, reject) => {
    const look = async () => {
      const { online, did } = await cluster.call("cluster_status", {});
      if (did !== null && online.includes(did)) resolve();
    };
    cluster.call("watch", {}, { signal: stop.signal, onProgress: () => look().catch(reject) }).catch(reject);
    look().catch(reject);
  });
  stop.abort();

  const { token } = await cluster.call("grant_issue", { name: "laptop", expires_ms: 600_000 });
  const told = decodeToken(token);
  expect(told.pairUrl).toBe(`${PUBLIC}/v1/pair`);
  // As one pairs to whom that address leads here.
  const here = `127.0.0.1:${port}`;
  const laptop = await openMesh({
    home: join(await temporaryDirectory(), "laptop"),
    places: { relayUrl: `ws://${here}`, registryUrl: `http://${here}` },
  });
  onTestFinished(() => laptop.close());
  await laptop.call("pair", { token: encodeToken({ ...told, pairUrl: `http://${here}/v1/pair` }) });
  expect(JSON.stringify(await laptop.call("whoami", {}))).toContain("wss://mesh.example.org");
});

it("also in tokens that are made while it is down", async () => {
  const directory = await temporaryDirectory();
  await (await openCluster({ directory, port: 0, publicUrl: PUBLIC })).close();
  const operator = await openOperator(directory);
  onTestFinished(() => operator.close());
  const { token } = await operator.call("grant_issue", { name: "laptop", expires_ms: 600_000 });
  expect(decodeToken(token).pairUrl).toBe(`${PUBLIC}/v1/pair`);
});
