/** A page of somebody else in a browser that reaches the cluster: it asks for nothing and is given nothing. */
import { once } from "node:events";
import { connect } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { WebSocket } from "ws";
import { agent, register, registration, request, world } from "../cluster/world.ts";

const EVIL = { origin: "https://evil.example" };
const bob = agent("bob");

it("10,000 registrations from a page: none is taken, whatever their type", async () => {
  const server = await world({ rates: { registrations_per_address: { burst: 20_000, perMinute: 60 } } });
  const requests = Array.from({ length: 20 }, (_, index) => {
    const body = JSON.stringify(registration(agent(`page ${index}`), server.clock.iso()));
    const type = index % 2 === 0 ? "text/plain" : "application/json";
    const head = [`POST /v1/agents HTTP/1.1`, "host: localhost", `origin: ${EVIL.origin}`, `content-type: ${type}`];
    return `${head.join("\r\n")}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  });
  const last = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
  const socket = connect(server.port, "127.0.0.1");
  onTestFinished(() => {
    socket.destroy();
  });
  socket.write(requests.join("").repeat(500) + last);
  let answers = "";
  for await (const chunk of socket) answers += chunk;
  const statuses = answers.match(/HTTP\/1\.1 \d+/g) ?? [];
  expect(statuses.splice(-1)).toEqual(["HTTP/1.1 200"]);
  expect(new Set(statuses)).toEqual(new Set(["HTTP/1.1 403"]));
  expect(statuses.length).toBe(10_000);
  expect((await request(server, "GET", "/v1/discover")).json.total).toBe(0);
  expect((await register(server, bob)).status).toBe(201);
});

it.each([
  ["GET", "/v1/discover"],
  ["GET", "/health"],
  ["GET", "/ready"],
  ["GET", "/metrics"],
  ["POST", "/v1/pair"],
  ["OPTIONS", "/v1/agents"],
  ["GET", "/nothing"],
])("%s %s of a page: 403, and no word that lets the page read it", async (method, path) => {
  const server = await world();
  for (const headers of [EVIL, { origin: "null" }, { origin: server.url }, { "sec-fetch-site": "cross-site" }]) {
    const refused = await request(server, method, path, { headers });
    expect(refused.status).toBe(403);
    expect([...refused.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
  }
});

it("a socket of a page: 403", async () => {
  const server = await world();
  const socket = new WebSocket(`${server.relayUrl}/ws`, { headers: EVIL });
  onTestFinished(() => socket.terminate());
  socket.on("error", () => undefined);
  const [, response] = await once(socket, "unexpected-response");
  expect(response.statusCode).toBe(403);
});

it("a person who types the address is answered", async () => {
  const server = await world();
  expect((await request(server, "GET", "/health", { headers: { "sec-fetch-site": "none" } })).status).toBe(200);
});
