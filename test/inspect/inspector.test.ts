import { writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { createInspector, createWebSocketReceiver, type StatelyInspectionEvent } from "@statelyai/inspect";
import { describe, expect, onTestFinished, test } from "vitest";
import { createActor } from "xstate";
import { attach } from "../../src/actors/caller.ts";
import { compose } from "../../src/actors/drafts.ts";
import { definitionOf } from "../../src/inspect/definitions.ts";
import { commitsOf } from "../../src/inspect/fold.ts";
import { readHistory } from "../../src/inspect/history.ts";
import { VIEWER_BUFFER_SIZE_MAX, VIEWERS_MAX } from "../../src/inspect/limits.ts";
import { startInspector } from "../../src/inspect/server.ts";
import { actorMessage, eventMessage, snapshotMessage } from "../../src/inspect/stately.ts";
import { linkDefinition } from "../../src/machines/link/machine.ts";
import type { PayloadInput } from "../../src/wire/payload.ts";
import { Collected, cluster, type Laptop, laptop, refused, say, temporaryDirectory, view } from "./world.ts";

type Source = Parameters<typeof startInspector>[0];

/** A mesh that has no node: what `watch` tells is told by the test. */
function puppet() {
  const ended = Promise.withResolvers<void>();
  let onProgress: ((news: unknown) => void) | undefined;
  const mesh: Source = {
    closed: ended.promise,
    call: (_name, _params, options) => {
      onProgress = options?.onProgress;
      return new Promise((resolve) => options?.signal?.addEventListener("abort", () => resolve({} as never)));
    },
  };
  return { mesh, tell: (news: unknown) => onProgress?.(news), end: () => ended.resolve() };
}

async function inspect(mesh: Source) {
  const inspector = await startInspector(mesh);
  onTestFinished(() => inspector.close());
  return inspector;
}

const linkNews = (stream: string, at: number, event: unknown = { type: "CONNECT", url: "ws://relay.example/ws" }) => ({
  stream,
  state: {
    value: "connecting",
    context: { ...linkDefinition.machine.config.context, url: "ws://relay.example/ws" },
    status: "active",
    timers: {},
  },
  event,
  at,
  number: 0,
});

describe("a live system", () => {
  test("is seen by Stately's own receiver: actors, events, snapshots", async () => {
    const server = await cluster();
    const alice = await laptop(server, "alice");
    const bob = await laptop(server, "bob");
    const { url } = await inspect(alice.mesh);
    const messages = new Collected<StatelyInspectionEvent>();
    createWebSocketReceiver({ server: url }).subscribe((message) => messages.add(message));

    const pairing = await messages.first(
      ({ type, sessionId }) => type === "@xstate.actor" && sessionId.startsWith("pairing/"),
    );
    expect(pairing).toMatchObject({
      snapshot: { status: "active", value: "paired", context: { name: "alice", did: alice.did } },
    });
    await messages.first(({ type, sessionId }) => type === "@xstate.actor" && sessionId === "link/relay");

    await say(alice, bob, "hello");
    const conversation = `conversation/${bob.did}`;
    const stateAfter = (event: string) =>
      messages.first(
        (message) =>
          message.type === "@xstate.snapshot" && message.sessionId === conversation && message.event.type === event,
      );
    const sent = await stateAfter("TRANSMITTED");
    await stateAfter("CONFIRMED");
    expect(sent).toMatchObject({ snapshot: { value: "open", context: { sent: 1, outbox: [] } } });
    // A new actor is announced before anything is told of it, and each event stands before the state it made.
    const told = messages.all.filter(({ sessionId }) => sessionId === conversation);
    expect(told.slice(0, 3).map(({ type }) => type)).toEqual(["@xstate.actor", "@xstate.event", "@xstate.snapshot"]);
    expect(told.filter(({ type }) => type === "@xstate.actor")).toHaveLength(1);
    const events = told.flatMap((message) => (message.type === "@xstate.event" ? [message.event.type] : []));
    // The peer's answer may come at any moment.
    expect(events.slice(0, 5)).toEqual(["SEND", "ANNOUNCED", "ESTABLISHED", "SEALED", "TRANSMITTED"]);
    const { lines } = await readHistory(alice.home, { stream: conversation });
    expect(lines.map(({ type }) => type).slice(0, events.length)).toEqual(events);
  });

  test("tells what happened to Stately's own receiver, too", async () => {
    const server = await cluster();
    const alice = await laptop(server, "alice");
    const bob = await laptop(server, "bob");
    await say(alice, bob, "hello");
    const inspector = await startInspector(alice.mesh, { home: alice.home });
    onTestFinished(() => inspector.close());
    const conversation = `conversation/${bob.did}`;
    const url = new URL(inspector.url);
    url.pathname = "/history";
    url.searchParams.set("stream", conversation);
    const messages = new Collected<StatelyInspectionEvent>();
    createWebSocketReceiver({ server: url.href }).subscribe((message) => messages.add(message));
    const { lines } = await readHistory(alice.home, { stream: conversation });
    const snapshots = () => messages.all.filter(({ type }) => type === "@xstate.snapshot");
    // More may have happened by then.
    await messages.first(() => snapshots().length >= lines.length);
    expect(snapshots().slice(0, lines.length)).toMatchObject(
      lines.map(({ type, to }) => ({ sessionId: conversation, event: { type }, snapshot: { value: to } })),
    );
    const [first] = messages.all;
    expect(first).toMatchObject({ type: "@xstate.actor", snapshot: { value: "closed" } });
  });

  test("is seen from another process of its home too, and its end ends the viewers", async () => {
    const server = await cluster();
    const alice = await laptop(server, "alice");
    const bob = await laptop(server, "bob");
    const caller = await attach(alice.home);
    if (!caller) throw new Error("the owner does not answer");
    onTestFinished(() => caller.close());
    const { url } = await inspect(caller);
    const viewer = await view(url);
    await viewer.messages.first(({ sessionId }) => sessionId === "link/relay");
    await say(bob, alice, "hello");
    await viewer.messages.first(
      ({ type, sessionId }) => type === "@xstate.snapshot" && sessionId.startsWith("session/"),
    );
    await alice.mesh.close();
    expect(await viewer.closed).toBe(1001);
    await expect(view(url)).rejects.toThrow();
  });
});

describe("what crosses the wire", () => {
  test("has the form that @statelyai/inspect gives it", async () => {
    const theirs = new Collected<StatelyInspectionEvent>();
    const { inspect } = createInspector({ send: (message) => theirs.add(JSON.parse(JSON.stringify(message))) });
    const actor = createActor(linkDefinition.machine, { inspect, input: { id: "relay" } });
    onTestFinished(() => {
      actor.stop();
    });
    actor.start();
    const event = { type: "CONNECT" as const, url: "ws://relay.example/ws", at: 7 };
    actor.send(event);
    await theirs.first((message) => message.type === "@xstate.snapshot" && message.event.type === "CONNECT");

    const stream = "link/relay";
    const state = { value: "connecting", context: actor.getSnapshot().context, status: "active" as const };
    const ours = [
      actorMessage(stream, linkDefinition, state, 7),
      eventMessage(stream, linkDefinition, event, 7),
      snapshotMessage(stream, linkDefinition, state, event, 7),
    ].map((message): StatelyInspectionEvent => JSON.parse(JSON.stringify(message)));
    for (const message of ours) {
      const twin = theirs.all.find(({ type }) => type === message.type);
      expect(Object.keys(message).sort()).toEqual(Object.keys(twin ?? {}).sort());
      expect(message._version).toBe(twin?._version);
      for (const [field, value] of Object.entries(message))
        expect(typeof value, field).toBe(typeof Object.entries(twin ?? {}).find(([name]) => name === field)?.[1]);
    }
    expect(ours).toMatchObject([
      { name: stream, sessionId: stream, rootId: stream, createdAt: "7", snapshot: { value: "connecting" } },
      { event: { type: "CONNECT", url: "relay.example", at: 7 } },
      { event: { type: "CONNECT" }, snapshot: { context: { url: "relay.example" } } },
    ]);
  });

  test("draws a machine without its context", () => {
    const { definition } = actorMessage(
      "link/relay",
      linkDefinition,
      { value: "down", context: {}, status: "active" },
      0,
    );
    const drawing = JSON.parse(definition);
    expect(drawing).toMatchObject({
      id: "link",
      initial: "down",
      on: { DISCONNECT: { target: ".down" } },
      states: { online: { initial: "quiet" }, waiting: { after: { backoff: "connecting" } } },
    });
    expect(drawing).not.toHaveProperty("context");
    for (const field of Object.keys(linkDefinition.machine.config.context ?? {}))
      expect(definition).not.toContain(`"${field}"`);
  });

  test("names a deadline as XState does", () => {
    const definition = definitionOf("conversation/x");
    const id = "xstate.after.retry.conversation.waiting";
    expect(definition && eventMessage("conversation/x", definition, { type: "@timer", ...{ id } }, 1).event).toEqual({
      type: id,
    });
    expect(
      definition && eventMessage("conversation/x", definition, { type: "@timer", ...{ id: "canary" } }, 1).event,
    ).toEqual({
      type: "[redacted]",
    });
  });

  test("holds no words, keys, nonces or sealed bodies", async () => {
    const CANARY = "canary-in-a-coal-mine";
    const server = await cluster();
    const bob = await laptop(server, "bob");
    const alice = await laptop(server, "alice", bob.did);
    const carol = await laptop(server, "carol");
    const viewers = await Promise.all([alice, bob].map(async ({ mesh }) => view((await inspect(mesh)).url)));
    await say(alice, carol, `words of the ${CANARY}`);
    await say(carol, alice, `answer of the ${CANARY}`);

    // An offload with words in every part of it, bob being the controller and carol the sandbox.
    const file = join(await temporaryDirectory(), `${CANARY}.txt`);
    await writeFile(file, CANARY);
    const offload = await alice.mesh.call("offload", { task: `task of the ${CANARY}`, files: [file] });
    const tell = async (from: Laptop, payload: PayloadInput) => {
      const draft = compose(from.node.core, alice.did, payload);
      await from.node.core.system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
    };
    const request_id = offload.offload_id;
    const [watcher] = viewers;
    const reaches = (event: string) =>
      watcher?.messages.first(
        (message) =>
          message.type === "@xstate.snapshot" &&
          message.sessionId === `offload/${request_id}` &&
          message.event.type === event,
      );
    await reaches("ASKED");
    await tell(bob, {
      type: "offload_status",
      request_id,
      phase: "ready",
      message: CANARY,
      sandbox_name: "sandbox",
      sandbox_did: carol.did,
    });
    await reaches("STATUS");
    await tell(carol, { type: "offload_hello", request_id, message: CANARY });
    await reaches("GREETED");
    await tell(carol, { type: "offload_progress", request_id, stage: CANARY, pct: 10, message: CANARY });
    await reaches("PROGRESSED");
    const file_data = Buffer.from(CANARY).toString("base64");
    await tell(carol, {
      type: "file_transfer",
      request_id,
      file_name: `${CANARY}.out`,
      file_data,
      size_bytes: CANARY.length,
    });
    await reaches("FILE_SAVED");
    await tell(carol, { type: "offload_done", request_id, summary: CANARY, output_files: [`${CANARY}.out`] });
    const done = await reaches("FINISHED");
    expect(done).toMatchObject({ snapshot: { value: "done", context: { pct: 10, stage: "[redacted]", outputs: 1 } } });
    expect(await alice.mesh.call("offload_status", { id: request_id })).toMatchObject({
      status: "done",
      summary: CANARY,
    });

    const text = viewers.map((viewer) => viewer.text()).join("\n");
    expect(text).toContain(request_id);
    const secrets = new Map<string, string | Uint8Array>([
      ["words", CANARY],
      ["path", file],
      ["file", file_data],
    ]);
    for (const { node, home } of [alice, bob, carol]) {
      const { keyring, system } = node.core;
      const { did, seed, dhSecret } = keyring.identity;
      secrets.set(`seed of ${did}`, seed).set(`agreement secret of ${did}`, dhSecret);
      const scopes = [alice.did, bob.did, carol.did, `offload/${request_id}`];
      for (const scope of scopes) {
        const key = keyring.contentKey(scope);
        if (key) secrets.set(`content key for ${scope} of ${did}`, key);
      }
      for (const [stream] of system.streams("session")) {
        const ratchet = keyring.ratchet(stream.slice("session/".length));
        if (!ratchet) throw new Error("a session without a ratchet");
        secrets.set(`associated data of ${stream}`, ratchet.associatedData);
      }
      for await (const { entries } of commitsOf(home))
        for (const [, value] of JSON.stringify(entries).matchAll(/"(?:sealed|nonce|blob)":"([^"]+)"/g))
          if (value) secrets.set(`sealed or nonce ${value.slice(0, 12)}`, value);
    }
    expect(secrets.size).toBeGreaterThan(12);
    for (const [what, secret] of secrets) {
      const forms =
        typeof secret === "string"
          ? [secret]
          : (["base64", "base64url", "hex"] as const).map((form) => Buffer.from(secret).toString(form));
      for (const form of forms) expect(text.includes(form), what).toBe(false);
    }
  });
});

describe("who may look", () => {
  test("only who knows the token", async () => {
    const { url } = await inspect(puppet().mesh);
    const { origin, port, searchParams } = new URL(url);
    const token = searchParams.get("token") ?? "";
    expect(Buffer.from(token, "base64url")).toHaveLength(32);
    expect(url).toBe(`ws://127.0.0.1:${port}/?token=${token}`);
    expect(await refused(origin)).toBe(401);
    expect(await refused(`${origin}/?token=`)).toBe(401);
    expect(await refused(`${origin}/?token=${token.slice(0, -1)}`)).toBe(401);
    expect(await refused(`${origin}/?token=${token.toLowerCase()}x`)).toBe(401);
    expect(await refused(`${origin}/?token=x&token=${token}`)).toBe(401);
    const again = await inspect(puppet().mesh);
    expect(new URL(again.url).searchParams.get("token")).not.toBe(token);
    expect(await refused(url)).toBeUndefined();
  });

  test("no web page of another origin, and none under a name that was bent to point here", async () => {
    const { url } = await inspect(puppet().mesh);
    for (const origin of [
      "https://evil.example",
      "http://127.0.0.1.evil.example",
      "http://localhost@evil.example",
      "null",
      "file://",
    ])
      expect(await refused(url, { origin }), origin).toBe(403);
    for (const host of ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "0.0.0.0"])
      expect(await refused(url, { headers: { host } }), host).toBe(403);
    // Pages that other programs of this machine serve, also one under the other name of this very port.
    const { port } = new URL(url);
    for (const origin of ["http://127.0.0.1:8080", "http://localhost:1", "https://localhost", "http://127.0.0.1"])
      expect(await refused(url, { origin }), origin).toBe(403);
    for (const origin of [`https://127.0.0.1:${port}`, `http://localhost:${port}`])
      expect(await refused(url, { origin }), origin).toBe(403);
    expect(await refused(url, { origin: `http://127.0.0.1:${port}` })).toBeUndefined();
    expect(await refused(url, { headers: { host: "localhost:1" } })).toBeUndefined();
  });

  test("a request that is no WebSocket gets the page with the token, and nothing without", async () => {
    const { url } = await inspect(puppet().mesh);
    const status = (address: string, headers = {}) =>
      new Promise((resolve, reject) => {
        request(address, { headers }, (response) => {
          response.resume();
          resolve(response.statusCode);
        })
          .on("error", reject)
          .end();
      });
    const address = url.replace("ws:", "http:");
    expect(await status(address)).toBe(200);
    expect(await status(new URL(address).origin)).toBe(401);
    expect(await status(`${new URL(address).origin}/state?stream=link/relay`)).toBe(401);
    expect(await status(address, { host: "evil.example" })).toBe(403);
  });

  test(`no more than ${VIEWERS_MAX} at once`, async () => {
    const { url } = await inspect(puppet().mesh);
    const viewers = await Promise.all(Array.from({ length: VIEWERS_MAX }, () => view(url)));
    expect(await refused(url)).toBe(503);
    viewers[0]?.socket.close();
    await viewers[0]?.closed;
    expect(await refused(url)).toBeUndefined();
  });
});

