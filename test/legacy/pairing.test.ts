/** A laptop is paired with a deployed cluster by its token. */
import { hash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { base64 } from "../../src/crypto/index.ts";
import { TOKEN_LENGTH_MAX } from "../../src/limits.ts";
import { PAIR_ANSWER_MIN_MS, PAIR_ASKS_MAX } from "../../src/machines/pairing/limits.ts";
import { MeshPairParameters } from "../../src/wire/tool.ts";
import { CalendarClock } from "../actors/systems.ts";
import { call, encodingsOf } from "../actors/world.ts";
import { type Build, Controller } from "../reference/controller.ts";
import { openServers } from "../reference/servers.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { Laptop, openDeployed, openPaired } from "./world.ts";

const secretOf = (token: string): string =>
  JSON.parse(Buffer.from(token.slice("azcp_1_".length), "base64url").toString()).secret;
const withBody = (body: unknown) => `azcp_1_${Buffer.from(JSON.stringify(body)).toString("base64url")}`;

describe("a token of a deployed cluster", () => {
  const builds: readonly Build[] = [
    { writes: "payload", tokens: "amid" },
    { writes: "payload and ciphertext", tokens: "amid" },
    { writes: "payload and ciphertext", tokens: "did" },
  ];
  it.each(builds)("pairs with a controller of this build: $writes, $tokens", async (build) => {
    const { controller, laptop } = await openDeployed(build);
    const paired = await call(laptop.node, "pair", { token: controller.issue({ slotsMax: 3 }), name: "studio" });
    expect(paired).toEqual({
      did: laptop.did,
      name: "studio",
      cluster: "prod-kars-1",
      grant: {
        name: "studio",
        slots: 3,
        capabilities: ["offload"],
        token_budget: 100_000,
        expires_at: expect.stringMatching(/^\d{4}-/),
      },
      relay_url: controller.servers.relayUrl,
      plaintext: true,
    });
    const [asked, ...more] = controller.heard.all;
    expect(more).toEqual([]);
    expect(asked).toMatchObject({ type: "pair_request", from: laptop.did, display_name: "studio" });
    const { publicKey } = laptop.node.core.keyring.identity;
    expect([...controller.pairings.values()]).toMatchObject([
      { phase: "Active", boundAmid: laptop.did, boundPubkeyEd25519: base64.encode(publicKey) },
    ]);
    expect(await call(laptop.node, "whoami", {})).toMatchObject({
      name: "studio",
      clusters: [{ cluster: "prod-kars-1", state: "paired", plaintext: true }],
    });
    expect((await call(laptop.node, "discover", { name: "studio" })).agents).toEqual([]);
    const { peers } = await call(laptop.node, "peers", {});
    expect(peers).toMatchObject([{ did: controller.identity.did, plaintext: true, state: "plain" }]);
  });

  it("that names its controller by the AMID alone has the second question go to either name", async () => {
    const clock = new CalendarClock(Date.now());
    const { controller, laptop, servers } = await openDeployed({}, { ...realPorts(realNetwork), clock });
    controller.answers = () => false;
    const pairing = laptop.pair(controller.issue());
    await controller.heard.first(({ type }) => type === "pair_request");
    controller.answers = () => true;
    clock.pass(PAIR_ANSWER_MIN_MS);
    expect(await pairing).toBe("paired");
    const asked = servers.relay.passed.all.filter(({ from }) => from === laptop.did).map(({ to }) => to);
    expect(asked).toEqual([controller.identity.did, controller.identity.did, controller.amid]);
  });

  it("has an error of its own for each refusal, and leaves nothing that lets anybody in", async () => {
    const { controller, laptop } = await openDeployed();
    const used = controller.issue({ phase: "Active" });
    const foreign = await new Controller(controller.servers).open();
    expect(await laptop.pair(used)).toBe("token_used");
    expect(await laptop.pair(controller.issue({ phase: "Expired" }))).toBe("token_expired");
    expect(await laptop.pair(controller.issue({ phase: "Revoked" }))).toBe("token_revoked");
    expect(await laptop.pair(controller.issue({}, { secret: "nobody-knows-this" }))).toBe("token_invalid");
    controller.breaks = true;
    const broken = controller.issue();
    await expect(call(laptop.node, "pair", { token: broken })).rejects.toMatchObject({
      code: "cluster_refused",
      message: expect.stringContaining("Internal error"),
    });
    expect((await call(laptop.node, "whoami", {})).clusters).toEqual([]);
    expect(laptop.node.core.link.value).toBe("down");
    expect((await call(laptop.node, "peers", {})).peers).toEqual([]);
    controller.breaks = false;
    // An internal error took nothing.
    expect(await laptop.pair(broken)).toBe("paired");
    expect(await laptop.pair(foreign.issue({ phase: "Expired" }))).toBe("token_expired");
    expect((await call(laptop.node, "whoami", {})).clusters).toMatchObject([{ controller: controller.identity.did }]);
    expect(laptop.node.core.link.context?.url).toBe(`${controller.servers.relayUrl}/ws`);
  });

  it("is refused before anything is asked when it is none, and it is said what is wrong with it", async () => {
    const { controller, laptop } = await openDeployed();
    const body = {
      controller_amid: controller.identity.did,
      relay_url: "wss://relay.example",
      registry_url: "https://registry.example",
      secret: "a-secret-that-is-long",
    };
    const wrong: readonly (readonly [token: string, why: string])[] = [
      ["azcp_1_", "cut off or was changed"],
      [withBody(body).slice(0, -9), "cut off or was changed"],
      [withBody("text"), "the body is not valid"],
      [withBody({ ...body, controller_amid: "did:mesh:1" }), "controller_amid is neither an AMID nor a DID"],
      [withBody({ ...body, relay_url: "https://relay.example" }), "relay_url is not a ws:// or wss:// address"],
      [withBody({ ...body, registry_url: undefined }), "registry_url is not an http:// or https:// address"],
      [withBody({ ...body, secret: "short" }), "secret is not at least 8 printable characters"],
    ];
    for (const [token, why] of wrong) {
      const error = await call(laptop.node, "pair", { token }).catch((refusal: unknown) => refusal);
      expect(error).toMatchObject({ code: "token_invalid", message: expect.stringContaining(why) });
      expect(String(error)).not.toContain(body.secret);
    }
    await expect(call(laptop.node, "pair", { token: "azcp_2_x" })).rejects.toMatchObject({ code: "token_mangled" });
    expect(controller.heard.all).toEqual([]);
  });

  it("may have 16,384 characters, and the white space that a mail puts between them, and no more", async () => {
    const { controller, laptop } = await openDeployed();
    const fits = (length: number) => controller.issue({}, { secret: "s".repeat(length) });
    // The longest secret with which the token still fits.
    let length = 12_000;
    while (fits(length + 1).length <= TOKEN_LENGTH_MAX) length++;
    const secret = "s".repeat(length);
    const token = controller.issue({}, { secret });
    const issued = [...controller.pairings.values()].at(-1);
    if (!issued) throw new Error("no pairing was issued");
    controller.pairings.set(hash("sha256", secret, "hex"), issued);
    const wrapped = (token.match(/.{1,76}/g) ?? []).join("\u00ad\r\n \u00a0\u200b");
    expect(token.length).toBeGreaterThan(TOKEN_LENGTH_MAX - 4);
    await expect(call(laptop.node, "pair", { token: fits(length + 1) })).rejects.toMatchObject({
      code: "token_invalid",
      message: expect.stringContaining(`at most ${TOKEN_LENGTH_MAX}`),
    });
    const long = `kars-pair-${"a".repeat(TOKEN_LENGTH_MAX)}`;
    await expect(call(laptop.node, "pair", { token: long })).rejects.toMatchObject({
      code: "token_mangled",
      message: expect.stringContaining(`at most ${TOKEN_LENGTH_MAX}`),
    });
    expect(MeshPairParameters.parse({ token: wrapped })).toEqual({ token: wrapped });
    expect(await laptop.pair(wrapped)).toBe("paired");
    expect(controller.heard.all).toMatchObject([{ type: "pair_request", secret }]);
  });

  it("with a registry that cannot be reached is not spent, and nothing is kept of it", async () => {
    const { controller, laptop, servers } = await openDeployed();
    const token = controller.issue();
    servers.registry.up = false;
    expect(await laptop.pair(token)).toBe("registry_unreachable");
    expect((await call(laptop.node, "whoami", {})).clusters).toEqual([]);
    servers.registry.up = true;
    expect(await laptop.pair(token)).toBe("paired");
  });
});

describe("a controller that does not answer", () => {
  it("is asked again after a while, across a restart; the same question has the same id", async () => {
    const clock = new CalendarClock(Date.now());
    const { controller, laptop, servers } = await openDeployed({}, { ...realPorts(realNetwork), clock });
    controller.answers = () => false;
    const pairing = laptop.pair(controller.issue());
    const first = await controller.heard.first(() => true);
    servers.relay.cut(laptop.did);
    await laptop.again();
    expect(await pairing).toBe("closed");
    await controller.heard.first(() => true, 1);
    expect(laptop.state(`pairing/${controller.identity.did}`)).toBe("asking");
    controller.answers = () => true;
    clock.pass(PAIR_ANSWER_MIN_MS);
    await laptop.until(() => laptop.state(`pairing/${controller.identity.did}`) === "paired");
    const ids = controller.heard.all.map(({ frame }) => frame);
    // The relay passes on all that it gets: each connection and each wait brings one question.
    expect(ids).toEqual([first.frame, first.frame, first.frame.replace(/1$/, "2")]);
  });

  it("keeps nobody waiting for ever, and is given up in the end", async () => {
    const clock = new CalendarClock(Date.now());
    const { controller, laptop } = await openDeployed({}, { ...realPorts(realNetwork), clock });
    controller.answers = () => false;
    const pairing = call(laptop.node, "pair", { token: controller.issue() });
    const refused = expect(pairing).rejects.toMatchObject({
      code: "cluster_unreachable",
      message: expect.stringContaining("goes on being asked"),
    });
    const stream = `pairing/${controller.identity.did}`;
    await controller.heard.first(() => true);
    for (let asks = 1; laptop.state(stream) === "asking"; asks++) {
      expect(asks).toBeLessThanOrEqual(PAIR_ASKS_MAX + 1);
      await laptop.until(() => asksOf(laptop, stream) === asks);
      clock.pass(3_600_000);
      await laptop.until(() => laptop.state(stream) !== "asking" || asksOf(laptop, stream) > asks);
      if (asks === PAIR_ASKS_MAX) await laptop.until(() => laptop.state(stream) !== "asking");
    }
    await refused;
    expect(laptop.state(stream)).toBe("unpaired");
    expect(laptop.node.core.keyring.token(controller.identity.did)).toBeUndefined();
  });

  it("whose answer was lost says that the token is used, and it is told by whom that may have been", async () => {
    const clock = new CalendarClock(Date.now());
    const { controller, laptop, servers } = await openDeployed({}, { ...realPorts(realNetwork), clock });
    let lost = 0;
    servers.relay.loses = ({ to, payload }) => to === laptop.did && payload !== undefined && lost++ === 0;
    const pairing = call(laptop.node, "pair", { token: controller.issue() });
    const refused = expect(pairing).rejects.toMatchObject({
      code: "token_used",
      message: expect.stringContaining("it is this laptop that used the token"),
    });
    await servers.relay.passed.first(({ to, payload }) => to === laptop.did && payload !== undefined);
    clock.pass(PAIR_ANSWER_MIN_MS);
    await refused;
  });

  it("is found when it comes back: what waited for it at the relay is answered", async () => {
    const { controller, laptop, servers } = await openDeployed();
    await controller.close();
    const pairing = laptop.pair(controller.issue());
    await servers.relay.passed.first(({ to, payload }) => to === controller.identity.did && payload !== undefined);
    await controller.open();
    expect(await pairing).toBe("paired");
  });
});

const asksOf = (laptop: Laptop, stream: string): number =>
  laptop.node.core.system.state(stream)?.snapshot.context.asking?.asks ?? 0;

describe("a laptop that dies while it is being paired", () => {
  it.each(["/v1/agents", "/prekeys"])("goes on with %s when it is started again", async (path) => {
    const reached = Promise.withResolvers<void>();
    let holds = true;
    const ports = realPorts({
      ...realNetwork,
      fetch: async (url, init) => {
        if (!holds || !url.endsWith(path)) return realNetwork.fetch(url, init);
        reached.resolve();
        return new Promise((_, reject) => {
          init?.signal?.addEventListener("abort", () => reject(new DOMException("ended", "AbortError")));
        });
      },
    });
    const { controller, laptop } = await openDeployed({}, ports);
    const pairing = laptop.pair(controller.issue());
    await reached.promise;
    holds = false;
    await laptop.again();
    expect(await pairing).toBe("closed");
    await laptop.until(() => laptop.state(`pairing/${controller.identity.did}`) === "paired");
    expect(controller.heard.all).toMatchObject([{ type: "pair_request" }]);
  });
});

describe("the secret of a token", () => {
  it("is nowhere in the home when the laptop is paired, nor in what it says", async () => {
    const { controller, laptop } = await openDeployed();
    const token = controller.issue();
    expect(await laptop.pair(token)).toBe("paired");
    await laptop.again();
    const { actors } = await call(laptop.node, "actors", {});
    await laptop.node.close();
    const files = readdirSync(laptop.home, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => readFileSync(join(parentPath, name)));
    const said = Buffer.from(JSON.stringify([actors, laptop.notes]));
    for (const form of encodingsOf(secretOf(token)))
      for (const bytes of [...files, said]) expect(bytes.includes(form)).toBe(false);
  });
});

describe("one cluster at a time", () => {
  it("another one takes the place of the first, whose controller is not listened to any more", async () => {
    const { controller: first, laptop, servers } = await openPaired();
    const second = await new Controller(first.servers).open();
    expect(await laptop.pair(second.issue())).toBe("paired");
    const { peers } = await call(laptop.node, "peers", {});
    expect(peers.map(({ did, plaintext }) => [did, plaintext])).toEqual([
      [first.identity.did, false],
      [second.identity.did, true],
    ]);
    const { malformed } = laptop.node.core.link;
    const id = first.say(laptop.did, { type: "offload_error", request_id: "r", error: "no" });
    await servers.relay.acked.first((ack) => ack.id === id);
    expect(laptop.node.core.link.malformed).toBe(malformed + 1);
    // And back again.
    expect(await laptop.pair(first.issue())).toBe("paired");
    expect(laptop.node.membership.current?.controller).toBe(first.identity.did);
  });

  it("one of this project takes its place, and then it the other's", async () => {
    const { controller, laptop } = await openPaired();
    const cluster = await openCluster({ directory: join(await temporaryDirectory(), "cluster"), port: 0 });
    try {
      const { token } = await cluster.call("grant_issue", { name: "laptop", expires_ms: 60_000 });
      expect(await laptop.pair(token)).toBe("paired");
      const plaintext = (await call(laptop.node, "peers", {})).peers.filter((peer) => peer.plaintext);
      expect(plaintext).toEqual([]);
      expect(await laptop.pair(controller.issue())).toBe("paired");
      expect(laptop.node.membership.current?.plain).toBe(controller.identity.did);
    } finally {
      await laptop.node.close();
      await cluster.close();
    }
  });

  it("one that does not answer is asked no more when another is paired with, whose relay never sees its secret", async () => {
    const clock = new CalendarClock(Date.now());
    const { controller: silent, laptop } = await openDeployed({}, { ...realPorts(realNetwork), clock });
    const other = await openServers();
    const controller = await new Controller(other).open();
    silent.answers = () => false;
    const token = silent.issue();
    const asking = laptop.pair(token);
    await silent.heard.first(() => true);
    expect(await laptop.pair(controller.issue())).toBe("paired");
    expect(await asking).toBe("aborted");
    expect(laptop.node.membership.current?.controller).toBe(controller.identity.did);
    expect(laptop.node.core.keyring.token(silent.identity.did)).toBeUndefined();
    // Long enough to ask again, and not so long that the relay refuses what this clock signs.
    clock.pass(2 * PAIR_ANSWER_MIN_MS);
    await laptop.again();
    await laptop.until(() => laptop.node.core.link.online);
    await laptop.node.core.lanes.idle();
    expect(laptop.node.membership.current?.controller).toBe(controller.identity.did);
    const seen = other.relay.passed.all.map(({ payload = "" }) => Buffer.from(String(payload), "base64").toString());
    expect(seen.some((words) => words.includes("pair_request"))).toBe(true);
    expect(seen.some((words) => words.includes(secretOf(token)))).toBe(false);
  });

  it("a token that would have a sealed controller speak plaintext is refused", async () => {
    const cluster = await openCluster({ directory: join(await temporaryDirectory(), "cluster"), port: 0 });
    const laptop = await Laptop.open();
    try {
      const { token } = await cluster.call("grant_issue", { name: "laptop", expires_ms: 60_000 });
      expect(await laptop.pair(token)).toBe("paired");
      const { relay_url, registry_url } = cluster.urls;
      const controller_amid = laptop.node.membership.current?.controller;
      const downgrade = withBody({ controller_amid, relay_url, registry_url, secret: "a-secret-that-is-long" });
      expect(await laptop.pair(downgrade)).toBe("token_invalid");
    } finally {
      await laptop.node.close();
      await cluster.close();
    }
  });
});
