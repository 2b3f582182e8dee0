/** What others, and the relay, may try with a plaintext controller about: what is refused, and what cannot be. */
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { amidOf, identityFromSeed } from "../../src/crypto/index.ts";
import { OFFLOAD_HELLO_MS } from "../../src/limits.ts";
import { PROBE_EVERY_MS } from "../../src/machines/offload/limits.ts";
import { CalendarClock } from "../actors/systems.ts";
import { call, openWorld } from "../actors/world.ts";
import { bent, dealtWith, didOf } from "../attacks/world.ts";
import { Controller } from "../reference/controller.ts";
import { Agent, done, fileTransfer } from "./agents.ts";
import { type Deployed, openDeployed, openPaired } from "./world.ts";

const stranger = identityFromSeed(new Uint8Array(32).fill(9));

/** What a plaintext frame is made of; who sent it is for the relay to say. */
const plainFrame = (from: string, to: string, words: unknown, more: object = {}) => ({
  type: "message",
  to,
  from,
  id: randomUUID(),
  payload: base64Of(words),
  ciphertext: base64Of(words),
  plaintext: true,
  ...more,
});

const base64Of = (words: unknown) => Buffer.from(JSON.stringify(words)).toString("base64");
/** The fields that the older build does not write. */
const PAYLOAD_ALONE = { ciphertext: undefined, plaintext: undefined };

/** The relay gives a frame, and the laptop has dealt with it. */
async function comes({ servers }: Deployed, frame: ReturnType<typeof plainFrame>): Promise<void> {
  servers.relay.deliver(frame);
  await servers.relay.acked.first(({ id }) => id === frame.id);
}

const granted = { type: "pair_response", success: true, cluster_name: "evil", slots: 9, capabilities_granted: [] };

describe("plaintext of somebody who is not the controller", () => {
  it("is refused, counted, acked and told of, whatever it says, and moves nothing", async () => {
    const world = await openPaired();
    const { controller, laptop } = world;
    const id = await laptop.offload("mine");
    await controller.heard.first(({ type }) => type === "offload_request");
    await laptop.until(() => laptop.node.core.system.state(`offload/${id}`)?.snapshot.context.stage === "scheduled");
    await dealtWith(laptop.node);
    const { head } = laptop.node.journal;
    const said = [
      granted,
      { type: "offload_status", request_id: id, phase: "ready", sandbox_name: "evil" },
      { type: "offload_error", request_id: id, error: "expired" },
      { type: "message", content: "trust me" },
    ];
    for (const from of [stranger.did, amidOf(stranger.publicKey)])
      for (const words of said) {
        await comes(world, plainFrame(from, laptop.did, words));
        await comes(world, plainFrame(from, laptop.did, words, PAYLOAD_ALONE));
      }
    expect(laptop.node.core.link.malformed).toBe(16);
    expect(laptop.notes.filter((line) => line.includes("plaintext"))).toHaveLength(2);
    expect(laptop.node.journal.head).toBe(head);
    expect((await call(laptop.node, "inbox", { all: true })).messages).toEqual([]);
    expect(await laptop.view(id)).toMatchObject({ sandbox: null, error: null });
  });

  it("does not pair a laptop that is asking somebody else", async () => {
    const world = await openDeployed();
    const { controller, laptop } = world;
    controller.answers = () => false;
    const pairing = laptop.pair(controller.issue());
    await controller.heard.first(() => true);
    await comes(world, plainFrame(stranger.did, laptop.did, granted));
    expect(laptop.node.core.link.malformed).toBe(1);
    expect(laptop.state(`pairing/${controller.identity.did}`)).toBe("asking");
    controller.answers = () => true;
    controller.say(laptop.did, { ...granted, cluster_name: "good" });
    expect(await pairing).toBe("paired");
    expect(laptop.node.membership.current?.cluster).toBe("good");
  });
});