describe("a viewer", () => {
  test("that says something is shown out", async () => {
    const { url } = await inspect(puppet().mesh);
    const viewer = await view(url);
    viewer.socket.send("hello");
    expect(await viewer.closed).toBe(1008);
    const shouting = await view(url);
    shouting.socket.send("x".repeat(100_000));
    expect(await shouting.closed).toBe(1009);
  });

  test("that comes late is told of every actor in its latest state", async () => {
    const { mesh, tell } = puppet();
    const { url } = await inspect(mesh);
    for (let n = 0; n < 3_000; n++) tell(linkNews(`link/${n}`, 1));
    tell(linkNews("link/7", 2));
    const viewer = await view(url);
    tell(linkNews("link/new", 3));
    tell("nonsense");
    tell({ ...linkNews("kettle/1", 3) });
    await viewer.messages.first(({ sessionId }) => sessionId === "link/new");
    const actors = viewer.messages.all.filter(({ type }) => type === "@xstate.actor");
    expect(actors.map(({ sessionId }) => sessionId)).toEqual([
      ...Array.from({ length: 3_000 }, (_, n) => `link/${n}`),
      "link/new",
    ]);
    expect(actors[7]?.createdAt).toBe("2");
  });

  test("that reads too slowly is cut off, and the others are not", async () => {
    const { mesh, tell } = puppet();
    const { url } = await inspect(mesh);
    const slow = await view(url);
    const quick = await view(url);
    slow.socket.pause();
    // More than the bound and all that the system's sockets hold.
    const enough = 3 * VIEWER_BUFFER_SIZE_MAX;
    const ids = Array.from({ length: 50 }, (_, n) => `${n}-${"x".repeat(120)}`);
    const stream = `conversation/did:mesh:${"0".repeat(32)}`;
    const state = { value: "open", context: { handling: ids.map((id) => ({ id })) }, status: "active", timers: {} };
    for (let told = 0, at = 0; told < enough; ) {
      for (let n = 0; n < 200; n++) tell({ stream, state, event: { type: "READ", ids }, at: ++at, number: at });
      const last = await quick.messages.first((message) => message.createdAt === String(at) && "snapshot" in message);
      told += 200 * JSON.stringify(last).length;
    }
    slow.socket.resume();
    expect(await slow.closed).toBe(1006);
    expect(slow.text().length).toBeLessThan(quick.text().length);
    expect(quick.socket.readyState).toBe(quick.socket.OPEN);
  });

  test("is told when there is nothing more to see", async () => {
    const { mesh, end } = puppet();
    const { url } = await inspect(mesh);
    const viewer = await view(url);
    end();
    expect(await viewer.closed).toBe(1001);
  });
});

test("a port that is taken is refused in words", async () => {
  const { url } = await inspect(puppet().mesh);
  await expect(startInspector(puppet().mesh, { port: Number(new URL(url).port) })).rejects.toMatchObject({
    code: "input_invalid",
    message: expect.stringContaining("cannot be listened on"),
  });
});
