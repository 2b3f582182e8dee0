/** Old clients register and connect without proving anything. They are let in only where that was asked for, and bounded there. */
import { describe, expect, test } from "vitest";
import { base64, base64url } from "../../src/crypto/index.ts";
import {
  agent,
  agentPath,
  connect,
  connectFrame,
  type Frame,
  message,
  openSocket,
  prekeys,
  publish,
  register,
  request,
  temporaryDirectory,
  type World,
  world,
} from "./world.ts";

const alice = agent("alice");
const bob = agent("bob");
const mallory = agent("mallory");

const bare = (identity = alice): Frame => ({ type: "connect", from: identity.did });
/** A registration as the old clients send it. */
const claim = (server: World, identity = alice, key = identity.dhPublic) =>
  request(server, "POST", "/v1/agents", {
    body: { did: identity.did, public_key: base64url.encode(key), capabilities: ["old"], metadata: {} },
  });
const publishBare = (server: World, body: unknown, identity = alice) =>
  request(server, "PUT", agentPath(identity, "/prekeys"), { body });
const record = (server: World, identity = alice) => request(server, "GET", agentPath(identity));
const bundle = (server: World, identity = alice) => request(server, "GET", agentPath(identity, "/prekeys"));

/** A socket that connects without a proof and is let in. */
async function connectBare(server: World, identity = alice) {
  const client = await openSocket(server);
  client.send(bare(identity));
  await client.read();
  expect(server.relay.connections()).toContain(identity.did);
  return client;
}

/** The close code that a first frame earns. */
async function refused(server: World, frame: Frame): Promise<number> {
  const client = await openSocket(server);
  client.send(frame);
  return client.ended;
}

describe("a cluster as it is by default", () => {
  test("refuses the old registration", async () => {
    const server = await world();
    expect((await claim(server)).status).toBe(400);
    expect((await record(server)).status).toBe(404);
  });

  test("refuses a connect without a proof", async () => {
    const server = await world();
    expect(await refused(server, bare())).toBe(4005);
  });

  test("takes no prekeys without a signed request", async () => {
    const server = await world();
    await register(server, alice);
    expect((await publishBare(server, prekeys(alice))).status).toBe(401);
  });

  test("does not know those that an open cluster let in before", async () => {
    const directory = await temporaryDirectory();
    const open = await world({ directory, allowUnproven: true });
    await claim(open);
    await publishBare(open, prekeys(alice));
    await open.close();
    const strict = await world({ directory });
    expect((await record(strict)).status).toBe(404);
    expect((await bundle(strict)).status).toBe(404);
    expect((await publishBare(strict, prekeys(alice))).status).toBe(404);
    expect((await request(strict, "GET", "/v1/discover")).json).toMatchObject({ results: [] });
    expect(await refused(strict, bare())).toBe(4005);
  });
});