describe("the plaintext controller itself", () => {
  it("has only a controller's words taken from it: no chat, file, task, or word that means two things", async () => {
    const world = await openPaired();
    const { controller, laptop } = world;
    const id = await laptop.offload("mine");
    await controller.heard.first(({ type }) => type === "offload_request");
    const from = controller.identity.did;
    const status = { type: "offload_status", request_id: id, phase: "ready", sandbox_name: "box" };
    const other = { ...status, sandbox_name: "another-box" };
    const refused: readonly (readonly [unknown, object?])[] = [
      [{ type: "message", content: "do as I say" }],
      ["do as I say"],
      [{ type: "task_request", content: "do" }],
      [fileTransfer("evil.sh", Buffer.from("rm"))],
      [{ type: "offload_done", request_id: id, summary: "done" }],
      [{ type: "offload_hello", request_id: id }],
      [{ ...status, phase: "done" }],
      [{ ...status, request_id: "x".repeat(1_000) }],
      [status, { payload: base64Of(other) }],
      [status, { payload: undefined, ciphertext: undefined }],
      [status, { payload: undefined, ciphertext: "bm90IGpzb24=" }],
      [status, { ...PAYLOAD_ALONE, payload: "bm90IGpzb24=" }],
      // Nobody asked any more.
      [granted],
      [{ type: "pair_response", success: false, error: "revoked" }],
    ];
    for (const [words, more] of refused) await comes(world, plainFrame(from, laptop.did, words, more));
    expect(await laptop.refused(from)).toBe(refused.length);
    expect((await call(laptop.node, "inbox", { all: true })).messages).toEqual([]);
    expect(await laptop.view(id)).toMatchObject({ sandbox: null, files: [] });
    expect(laptop.node.membership.current).toMatchObject({ cluster: "prod-kars-1", grant: { slots: 2 } });
    await comes(world, plainFrame(from, laptop.did, status, PAYLOAD_ALONE));
    await laptop.node.core.lanes.idle();
    expect((await laptop.view(id)).sandbox).toBe("box");
  });

  it("under its other name is the same controller, and the same word twice is one", async () => {
    const world = await openPaired();
    const { controller, laptop } = world;
    const id = await laptop.offload("mine");
    await controller.heard.first(({ type }) => type === "offload_request");
    const amid = amidOf(controller.identity.publicKey);
    const frame = plainFrame(amid, laptop.did, { type: "offload_error", request_id: id, error: "no free slots (2/2)" });
    await comes(world, frame);
    world.servers.relay.deliver(frame);
    await laptop.until(() => laptop.state(`offload/${id}`) !== undefined);
    await comes(world, plainFrame(amid, laptop.did, { type: "offload_status", request_id: "other", phase: "ready" }));
    await laptop.node.core.lanes.idle();
    const { peers } = await call(laptop.node, "peers", {});
    expect(peers).toMatchObject([{ did: controller.identity.did, duplicates: 1 }]);
    expect(laptop.node.core.system.state(`offload/${id}`)?.snapshot.context.refusals).toBe(1);
  });

  it("is not believed what only a sealed one may say: which DID the sandbox has", async () => {
    const world = await openPaired();
    const { controller, laptop } = world;
    const id = await laptop.offload("mine");
    await controller.heard.first(({ type }) => type === "offload_request");
    const words = {
      type: "offload_status",
      request_id: id,
      phase: "ready",
      sandbox_name: "box",
      sandbox_did: stranger.did,
    };
    await comes(world, plainFrame(controller.identity.did, laptop.did, words));
    await laptop.until(
      () => laptop.node.core.system.state(`offload/${id}`)?.snapshot.matches({ active: "expecting" }) === true,
    );
    expect(laptop.node.core.system.state(`offload/${id}`)?.snapshot.context.sandbox).toEqual({
      name: "box",
      did: null,
    });
  });

  it("that answers in a wrong shape, or for another controller, is asked on", async () => {
    const world = await openDeployed();
    const { controller, laptop } = world;
    controller.answers = () => false;
    const pairing = laptop.pair(controller.issue());
    await controller.heard.first(() => true);
    const from = controller.identity.did;
    const wrong = [
      { ...granted, slots: -1 },
      { ...granted, slots: "many" },
      { ...granted, success: "yes" },
      { ...granted, capabilities_granted: "all" },
      { ...granted, controller_amid: amidOf(stranger.publicKey) },
      { ...granted, controller_amid: stranger.did },
      { type: "pair_response" },
    ];
    for (const words of wrong) await comes(world, plainFrame(from, laptop.did, words));
    expect(laptop.state(`pairing/${from}`)).toBe("asking");
    controller.say(laptop.did, granted);
    expect(await pairing).toBe("paired");
  });

  it("may not be written to before it has answered", async () => {
    const { controller, laptop } = await openDeployed();
    controller.answers = () => false;
    const pairing = laptop.pair(controller.issue());
    await controller.heard.first(() => true);
    await expect(laptop.offload("too early")).rejects.toMatchObject({ code: "not_paired" });
    await laptop.node.close();
    expect(await pairing).toBe("closed");
  });

  it("that was heard sealed is never again listened to in plaintext", async () => {
    const world = await openPaired();
    const { controller, laptop, servers } = world;
    await controller.close();
    const sealed = await Agent.open(servers, "controller", { seed: controller.identity.seed });
    expect(sealed.did).toBe(controller.identity.did);
    await sealed.say(laptop.did, "I speak sealed now");
    await laptop.until(() => laptop.node.core.messages.hasUnread(sealed.did));
    expect((await call(laptop.node, "peers", {})).peers).toMatchObject([{ did: sealed.did, plaintext: false }]);
    await comes(world, plainFrame(sealed.did, laptop.did, { type: "offload_status", request_id: "r", phase: "ready" }));
    expect(laptop.node.core.link.malformed).toBe(1);
    expect(await laptop.pair(controller.issue())).toBe("token_invalid");
  });
});

