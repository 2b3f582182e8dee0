import { describe, expect, test } from "vitest";
import { base64url, sign, utf8 } from "../../src/crypto/index.ts";
import { killedAt } from "./disks.ts";
import {
  agent,
  agentPath,
  authorization,
  connect,
  prekeys,
  publish,
  register,
  registration,
  request,
  temporaryDirectory,
  type World,
  world,
} from "./world.ts";

const alice = agent("alice");
const bob = agent("bob");
const carol = agent("carol");

const get = (server: World, path: string) => request(server, "GET", path);
const bundle = (server: World) => get(server, agentPath(alice, "/prekeys"));

/** Takes one-time prekeys until there are none; gives their ids and keys. */
async function taken(server: World): Promise<unknown[]> {
  const keys: unknown[] = [];
  for (;;) {
    const { json } = await bundle(server);
    if (json.one_time_pre_key === null) return keys;
    keys.push(json.one_time_pre_key);
  }
}

describe("registering", () => {
  test("needs the key, and gives the DID", async () => {
    const server = await world();
    const { status, json } = await register(server, alice, { capabilities: ["laptop"], metadata: { name: "a" } });
    expect([status, json]).toEqual([201, { did: alice.did, status: "registered" }]);
    const record = await get(server, agentPath(alice));
    expect(record.json).toEqual({
      did: alice.did,
      public_key: base64url.encode(alice.publicKey),
      capabilities: ["laptop"],
      metadata: { name: "a" },
      status: "registered",
      registered_at: server.clock.iso(),
      last_seen: server.clock.iso(),
      reputation_score: 0.5,
    });
  });

  test.each([
    ["another's proof", { proof: registration(bob, "2026-03-01T12:00:00.000Z").proof }, 401],
    ["a proof over another key", { public_key: base64url.encode(bob.publicKey) }, 401],
    ["an old proof", registration(alice, "2026-03-01T11:54:59.000Z"), 401],
    ["a proof of tomorrow", registration(alice, "2026-03-02T12:00:00.000Z"), 401],
    ["a time without a zone", registration(alice, "2026-03-01T12:00:00"), 400],
    ["a short key", { public_key: "AAAA" }, 400],
    ["a key that is not canonical", { public_key: `${"A".repeat(42)}B` }, 400],
    ["capabilities that are no list", { capabilities: "laptop" }, 400],
    ["an empty capability", { capabilities: [""] }, 400],
    ["too many capabilities", { capabilities: Array.from({ length: 33 }, (_, n) => `c${n}`) }, 400],
    ["metadata that is no text", { metadata: { n: 1 } }, 400],
  ])("is refused with %s", async (_, more, status) => {
    const server = await world();
    const reply = await register(server, alice, more);
    expect(reply.status).toBe(status);
    expect(reply.json.detail).toBe((reply.json.error as { message: string }).message);
    expect((await get(server, agentPath(alice))).status).toBe(404);
  });

  test("again with the same facts answers 409", async () => {
    const server = await world();
    const facts = { capabilities: ["a", "b"], metadata: { x: "1", y: "2" } };
    await register(server, alice, facts);
    server.clock.pass(1000);
    expect((await register(server, alice, { ...facts, metadata: { y: "2", x: "1" } })).status).toBe(409);
  });

  test("with other facts and a newer proof updates; a repetition of an old request does not", async () => {
    const server = await world();
    const old = registration(alice, server.clock.iso(), { capabilities: ["old"] });
    await request(server, "POST", "/v1/agents", { body: old });
    server.clock.pass(1000);
    expect(await register(server, alice, { capabilities: ["new"] })).toMatchObject({
      status: 200,
      json: { did: alice.did, status: "updated" },
    });
    server.clock.pass(1000);
    expect((await request(server, "POST", "/v1/agents", { body: old })).status).toBe(409);
    expect((await get(server, agentPath(alice))).json.capabilities).toEqual(["new"]);
  });

  test("keeps the prekeys of before when it updates", async () => {
    const server = await world();
    await register(server, alice);
    await publish(server, alice, prekeys(alice));
    server.clock.pass(1000);
    await register(server, alice, { capabilities: ["new"] });
    expect(await taken(server)).toHaveLength(3);
  });
});

