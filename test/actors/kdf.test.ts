/** Peers of the old generation derive the shared key in another way, and do not say so. */
import { randomBytes, randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { Registry } from "../../src/actors/registry.ts";
import {
  base64,
  base64url,
  decrypt,
  encrypt,
  generateSignedPreKey,
  type Identity,
  identityFromSeed,
  initiate,
  initiatorRatchet,
  type RatchetState,
  respond,
  responderRatchet,
  type SignedPreKey,
  utf8,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { Knock, Message } from "../../src/wire/frame.ts";
import { type Client, connectFrame, openSocket } from "../cluster/world.ts";
import { call, openWorld, type World } from "./world.ts";

const random = (length: number) => new Uint8Array(randomBytes(length));

/** A client of that generation, made of our own parts. */
class OldClient {
  readonly identity: Identity = identityFromSeed(random(32));
  readonly #signed: SignedPreKey = generateSignedPreKey(this.identity, 0, random);
  readonly #client: Client;
  readonly #registry: Registry;
  #state: RatchetState | undefined;
  #associatedData = new Uint8Array();

  private constructor(client: Client, registry: Registry) {
    this.#client = client;
    this.#registry = registry;
  }

  /** @param proves whether it registers and connects as clients of today do, so that nothing shows how old it is */
  static async open({ server }: World, node: MeshNode, proves: boolean): Promise<OldClient> {
    const { clock, network } = node.core.ports;
    const registry = new Registry({ clock, network, signal: node.signal }, server.url);
    const client = new OldClient(await openSocket(server), registry);
    const { identity } = client;
    if (proves) await registry.register(identity, [], {});
    else {
      const body = { did: identity.did, public_key: base64url.encode(identity.dhPublic) };
      const response = await fetch(`${server.url}/v1/agents`, { method: "POST", body: JSON.stringify(body) });
      expect(response.status).toBe(201);
    }
    await registry.publishPreKeys(identity, client.#signed, []);
    const connect = connectFrame(identity, new Date().toISOString());
    client.#client.send(proves ? connect : { type: "connect", from: identity.did });
    await client.#client.read();
    return client;
  }

  /** The next frame of a type; those before it are of no use to it. */
  async next(type: string) {
    for (;;) {
      const frame = await this.#client.next();
      if (frame.type === type) return frame;
    }
  }

  send(to: string, frame: object): string {
    const id = randomUUID();
    this.#client.send({ id, to, from: this.identity.did, ...frame });
    return id;
  }

  /** Opens a session: the id of its knock. */
  async knock(to: string): Promise<string> {
    const bundle = await this.#registry.bundle(to);
    const ephemeral = x25519KeyPair(random(32));
    const { sharedKey, associatedData } = initiate({ identity: this.identity, bundle, ephemeral, kdf: "npm4" });
    this.#state = initiatorRatchet({ sharedKey, peerSignedPreKey: bundle.signedPreKey.publicKey, random });
    this.#associatedData = new Uint8Array(associatedData);
    const otk = bundle.oneTimePreKey?.keyId;
    const keys = { ik: base64.encode(this.identity.dhPublic), ek: base64.encode(ephemeral.public) };
    return this.send(to, { type: "knock", establishment: { ...keys, ...(otk === undefined ? {} : { otk }) } });
  }

  /** Takes a knock, as the responder. */
  accept(frame: unknown): void {
    const { from, establishment } = Knock.parse(frame);
    const { sharedKey, associatedData } = respond({
      identity: this.identity,
      signedPreKey: this.#signed,
      initiatorDid: from,
      initiatorIdentityKey: base64.decode(establishment.ik),
      ephemeralKey: base64.decode(establishment.ek),
      kdf: "npm4",
    });
    this.#state = responderRatchet({ sharedKey, signedPreKeyPair: this.#signed.keyPair });
    this.#associatedData = new Uint8Array(associatedData);
  }

  #session(): RatchetState {
    if (!this.#state) throw new Error("no session");
    return this.#state;
  }

  say(to: string, content: string): void {
    const plaintext = utf8.encode(JSON.stringify({ type: "message", content }));
    const sealed = encrypt(this.#session(), { associatedData: this.#associatedData, plaintext, random });
    this.#state = sealed.state;
    const header = { ...sealed.header, dh: base64.encode(sealed.header.dh) };
    this.send(to, { type: "message", header, ciphertext: base64.encode(sealed.ciphertext) });
  }

  read(frame: unknown): string {
    const { header, ciphertext } = Message.parse(frame);
    const result = decrypt(this.#session(), new Map(), {
      associatedData: this.#associatedData,
      header: { ...header, dh: base64.decode(header.dh) },
      ciphertext: base64.decode(String(ciphertext)),
      random,
    });
    this.#state = result.state;
    return JSON.parse(utf8.decode(result.plaintext)).content;
  }
}

const sessionsOf = (node: MeshNode): SessionContext[] =>
  [...node.core.system.streams("session")].map(([, state]): SessionContext => state.snapshot.context);
const patience = (node: MeshNode) => ({ timeoutMs: 20_000, signal: node.signal, concerns: () => true });
const next = async (node: MeshNode, from: string) => (await call(node, "await", { from: [from] })).messages[0]?.body;

it("a knock leaves it open, the first message that authenticates settles it, over restarts and forgeries", async () => {
  const world = await openWorld({ allowUnproven: true });
  const first = await world.open("alice");
  const { did } = first.core.keyring.identity;
  const old = await OldClient.open(world, first, false);
  const from = old.identity.did;
  const session = await old.knock(did);
  await old.next("knock_accept");
  expect(sessionsOf(first)).toMatchObject([{ id: session, role: "responder", kdf: null }]);
  await first.close();

  const node = await world.open("alice");
  const header = { dh: base64.encode(x25519KeyPair(random(32)).public), pn: 0, n: 0 };
  old.send(did, { type: "message", header, ciphertext: base64.encode(random(60)) });
  old.say(did, "hello");
  expect(await next(node, from)).toBe("hello");
  expect(node.incoming.countersOf(from)).toMatchObject({ unreadable: 1 });
  expect(sessionsOf(node)).toMatchObject([{ id: session, kdf: "npm4", decrypted: 1 }]);
  await call(node, "send", { to: from, message: "hello yourself" });
  expect(old.read(await old.next("message"))).toBe("hello yourself");
  await node.close();

  const again = await world.open("alice");
  old.say(did, "still there?");
  expect(await next(again, from)).toBe("still there?");
});

it("as the initiator we go by how the peer registered", async () => {
  const world = await openWorld({ allowUnproven: true });
  const node = await world.open("alice");
  const old = await OldClient.open(world, node, false);
  await call(node, "send", { to: old.identity.did, message: "hello" });
  old.accept(await old.next("knock"));
  expect(old.read(await old.next("message"))).toBe("hello");
  expect(sessionsOf(node)).toMatchObject([{ role: "initiator", kdf: "npm4" }]);
});

it("what a peer has spoken ends the sessions in which it understood nothing, and is remembered", async () => {
  const world = await openWorld();
  const node = await world.open("alice");
  const { did } = node.core.keyring.identity;
  const old = await OldClient.open(world, node, true);
  const to = old.identity.did;
  await call(node, "send", { to, message: "in the wrong tongue" });
  const ours = await old.next("knock");
  await old.next("message");
  old.send(did, { type: "knock_accept", knock_id: ours.id });
  const session = await old.knock(did);
  old.say(did, "hello");
  expect(await next(node, to)).toBe("hello");
  expect(sessionsOf(node)).toMatchObject([
    { role: "initiator", kdf: "current", closed: expect.any(String) },
    { id: session, role: "responder", kdf: "npm4", closed: null },
  ]);
  const { id } = await call(node, "send", { to, message: "now you read me" });
  // What it could not read is said again.
  expect(old.read(await old.next("message"))).toBe("in the wrong tongue");
  expect(old.read(await old.next("message"))).toBe("now you read me");

  await call(node, "sent", { to, id, wait_ms: 20_000 });
  const lost = { type: "SESSION_LOST", session, code: "peer_refused" };
  await node.core.system.commit([{ stream: `conversation/${to}`, event: lost }]).durable;
  await call(node, "send", { to, message: "from the beginning" });
  old.accept(await old.next("knock"));
  expect(old.read(await old.next("message"))).toBe("from the beginning");
  expect(await until(node, () => sessionsOf(node).length === 3, patience(node))).toBe(true);
});