describe("a relay that says what it likes", () => {
  it("puts no plaintext into a pairing that is sealed", async () => {
    const tap = bent();
    const world = await openWorld();
    const laptop = await world.open("laptop", tap.ports);
    const controller = laptop.membership.current?.controller ?? "";
    const before = laptop.journal.head;
    for (const from of [controller, stranger.did])
      tap.says(plainFrame(from, didOf(laptop), { type: "offload_error", request_id: "r", error: "no" }));
    await laptop.core.lanes.idle();
    expect(laptop.core.link.malformed).toBe(2);
    expect(laptop.journal.head).toBe(before);
  });
});

describe("an agent that would like to be taken for the sandbox", () => {
  const standing = () => {
    const clock = new CalendarClock(Date.now());
    return { clock, ports: { ...realPorts(realNetwork), clock } };
  };

  it("and only knows its name gets nowhere: it cannot say hello for the offload", async () => {
    const world = await openPaired();
    const { controller, laptop, servers } = world;
    const id = await laptop.offload("mine");
    await controller.heard.first(({ type }) => type === "offload_request");
    controller.ready(laptop.did, id, "box");
    const squatter = await Agent.open(servers, "box");
    const sandbox = await Agent.open(servers, "box");
    await squatter.say(laptop.did, squatter.hello(randomUUID()), done(id), { type: "mesh:pong", nonce: id }, "heard?");
    await laptop.until(() => laptop.node.core.messages.hasUnread(squatter.did));
    await sandbox.say(laptop.did, sandbox.hello(id), done(id));
    expect(await laptop.ended(id)).toMatchObject({ status: "done" });
    expect(laptop.node.core.system.state(`offload/${id}`)?.snapshot.context.sandbox.did).toBe(sandbox.did);
  });

  it("and knows the offload's id, but does not carry the name, is refused; the relay alone could know that", async () => {
    const world = await openPaired();
    const { controller, laptop, servers } = world;
    const id = await laptop.offload("mine");
    await controller.heard.first(({ type }) => type === "offload_request");
    controller.ready(laptop.did, id, "box");
    const other = await Agent.open(servers, "another-name");
    await other.say(laptop.did, other.hello(id), "heard?");
    await laptop.until(() => laptop.node.core.messages.hasUnread(other.did));
    await laptop.node.core.lanes.idle();
    expect(laptop.notes.some((line) => line.includes("does not carry the sandbox's name"))).toBe(true);
    const sandbox = await Agent.open(servers, "box");
    await sandbox.say(laptop.did, sandbox.hello(id), done(id));
    expect(await laptop.ended(id)).toMatchObject({ status: "done" });
  });

  it("is not let in by the name alone where only the person lets agents in; the sandbox is, by its hello", async () => {
    const world = await openPaired();
    const { controller, laptop, servers } = world;
    await call(laptop.node, "knock_policy", { policy: "nobody" });
    const id = await laptop.offload("mine");
    await controller.heard.first(({ type }) => type === "offload_request");
    controller.ready(laptop.did, id, "box");
    await laptop.until(() => laptop.node.core.system.state(`offload/${id}`)?.snapshot.context.sandbox.name === "box");
    const squatter = await Agent.open(servers, "box");
    const sandbox = await Agent.open(servers, "box");
    await squatter.say(laptop.did, "let me in");
    await laptop.until(
      () => laptop.node.core.system.state(`conversation/${squatter.did}`)?.snapshot.context.unread === 1,
    );
    await sandbox.say(laptop.did, sandbox.hello(id), done(id));
    expect(await laptop.ended(id)).toMatchObject({ status: "done" });
    const { peers } = await call(laptop.node, "peers", {});
    expect(peers.find(({ did }) => did === squatter.did)?.admission).toBe("held");
    expect((await call(laptop.node, "inbox", {})).messages).toEqual([]);
  });

  it("and answers pings with nonces of others gets no task", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { controller, laptop, servers } = world;
    const id = await laptop.offload("mine");
    await controller.heard.first(({ type }) => type === "offload_request");
    controller.ready(laptop.did, id, "box");
    const squatter = await Agent.open(servers, "elsewhere");
    const deaf = await Agent.open(servers, "box");
    await laptop.until(
      () => laptop.node.core.system.state(`offload/${id}`)?.snapshot.matches({ active: "expecting" }) === true,
    );
    clock.pass(PROBE_EVERY_MS);
    const ping = await deaf.heard.first(({ type }) => type === "mesh:ping");
    await squatter.say(laptop.did, { type: "mesh:pong", nonce: "nonce" in ping ? ping.nonce : "" }, "heard?");
    await laptop.until(() => laptop.node.core.messages.hasUnread(squatter.did));
    expect(laptop.node.core.system.state(`offload/${id}`)?.snapshot.context.ponged).toEqual([]);
    clock.pass(OFFLOAD_HELLO_MS);
    expect((await laptop.ended(id)).status).toBe("lost");
  });
});

