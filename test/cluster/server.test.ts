import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect as connectTcp } from "node:net";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { startServer } from "../../src/cluster/server.ts";
import { base64url } from "../../src/crypto/index.ts";
import { type ErrorCode, MeshError } from "../../src/errors.ts";
import { HTTP_BODY_SIZE_MAX } from "../../src/limits.ts";
import type { PairRequest, PairResponse } from "../../src/wire/pair.ts";
import { ACCEPTED, agent, agentPath, connect, openSocket, register, request, world } from "./world.ts";

const alice = agent("alice");

const pairRequest: PairRequest = {
  token: base64url.encode(new Uint8Array(32)),
  did: alice.did,
  public_key: base64url.encode(alice.publicKey),
  proof: base64url.encode(new Uint8Array(64)),
  proof_timestamp: "2026-03-01T12:00:00.000Z",
};

describe("http", () => {
  test("says that it is well", async () => {
    const { status, json } = await request(await world(), "GET", "/health");
    expect([status, json]).toEqual([200, { status: "ok" }]);
  });

  test.each(["/", "/v1", "/v1/agents/x/y/z", "/v1/nothing", "/health/", "//health", "/v1/agents/did%3Amesh%3A0/other"])(
    "%s is 404",
    async (path) => {
      const { status, json } = await request(await world(), "GET", path);
      expect(status).toBe(404);
      expect(json).toEqual({ error: { code: "not_found", message: expect.any(String) }, detail: expect.any(String) });
    },
  );

  test.each([
    ["PUT", "/v1/agents", "POST"],
    ["POST", "/health", "GET"],
    ["GET", "/v1/pair", "POST"],
    ["POST", agentPath(alice, "/prekeys"), "PUT, GET"],
  ])("%s %s is 405 and says what is allowed", async (method, path, allowed) => {
    const { status, headers } = await request(await world(), method, path);
    expect([status, headers.get("allow")]).toEqual([405, allowed]);
  });

  test("an agent that is not there is 404, whatever stands in the path", async () => {
    const server = await world();
    for (const path of [agentPath(alice), "/v1/agents/nobody", "/v1/agents/__proto__", "/v1/agents/%00"]) {
      expect(await request(server, "GET", path)).toMatchObject({
        status: 404,
        json: { error: { code: "peer_unknown" } },
      });
    }
    expect((await request(server, "GET", "/v1/agents/%E0%A4%A")).status).toBe(400);
  });

  test.each(["", "{", "[]", "null", '"text"', "[".repeat(100_000)])("a body %s is 400", async (body) => {
    const { status, json } = await request(await world(), "POST", "/v1/agents", { body });
    expect(status).toBe(400);
    expect(json).toMatchObject({ error: { code: "input_invalid" } });
    expect(JSON.stringify(json)).not.toContain("    at ");
  });

  test("a field that is wrong is named", async () => {
    const { json } = await request(await world(), "POST", "/v1/pair", { body: { ...pairRequest, did: "did:mesh:x" } });
    expect(json).toMatchObject({ error: { code: "input_invalid", message: expect.stringContaining("did: ") } });
  });

  test("a body above the bound is 413, and the server goes on", async () => {
    const server = await world();
    const body = JSON.stringify({ fill: "x".repeat(HTTP_BODY_SIZE_MAX) });
    expect(await request(server, "POST", "/v1/agents", { body })).toMatchObject({
      status: 413,
      json: { error: { code: "limit_reached" } },
    });
    expect((await register(server, alice)).status).toBe(201);
  });

  test("a body without an end is cut off", async () => {
    const server = await world();
    const outgoing = httpRequest(`${server.url}/v1/pair`, { method: "POST" });
    // The cut, which is an error to who writes, is what the test is about.
    outgoing.on("error", () => undefined);
    const ended = new Promise((resolve) => outgoing.on("close", resolve));
    const fill = Buffer.alloc(64 * 1024, "x");
    const pour = () => {
      while (!outgoing.destroyed && outgoing.write(fill));
    };
    outgoing.on("drain", pour);
    outgoing.on("response", (response) => {
      expect(response.statusCode).toBe(413);
      outgoing.off("drain", pour);
      response.resume();
      outgoing.destroy();
    });
    pour();
    await ended;
    expect((await request(server, "GET", "/health")).status).toBe(200);
  });

  test("a client that leaves in the middle of its body harms nobody", async () => {
    const server = await world();
    const socket = connectTcp(server.port, "127.0.0.1");
    socket.write("POST /v1/agents HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    await once(socket, "ready");
    socket.destroy();
    expect((await request(server, "GET", "/health")).status).toBe(200);
  });

  test("an upgrade elsewhere than /ws is 404", async () => {
    const server = await world();
    const socket = new WebSocket(`${server.relayUrl}/other`);
    const [error] = await once(socket, "error");
    expect(error.message).toContain("404");
  });
});

describe("pairing", () => {
  test("hands the request on and answers what comes back", async () => {
    const answer: PairResponse = {
      cluster: "c",
      relay_url: "ws://127.0.0.1:1",
      registry_url: "http://127.0.0.1:1",
      controller_did: alice.did,
      controller_key: pairRequest.public_key,
      signature: pairRequest.proof,
      grant: { name: "g", slots: 1, capabilities: [], token_budget: null, expires_at: null },
    };
    const asked: PairRequest[] = [];
    const pair = async (body: PairRequest) => {
      asked.push(body);
      return answer;
    };
    const server = await world({ pair });
    const { status, json } = await request(server, "POST", "/v1/pair", { body: pairRequest });
    expect([status, json]).toEqual([200, answer]);
    expect(asked).toEqual([pairRequest]);
  });

  test.each<[ErrorCode, number]>([
    ["token_invalid", 403],
    ["token_expired", 403],
    ["token_revoked", 403],
    ["token_used", 409],
    ["input_invalid", 400],
    ["closed", 503],
  ])("%s answers %i", async (code, status) => {
    const server = await world({ pair: () => Promise.reject(new MeshError(code)) });
    const reply = await request(server, "POST", "/v1/pair", { body: pairRequest });
    const { message } = new MeshError(code);
    expect(reply).toMatchObject({ status, json: { error: { code, message }, detail: message } });
  });

  test("tells nothing of a defect but that there is one", async () => {
    const server = await world({ pair: () => Promise.reject(new TypeError("the secret of /etc/passwd")) });
    const { status, json } = await request(server, "POST", "/v1/pair", { body: pairRequest });
    expect([status, (json.error as { code: string }).code]).toEqual([500, "internal"]);
    expect(JSON.stringify(json)).not.toContain("secret");
    expect(server.lines.join()).toContain("the secret");
  });
});

describe("the server", () => {
  test("closes with sockets of every kind open, and answers what it was asked before", async () => {
    let answer: (error: Error) => void = () => undefined;
    let asked: () => void = () => undefined;
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const pair = () => {
      asked();
      return new Promise<never>((_, reject) => {
        answer = reject;
      });
    };
    const server = await world({ pair });
    const connected = await connect(server, alice, ACCEPTED);
    const unconnected = await openSocket(server);
    const idle = connectTcp(server.port, "127.0.0.1");
    await once(idle, "connect");
    const idleEnded = once(idle, "close");
    idle.resume();
    const paired = request(server, "POST", "/v1/pair", { body: pairRequest });
    await isAsked;
    const closed = server.close();
    answer(new MeshError("token_used"));
    expect((await paired).status).toBe(409);
    await closed;
    await Promise.all([connected.ended, unconnected.ended, idleEnded]);
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
    await server.close();
  });

  test("says why when its port is taken, and lets go of the directory", async () => {
    const { port, directory } = await world();
    const pair = () => Promise.reject(new MeshError("token_invalid"));
    const start = startServer({ host: "127.0.0.1", port, directory: `${directory}/other`, pair });
    await expect(start).rejects.toThrow("EADDRINUSE");
  });
});