describe("prekeys", () => {
  test("are published by their owner and given to anyone, each one-time prekey once", async () => {
    const server = await world();
    await register(server, alice);
    expect((await bundle(server)).status).toBe(404);
    const upload = prekeys(alice);
    expect(await publish(server, alice, upload)).toMatchObject({
      status: 200,
      json: { one_time_count: 3, otk_count: 3 },
    });
    const { one_time_pre_keys, ...rest } = upload;
    for (const one_time_pre_key of [...one_time_pre_keys, null]) {
      expect((await bundle(server)).json).toEqual({ ...rest, one_time_pre_key });
    }
  });

  test("are found under the DID as it stands and percent-encoded", async () => {
    const server = await world();
    await register(server, alice);
    await publish(server, alice, prekeys(alice));
    for (const did of [alice.did, encodeURIComponent(alice.did), alice.did.replaceAll(":", "%3a")]) {
      expect((await get(server, `/v1/agents/${did}/prekeys`)).status).toBe(200);
    }
  });

  test("are given out exactly once to fifty who ask together, also across a restart", async () => {
    const server = await world();
    await register(server, alice);
    await publish(server, alice, prekeys(alice, { count: 60 }));
    const replies = await Promise.all(Array.from({ length: 50 }, () => bundle(server)));
    await server.close();
    const reopened = await world({ directory: server.directory, clock: server.clock });
    const keys = [...replies.map(({ json }) => json.one_time_pre_key), ...(await taken(reopened))];
    expect(new Set(keys.map((key) => JSON.stringify(key))).size).toBe(60);
    expect(keys).toHaveLength(60);
  });

  test("are given out only when that is on disk", async () => {
    const directory = await temporaryDirectory();
    const before = await world({ directory });
    await register(before, alice);
    await publish(before, alice, prekeys(alice));
    await before.close();
    let failed = false;
    for (let change = 1; !failed; change++) {
      const server = await world({ directory, clock: before.clock, disk: killedAt(change) }).catch(() => undefined);
      const reply = server && (await bundle(server));
      failed = reply?.status === 503;
      if (failed) expect(reply?.json).toMatchObject({ error: { code: "store_io" } });
      await server?.close();
    }
    expect(await taken(await world({ directory, clock: before.clock }))).toHaveLength(3);
  });

  test("add to those held; a new signed prekey replaces the one before", async () => {
    const server = await world();
    await register(server, alice);
    await publish(server, alice, prekeys(alice, { first: 0 }));
    await bundle(server);
    const again = prekeys(alice, { first: 0 });
    expect((await publish(server, alice, again)).json).toMatchObject({ one_time_count: 2 });
    const next = prekeys(alice, { first: 3, spk: 2 });
    expect((await publish(server, alice, next)).json).toMatchObject({ one_time_count: 5, signed_pre_key_id: 2 });
    expect((await bundle(server)).json.signed_pre_key).toEqual(next.signed_pre_key);
    expect((await taken(server)).map((key) => (key as { key_id: number }).key_id)).toEqual([2, 3, 4, 5]);
  });

  test("of an agent that lost its memory replace those held", async () => {
    const server = await world();
    await register(server, alice);
    await publish(server, alice, prekeys(alice, { count: 5 }));
    await bundle(server);
    const anew = prekeys(alice, { count: 3, seed: "after the loss" });
    await publish(server, alice, anew);
    expect(await taken(server)).toEqual(anew.one_time_pre_keys);
  });

  test("are bounded", async () => {
    const server = await world();
    await register(server, alice);
    for (const first of [0, 200, 400]) await publish(server, alice, prekeys(alice, { count: 200, first }));
    const count = await request(server, "GET", agentPath(alice, "/prekeys/count"), { as: alice });
    expect(count.json).toEqual({ signed_pre_key_id: 1, one_time_count: 400 });
    expect((await publish(server, alice, prekeys(alice, { count: 201 }))).status).toBe(400);
  });

  const good = prekeys(alice);
  const foreign = prekeys(bob);
  test.each([
    ["identity_key_ed", { ...foreign }],
    ["identity_key:", { ...good, identity_key: foreign.identity_key }],
    [
      "signed_pre_key.signature",
      { ...good, signed_pre_key: { ...good.signed_pre_key, signature: foreign.signed_pre_key.signature } },
    ],
    [
      "signed_pre_key.public_key",
      { ...good, signed_pre_key: { ...good.signed_pre_key, public_key: `${"A".repeat(42)}B` } },
    ],
    ["one_time_pre_keys.0.public_key", { ...good, one_time_pre_keys: [{ key_id: 1, public_key: "AA" }] }],
    ["one_time_pre_keys.0.key_id", { ...good, one_time_pre_keys: [{ key_id: -1, public_key: good.identity_key }] }],
    ["signed_pre_key", { ...good, signed_pre_key: undefined }],
  ])("are refused when %s is wrong", async (field, upload) => {
    const server = await world();
    await register(server, alice);
    const { status, json } = await publish(server, alice, upload);
    expect(status).toBe(400);
    expect(json.detail).toContain(field);
    expect((await bundle(server)).status).toBe(404);
  });
});