describe("a cluster that allows it", () => {
  test("lets an old client register, publish, connect, send, receive and ack", async () => {
    const server = await world({ allowUnproven: true });
    const client = await connectBare(server);
    expect(await claim(server)).toMatchObject({ status: 201, json: { did: alice.did } });
    expect((await claim(server)).status).toBe(409);
    expect((await publishBare(server, prekeys(alice))).status).toBe(200);
    expect((await record(server)).json).toMatchObject({
      public_key: base64url.encode(alice.dhPublic),
      capabilities: ["old"],
    });
    expect((await bundle(server)).json).toMatchObject({ identity_key_ed: base64url.encode(alice.publicKey) });
    const other = await connect(server, bob);
    client.send({ ...message(bob, "there"), from: alice.did });
    expect(await other.next()).toMatchObject({ id: "there", from: alice.did });
    other.send(message(alice, "back"));
    expect(await client.next()).toMatchObject({ id: "back" });
    client.send({ type: "ack", id: "back" });
    await client.close();
    expect(await (await connectBare(server)).received()).toEqual([]);
  });

  test("is as strict as ever with a proof that is half or false", async () => {
    const server = await world({ allowUnproven: true });
    const good = connectFrame(alice, server.clock.iso());
    expect(await refused(server, { ...good, signature: undefined })).toBe(4005);
    expect(await refused(server, { ...bare(), public_key: base64.encode(alice.publicKey) })).toBe(4005);
    expect(await refused(server, { ...good, signature: connectFrame(mallory, server.clock.iso()).signature })).toBe(
      4005,
    );
    expect((await register(server, alice, { proof: "A".repeat(86) })).status).toBe(401);
  });

  test("asks for the token all the same", async () => {
    const server = await world({ allowUnproven: true, token: "secret" });
    expect(await refused(server, bare())).toBe(4003);
  });

  test("takes prekeys only when the key behind the DID signed them", async () => {
    const server = await world({ allowUnproven: true });
    await claim(server, alice, mallory.dhPublic);
    expect((await publishBare(server, prekeys(mallory))).status).toBe(400);
    expect((await bundle(server)).status).toBe(404);
    expect((await publishBare(server, prekeys(alice))).status).toBe(200);
    expect((await record(server)).json.public_key).toBe(base64url.encode(alice.dhPublic));
  });

  test("lets an agent that proved nothing sign for itself once its key is known", async () => {
    const server = await world({ allowUnproven: true });
    await claim(server);
    const remove = (as = alice) => request(server, "DELETE", agentPath(alice), { as });
    expect((await remove()).status).toBe(401);
    await publishBare(server, prekeys(alice));
    expect((await remove(mallory)).status).toBe(401);
    expect((await remove()).status).toBe(204);
  });
});

describe("a DID that was registered with a proof", () => {
  async function proven() {
    const server = await world({ allowUnproven: true });
    await register(server, alice, { capabilities: ["laptop"] });
    await publish(server, alice, prekeys(alice));
    return server;
  }

  test("cannot be registered by another, nor its prekeys be replaced", async () => {
    const server = await proven();
    const before = await record(server);
    expect((await claim(server, alice, mallory.dhPublic)).status).toBe(409);
    expect((await publishBare(server, prekeys(alice, { seed: "stolen" }))).status).toBe(401);
    expect((await record(server)).json).toEqual(before.json);
  });

  test("cannot be connected as without a proof, whether its holder is there or not", async () => {
    const server = await proven();
    expect(await refused(server, bare())).toBe(4005);
    const holder = await connect(server, alice);
    expect(await refused(server, bare())).toBe(4005);
    await holder.read();
    expect(server.relay.connections()).toEqual([alice.did]);
  });

  test("is taken back from whoever had it without one: record, prekeys and connection", async () => {
    const server = await world({ allowUnproven: true });
    await claim(server);
    await publishBare(server, prekeys(alice));
    const intruder = await connectBare(server);
    expect((await register(server, alice, { capabilities: ["laptop"] })).status).toBe(201);
    expect(await intruder.ended).toBe(4005);
    expect((await record(server)).json).toMatchObject({
      public_key: base64url.encode(alice.publicKey),
      capabilities: ["laptop"],
    });
    expect((await bundle(server)).status).toBe(404);
    expect(await refused(server, bare())).toBe(4005);
  });

  test("one who connected with a proof is not replaced by one without, though nobody registered", async () => {
    const server = await world({ allowUnproven: true });
    const holder = await connect(server, alice);
    expect(await refused(server, bare())).toBe(4005);
    await holder.close();
    const other = await connectBare(server);
    await connect(server, alice);
    expect(await other.ended).toBe(4006);
  });

  test("stays so when the cluster is opened again", async () => {
    const directory = await temporaryDirectory();
    const first = await world({ directory, allowUnproven: true });
    await claim(first, bob);
    await register(first, alice);
    await first.close();
    const second = await world({ directory, allowUnproven: true });
    expect(await refused(second, bare(alice))).toBe(4005);
    await connectBare(second, bob);
  });
});