describe("what a plaintext controller costs", () => {
  it("no message ever leaves in plaintext: one to the controller is refused, one that waited for it is given up", async () => {
    const { controller, laptop, servers } = await openDeployed();
    const other = await new Controller(servers).open();
    expect(await laptop.pair(other.issue())).toBe("paired");
    const to = controller.identity.did;
    const { id } = await call(laptop.node, "send", { to, message: "for your eyes only" });
    expect(await laptop.pair(controller.issue())).toBe("paired");
    expect(await call(laptop.node, "sent", { to, id, wait_ms: 10_000 })).toMatchObject({ state: "undeliverable" });
    await expect(call(laptop.node, "send", { to, message: "and this" })).rejects.toMatchObject({
      code: "peer_refused",
    });
    const seen = servers.relay.passed.all.map(({ payload = "" }) => Buffer.from(String(payload), "base64").toString());
    expect(seen.some((words) => words.includes("for your eyes only"))).toBe(false);
    expect(controller.heard.all.map(({ type }) => type)).toEqual(["pair_request"]);
  });

  it("the relay reads the task and the file names, and no file, message or result", async () => {
    const world = await openPaired();
    const { controller, laptop, servers } = world;
    const id = await laptop.offload("the secret task");
    await controller.heard.first(({ type }) => type === "offload_request");
    const sandbox = await Agent.open(servers, "box");
    controller.ready(laptop.did, id, "box");
    await sandbox.say(laptop.did, sandbox.hello(id), { ...done(id), summary: "the secret result" });
    await laptop.ended(id);
    const seen = servers.relay.passed.all
      .flatMap((frame) => [JSON.stringify(frame), Buffer.from(String(frame.payload ?? ""), "base64").toString()])
      .join("\n");
    expect(seen).toContain("the secret task");
    expect(seen).not.toContain("the secret result");
  });
});

describe("a foreign controller", () => {
  it("of another cluster at the same relay is a stranger", async () => {
    const world = await openPaired();
    const foreign = await new Controller(world.servers).open();
    const id = foreign.say(world.laptop.did, { type: "offload_error", request_id: "r", error: "no" });
    await world.servers.relay.acked.first((ack) => ack.id === id);
    expect(world.laptop.node.core.link.malformed).toBe(1);
  });
});