describe("a signed request", () => {
  const time = "2026-03-01T12:00:00.000Z";
  const over = (text: string) => base64url.encode(sign(alice, utf8.encode(text)));
  test.each([
    ["no header", undefined, 401],
    ["another scheme", authorization(alice, time).replace("Ed25519-Timestamp", "Bearer"), 401],
    ["half a header", `Ed25519-Timestamp ${alice.did} ${time}`, 401],
    ["an old time", authorization(alice, "2026-03-01T11:54:00.000Z"), 401],
    ["no time", authorization(alice, "now"), 401],
    [
      "a signature over another time",
      `Ed25519-Timestamp ${alice.did} ${time} ${over("2026-03-01T12:00:01.000Z")}`,
      401,
    ],
    ["another's signature in its name", authorization(bob, time, alice.did), 401],
    ["an agent that is not registered", authorization(carol, time), 401],
    ["another agent of the registry", authorization(bob, time), 403],
  ])("does not count with %s", async (_, header, status) => {
    const server = await world();
    await register(server, alice);
    await register(server, bob);
    const headers: Record<string, string> = header === undefined ? {} : { authorization: header };
    const writes: [string, string, unknown][] = [
      ["PUT", "/prekeys", prekeys(alice)],
      ["POST", "/heartbeat", undefined],
      ["GET", "/prekeys/count", undefined],
      ["DELETE", "", undefined],
    ];
    for (const [method, rest, body] of writes) {
      const reply = await request(server, method, agentPath(alice, rest), { headers, ...(body ? { body } : {}) });
      expect([method, rest, reply.status]).toEqual([method, rest, status]);
    }
    expect((await get(server, agentPath(alice))).status).toBe(200);
  });
});

describe("presence", () => {
  const presence = async (server: World) => (await get(server, agentPath(alice, "/presence"))).json;

  test("is being connected to the relay, and the last sign of life after it", async () => {
    const server = await world();
    await register(server, alice);
    expect(await presence(server)).toEqual({ did: alice.did, last_seen: server.clock.iso(), online: false });
    server.clock.pass(60_000);
    const client = await connect(server, alice);
    expect(await presence(server)).toEqual({ did: alice.did, last_seen: server.clock.iso(), online: true });
    server.clock.pass(60_000);
    client.send({ type: "heartbeat" });
    await client.read();
    expect((await presence(server)).last_seen).toBe(server.clock.iso());
    client.send({ type: "disconnect" });
    await client.ended;
    expect((await presence(server)).online).toBe(false);
  });

  test("is a heartbeat of the last 90 s, of which one in ten seconds is taken", async () => {
    const server = await world();
    await register(server, alice);
    const beat = async () => request(server, "POST", agentPath(alice, "/heartbeat"), { as: alice });
    server.clock.pass(1000);
    expect(await beat()).toMatchObject({ status: 200, json: { did: alice.did, last_seen: server.clock.iso() } });
    const { status, headers } = await beat();
    expect([status, headers.get("retry-after")]).toEqual([429, "10"]);
    server.clock.pass(10_000);
    expect((await beat()).status).toBe(200);
    server.clock.pass(90_000);
    expect((await presence(server)).online).toBe(true);
    server.clock.pass(1);
    expect((await presence(server)).online).toBe(false);
  });
});

describe("discover", () => {
  const dids = (json: Record<string, unknown>) => (json.results as { did: string }[]).map(({ did }) => did);

  test("finds exact capabilities: who is online first, then who was seen last", async () => {
    const server = await world();
    for (const who of [alice, bob, carol]) {
      await register(server, who, { capabilities: ["gpu", who === carol ? "name-of-carol" : "laptop"] });
      server.clock.pass(1000);
    }
    const client = await connect(server, alice);
    client.send({ type: "heartbeat" });
    await client.read();
    server.clock.pass(1000);
    await request(server, "POST", agentPath(bob, "/reputation"), { as: alice, body: { score: 1, reason: "quick" } });
    const found = await get(server, "/v1/discover?capability=gpu");
    expect(dids(found.json)).toEqual([alice.did, carol.did, bob.did]);
    expect(found.json.total).toBe(3);
    expect((found.json.results as unknown[])[2]).toEqual({
      did: bob.did,
      capabilities: ["gpu", "laptop"],
      metadata: {},
      reputation_score: 0.65,
      last_seen: server.clock.iso(-3000),
      online: false,
    });
    expect(dids((await get(server, "/v1/discover?capability=name-of-carol")).json)).toEqual([carol.did]);
    expect(dids((await get(server, "/v1/discover?capability=gp")).json)).toEqual([]);
    expect(dids((await get(server, "/v1/discover")).json)).toHaveLength(3);
    expect((await get(server, "/v1/discover?capability=gpu&limit=1")).json).toMatchObject({ total: 3 });
    expect(dids((await get(server, "/v1/discover?limit=1")).json)).toEqual([alice.did]);
  });

  test.each(["limit=0", "limit=201", "limit=x", "limit=1.5", "capability="])("refuses %s", async (query) => {
    const { status, json } = await get(await world(), `/v1/discover?${query}`);
    expect(status).toBe(400);
    expect(json.detail).toContain(query.split("=")[0]);
  });
});

describe("reputation", () => {
  test("comes from others who are registered", async () => {
    const server = await world();
    await register(server, alice);
    await register(server, bob);
    const rate = (by: typeof alice, score: unknown) =>
      request(server, "POST", agentPath(alice, "/reputation"), { as: by, body: { score } });
    expect((await rate(bob, 1)).json).toEqual({ did: alice.did, reputation_score: 0.65 });
    expect((await rate(alice, 1)).status).toBe(403);
    expect((await rate(carol, 1)).status).toBe(401);
    expect((await rate(bob, 1.1)).status).toBe(400);
    expect((await get(server, agentPath(alice))).json.reputation_score).toBe(0.65);
  });
});

describe("removing", () => {
  test("leaves nothing, and lets the agent register anew", async () => {
    const server = await world();
    await register(server, alice);
    await publish(server, alice, prekeys(alice));
    const remove = () => request(server, "DELETE", agentPath(alice), { as: alice });
    expect(await remove()).toMatchObject({ status: 204, json: {} });
    expect((await remove()).status).toBe(404);
    for (const rest of ["", "/prekeys", "/presence"])
      expect((await get(server, agentPath(alice, rest))).status).toBe(404);
    expect((await register(server, alice)).status).toBe(201);
    expect((await bundle(server)).status).toBe(404);
  });
});

test("the records outlive the server, and its rewriting of them", async () => {
  const server = await world();
  await register(server, alice, { capabilities: ["a"], metadata: { k: "v" } });
  await register(server, bob);
  await register(server, carol);
  await publish(server, alice, prekeys(alice));
  await bundle(server);
  await request(server, "POST", agentPath(alice, "/reputation"), { as: bob, body: { score: 0 } });
  await request(server, "DELETE", agentPath(carol), { as: carol });
  server.clock.pass(60_000);
  await (await connect(server, alice)).close();
  const look = async (at: World) => ({
    all: (await get(at, "/v1/discover")).json,
    alice: (await get(at, agentPath(alice))).json,
    count: (await request(at, "GET", agentPath(alice, "/prekeys/count"), { as: alice })).json,
    carol: (await get(at, agentPath(carol))).status,
  });
  const before = await look(server);
  await server.close();
  const reopened = await world({ directory: server.directory, clock: server.clock });
  expect(await look(reopened)).toEqual(before);
  expect((await publish(reopened, alice, prekeys(alice))).json).toMatchObject({ one_time_count: 2 });
  await reopened.close();
});
