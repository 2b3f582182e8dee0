/** Work for a deployed cluster: what its controller and its sandboxes say, of either kind, and what becomes of it. */
import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { NAME_RETRY_MS, RESENDS_MAX } from "../../src/actors/legacy/limits.ts";
import { TRANSFER_WAIT_MS } from "../../src/actors/limits.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { describe as describeOffload } from "../../src/cli/offload-text.ts";
import { FILE_SIZE_MAX, FILES_MAX, OFFLOAD_CANCEL_MS, OFFLOAD_HELLO_MS, OFFLOAD_STALL_MS } from "../../src/limits.ts";
import { PROBE_EVERY_MS, PROBE_GRACE_MS } from "../../src/machines/offload/limits.ts";
import { renderOffload } from "../../src/plugin/render.ts";
import type { Payload, PayloadOf } from "../../src/wire/payload.ts";
import { CalendarClock } from "../actors/systems.ts";
import { call, openWorld } from "../actors/world.ts";
import { type Build, Controller, type Words } from "../reference/controller.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { Agent, chunksOf, done, fileTransfer, progress, sayRaw } from "./agents.ts";
import { type Deployed, Laptop, openPaired } from "./world.ts";

const standing = () => {
  const clock = new CalendarClock(Date.now());
  return { clock, ports: { ...realPorts(realNetwork), clock } };
};

async function fileOf(name: string, bytes: Buffer | string): Promise<string> {
  const path = join(await temporaryDirectory(), name);
  writeFileSync(path, bytes);
  return path;
}

/** A request that is let in, when it has come, and an agent that is its sandbox. */
async function requested({ controller }: Deployed): Promise<Words> {
  return controller.heard.first(({ type }) => type === "offload_request");
}
/** The controller names a sandbox of that name. */
async function ready({ controller, laptop }: Deployed, name: string): Promise<string> {
  const { request_id } = await requested({ controller, laptop } as Deployed);
  controller.ready(laptop.did, request_id, name);
  return String(request_id);
}
const isType =
  <T extends Payload["type"]>(type: T) =>
  (payload: Payload): payload is PayloadOf<T> & Payload =>
    payload.type === type;

describe("a sandbox that says hello", () => {
  const builds: readonly Build[] = [{ writes: "payload and ciphertext" }, { writes: "payload", tokens: "did" }];
  it.each(builds)("does its work and brings files back ($writes)", async (build) => {
    const world = await openPaired(build);
    const { controller, laptop, servers } = world;
    const id = await laptop.offload("count the words");
    const request = await requested(world);
    expect(request).toMatchObject({
      request_id: id,
      task: "count the words",
      files: [],
      file_count: 0,
      total_bytes: 0,
      preferences: { timeout_minutes: 60 },
    });
    expect(request).not.toHaveProperty("target");
    const sandbox = await Agent.open(servers, "kars-sandbox-1");
    controller.ready(laptop.did, id, "kars-sandbox-1");
    await sandbox.say(laptop.did, sandbox.hello(id), progress(id, 10));
    await sandbox.say(laptop.did, fileTransfer("count.txt", Buffer.from("42")), done(id, ["count.txt"]));
    const view = await laptop.ended(id);
    expect(view).toMatchObject({ status: "done", summary: "all done", sandbox: "kars-sandbox-1", error: null });
    expect(view.files.map(({ name, path }) => [name, readFileSync(path, "utf8")])).toEqual([["count.txt", "42"]]);
    expect(await sandbox.heard.first(isType("file_transfer_ack"))).toMatchObject({
      file_name: "count.txt",
      success: true,
    });
    const cleanup = await controller.heard.first(({ type }) => type === "offload_cleanup");
    expect(cleanup).toMatchObject({ request_id: id, reason: "done" });
    // It had its task from the controller, and there was nothing else to send.
    expect(sandbox.heard.all.map(({ type }) => type)).toEqual(["file_transfer_ack"]);
  });

  it("is asked for in whole minutes, since a controller ignores a request with a part of one", async () => {
    const { controller, laptop } = await openPaired();
    await call(laptop.node, "offload", { task: "be quick", files: [], timeout_minutes: 1.5 });
    const request = await controller.heard.first(({ type }) => type === "offload_request");
    expect(request).toMatchObject({ preferences: { timeout_minutes: 2 } });
  });

  it("gets the files that were announced, and no task a second time", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const big = randomBytes(1_200_000);
    const files = [await fileOf("big.bin", big), await fileOf("small.txt", "small")];
    const id = await laptop.offload("look at these", files);
    expect(await requested(world)).toMatchObject({
      files: ["big.bin", "small.txt"],
      file_count: 2,
      total_bytes: big.length + 5,
    });
    const sandbox = await Agent.open(servers, "box");
    await ready(world, "box");
    await sandbox.say(laptop.did, sandbox.hello(id));
    const small = await sandbox.heard.first((word) => word.type === "file_transfer" && word.file_name === "small.txt");
    const [first] = sandbox.heard.all.filter(isType("file_transfer"));
    expect(first?.file_name).toBe("big.bin");
    expect(Buffer.from(String(first?.file_data), "base64").equals(big)).toBe(true);
    expect(small).toMatchObject({ size_bytes: 5, file_path: "small.txt", from_agent: expect.any(String) });
    await sandbox.say(laptop.did, done(id));
    expect((await laptop.ended(id)).status).toBe("done");
    expect(sandbox.heard.all.filter(({ type }) => type === "offload_task")).toEqual([]);
  });

  it("may say it before the controller has named it, and its other words wait behind it", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const id = await laptop.offload("be quick");
    await requested(world);
    const sandbox = await Agent.open(servers, "early-bird");
    await sandbox.say(laptop.did, sandbox.hello(id), done(id));
    await laptop.until(() => handlingOf(world, sandbox.did) === 2);
    await laptop.again();
    await ready(world, "early-bird");
    expect((await laptop.ended(id)).status).toBe("done");
  });

  it("is believed when the registry has been asked, as often as that takes", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { laptop, servers } = world;
    const id = await laptop.offload("wait for it");
    await requested(world);
    const sandbox = await Agent.open(servers, "box");
    await ready(world, "box");
    await laptop.until(() => phaseOf(world, id) === "expecting");
    await sandbox.say(laptop.did, "so that there is a session");
    await laptop.until(() => laptop.node.core.messages.hasUnread(sandbox.did));
    servers.registry.up = false;
    const { length } = servers.registry.asked.all;
    await sandbox.say(laptop.did, sandbox.hello(id));
    await servers.registry.asked.first(({ http }) => http.startsWith("GET /v1/discover"), length);
    servers.registry.up = true;
    await laptop.node.core.lanes.idle();
    expect(phaseOf(world, id)).toBe("expecting");
    clock.pass(NAME_RETRY_MS);
    await laptop.until(() => phaseOf(world, id) === "running");
  });

  it("has late words that do no harm to the next offload", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const sandbox = await Agent.open(servers, "box");
    const first = await laptop.offload("first");
    await ready(world, "box");
    await sandbox.say(laptop.did, sandbox.hello(first), done(first));
    await laptop.ended(first);
    const second = await laptop.offload("second");
    await world.controller.heard.first(({ request_id }) => request_id === second);
    const other = await Agent.open(servers, "box-2");
    world.controller.ready(laptop.did, second, "box-2");
    await other.say(laptop.did, other.hello(second), progress(second, 1));
    await laptop.until(() => phaseOf(world, second) === "running");
    await sandbox.say(laptop.did, progress(first, 99), fileTransfer("late.txt", Buffer.from("late")), done(first));
    await sandbox.say(laptop.did, "the last word");
    await laptop.until(() => laptop.node.core.messages.hasUnread(sandbox.did));
    await other.say(laptop.did, done(second));
    const view = await laptop.ended(second);
    expect(view).toMatchObject({ status: "done", files: [], progress: { stage: "running" } });
    expect((await laptop.view(first)).files).toEqual([]);
  });

  it("sends files of one name, none of which takes the other's place, and a Hermes one says a bare string", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const id = await laptop.offload("write twice");
    const sandbox = await Agent.open(servers, "hermes");
    await ready(world, "hermes");
    const signed = { __signature: "c2ln", __sender_amid: "amid", __signed_at: "now" };
    await sandbox.say(laptop.did, { ...sandbox.hello(id), ...signed }, "just a string");
    await sandbox.say(
      laptop.did,
      fileTransfer("../out.txt", Buffer.from("one")),
      fileTransfer("out.txt", Buffer.from("two")),
    );
    // What a writer has nothing to say of is null.
    const nothing = { tokens_used: { prompt: null, completion: null }, duration_seconds: null };
    await sandbox.say(laptop.did, { ...done(id, ["out.txt", "out.txt"]), ...signed, ...nothing });
    const { files } = await laptop.ended(id);
    expect(files.map(({ name, path }) => [name, readFileSync(path, "utf8")])).toEqual([
      ["out.txt", "one"],
      ["out (2).txt", "two"],
    ]);
    const { messages } = await call(laptop.node, "inbox", {});
    expect(messages.map(({ body }) => body)).toEqual(["just a string"]);
  });
});

const handlingOf = ({ laptop }: Deployed, peer: string): number =>
  laptop.node.core.system.state(`conversation/${peer}`)?.snapshot.context.handling.length ?? 0;
const queuedFor = ({ laptop }: Pick<Deployed, "laptop">, peer: string): number =>
  laptop.node.core.system.state(`conversation/${peer}`)?.snapshot.context.outbox.length ?? 0;
const phaseOf = ({ laptop }: Deployed, id: string): unknown => {
  const value = laptop.state(`offload/${id}`);
  return typeof value === "object" && value !== null && "active" in value ? value.active : value;
};

/** What an older sandbox says to what it is told. */
const older =
  (outputs: readonly Words[] = []) =>
  (payload: Payload): readonly unknown[] => {
    switch (payload.type) {
      case "mesh:ping":
        return [{ type: "mesh:pong", nonce: payload.nonce }];
      case "file_transfer":
        return [
          {
            type: "file_transfer_ack",
            file_name: payload.file_name,
            success: true,
            saved_to: `/sandbox/${payload.file_name}`,
            from_agent: "sandbox",
            timestamp: new Date().toISOString(),
          },
        ];
      case "offload_task": {
        const { request_id } = payload;
        const names = outputs.map(({ file_name }) => String(file_name));
        return [{ type: "task_received", request_id }, progress(request_id, 50), ...outputs, done(request_id, names)];
      }
      default:
        return [];
    }
  };

describe("an older sandbox, which says no hello", () => {
  it("is pinged, and given the files and the task", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { laptop, servers } = world;
    const path = await fileOf("data.csv", "1,2,3");
    const id = await laptop.offload("sum it up", [path]);
    const sandbox = await Agent.open(servers, "old-box", {
      answers: older([fileTransfer("sum.txt", Buffer.from("6"))]),
    });
    await ready(world, "old-box");
    await laptop.until(() => phaseOf(world, id) === "expecting");
    clock.pass(PROBE_EVERY_MS);
    await laptop.until(() => phaseOf(world, id) === "ponged");
    expect(sandbox.heard.all.map(({ type }) => type)).toEqual(["mesh:ping"]);
    clock.pass(PROBE_GRACE_MS);
    const view = await laptop.ended(id);
    expect(view).toMatchObject({ status: "done", sandbox: "old-box" });
    expect(view.files.map(({ name }) => name)).toEqual([basename("sum.txt")]);
    const [ping, file, task] = sandbox.heard.all;
    expect([ping?.type, file?.type, task?.type]).toEqual(["mesh:ping", "file_transfer", "offload_task"]);
    expect(task).toMatchObject({
      request_id: id,
      task: "sum it up",
      files: ["data.csv"],
      from_agent: expect.any(String),
    });
  });

  it("that is slow to come up is pinged again; one that never does is lost when the time for it is over", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { laptop, servers } = world;
    const id = await laptop.offload("hello?");
    const sandbox = await Agent.open(servers, "deaf");
    await ready(world, "deaf");
    await laptop.until(() => phaseOf(world, id) === "expecting");
    for (let rounds = 1; rounds * PROBE_EVERY_MS < OFFLOAD_HELLO_MS; rounds++) {
      clock.pass(PROBE_EVERY_MS);
      await sandbox.heard.first(({ type }) => type === "mesh:ping", rounds - 1);
    }
    clock.pass(PROBE_EVERY_MS);
    const view = await laptop.ended(id);
    expect(view).toMatchObject({ status: "lost", error: { code: "cluster_unreachable" } });
    await world.controller.heard.first(
      ({ type, reason }) => type === "offload_cleanup" && reason === "discovery_timeout",
    );
  });

  it("is only taken for one when it has had time to say hello: who pongs and greets gets no task", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { laptop, servers } = world;
    const id = await laptop.offload("once only");
    const sandbox = await Agent.open(servers, "new-box", { answers: older() });
    await ready(world, "new-box");
    await laptop.until(() => phaseOf(world, id) === "expecting");
    clock.pass(PROBE_EVERY_MS);
    await laptop.until(() => phaseOf(world, id) === "ponged");
    await sandbox.say(laptop.did, sandbox.hello(id), progress(id, 5), done(id));
    expect((await laptop.ended(id)).status).toBe("done");
    expect(sandbox.heard.all.filter(({ type }) => type === "offload_task")).toEqual([]);
  });

  it("of a name that others carry is never guessed: when several answer, nobody gets anything", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { laptop, servers } = world;
    const id = await laptop.offload("which one?");
    const agents = [
      await Agent.open(servers, "common-name", { answers: older() }),
      await Agent.open(servers, "common-name", { answers: older() }),
    ] as const;
    await ready(world, "common-name");
    await laptop.until(() => phaseOf(world, id) === "expecting");
    clock.pass(PROBE_EVERY_MS);
    await laptop.until(() => contextOf(world, id).ponged.length === 2);
    clock.pass(PROBE_GRACE_MS);
    const view = await laptop.ended(id);
    expect(view).toMatchObject({ status: "error", error: { code: "peer_ambiguous" } });
    for (const agent of agents) expect(agent.heard.all.map(({ type }) => type)).toEqual(["mesh:ping"]);
  });

  it("shares its name with one that is gone: the one that answers gets the task", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { laptop, servers } = world;
    const gone = await Agent.open(servers, "reborn", { answers: older() });
    await gone.client.close();
    const id = await laptop.offload("to the living");
    await Agent.open(servers, "reborn", { answers: older() });
    await ready(world, "reborn");
    await laptop.until(() => phaseOf(world, id) === "expecting");
    clock.pass(PROBE_EVERY_MS);
    await laptop.until(() => phaseOf(world, id) === "ponged");
    clock.pass(PROBE_GRACE_MS);
    expect((await laptop.ended(id)).status).toBe("done");
  });
});

const contextOf = ({ laptop }: Deployed, id: string) =>
  laptop.node.core.system.state(`offload/${id}`)?.snapshot.context;

describe("a file that a sandbox could not take", () => {
  const refusal = (file_name: string, more: object = {}): Words => ({
    type: "file_transfer_ack",
    file_name,
    success: false,
    error: "no space left on device",
    from_agent: "sandbox",
    timestamp: new Date().toISOString(),
    ...more,
  });

  it.each([true, false])(
    "ends the offload with its reason, and the cluster is told (says hello: %s)",
    async (greets) => {
      const { clock, ports } = standing();
      const world = await openPaired({}, {}, ports);
      const { controller, laptop, servers } = world;
      const id = await laptop.offload("look at these", [await fileOf("a.txt", "one"), await fileOf("b.txt", "two")]);
      const answers = (word: Payload) => {
        if (word.type === "mesh:ping") return [{ type: "mesh:pong", nonce: word.nonce }];
        return word.type === "file_transfer" ? [refusal(word.file_name, { success: word.file_name === "a.txt" })] : [];
      };
      const sandbox = await Agent.open(servers, "box", { answers });
      await ready(world, "box");
      if (greets) await sandbox.say(laptop.did, sandbox.hello(id));
      else {
        await laptop.until(() => phaseOf(world, id) === "expecting");
        clock.pass(PROBE_EVERY_MS);
        await laptop.until(() => phaseOf(world, id) === "ponged");
        clock.pass(PROBE_GRACE_MS);
      }
      const { status, error } = await laptop.ended(id);
      expect({ status, code: error?.code }).toEqual({ status: "error", code: "file_refused" });
      expect(error?.message).toContain("b.txt: no space left on device.");
      const cleanup = await controller.heard.first(({ type }) => type === "offload_cleanup");
      expect(cleanup).toMatchObject({ request_id: id, reason: "error" });
    },
  );

  it("is what its sandbox says of a file that it was sent, and nobody else", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const id = await laptop.offload("look at this", [await fileOf("a.txt", "one")]);
    const sandbox = await Agent.open(servers, "box");
    const stranger = await Agent.open(servers, "stranger");
    await ready(world, "box");
    await sandbox.say(laptop.did, sandbox.hello(id));
    await sandbox.heard.first(isType("file_transfer"));
    await stranger.say(laptop.did, refusal("a.txt"), refusal("a.txt", { request_id: id }), "that was all");
    await laptop.until(() => laptop.node.core.messages.hasUnread(stranger.did));
    await sandbox.say(laptop.did, refusal("other.txt"), refusal("a.txt", { request_id: randomUUID() }), done(id));
    expect((await laptop.ended(id)).status).toBe("done");
  });
});

describe("payloads in chunks", () => {
  it("are at most a file of 30 MB: a larger one is refused before anything is asked for", async () => {
    const { controller, laptop } = await openPaired();
    const path = await fileOf("large.bin", "");
    truncateSync(path, FILE_SIZE_MAX + 1);
    await expect(laptop.offload("take this", [path])).rejects.toMatchObject({
      code: "file_too_large",
      message: expect.stringMatching(/has 30000001 bytes, and at most 30000000 are allowed\. .* takes files whole/),
    });
    expect(controller.heard.all.filter(({ type }) => type === "offload_request")).toEqual([]);
  });

  it("come whole out of order and repeated, and the sandbox is told so", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const id = await laptop.offload("make something large");
    const sandbox = await Agent.open(servers, "box");
    await ready(world, "box");
    const bytes = randomBytes(1_500_000);
    const { manifest, chunks } = chunksOf(fileTransfer("large.bin", bytes));
    const [first, ...others] = chunks;
    await sandbox.say(laptop.did, sandbox.hello(id), ...others.toReversed(), manifest, others[0], first);
    await sandbox.say(laptop.did, done(id, ["large.bin"]));
    const { files, status } = await laptop.ended(id);
    expect(status).toBe("done");
    expect(readFileSync(files[0]?.path ?? "").equals(bytes)).toBe(true);
    expect(await sandbox.heard.first(isType("mesh:transfer_complete"))).toMatchObject({
      transfer_id: manifest.transfer_id,
    });
  });

  it("that a sandbox names and does not send: the offload is done, and its view says how many are missing", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { laptop, servers } = world;
    const id = await laptop.offload("make many files");
    const sandbox = await Agent.open(servers, "box");
    await ready(world, "box");
    const names = Array.from({ length: FILES_MAX + 1 }, (_, index) => `${index}.txt`);
    await sandbox.say(laptop.did, sandbox.hello(id), fileTransfer("0.txt", Buffer.from("0")), done(id, names));
    await laptop.until(() => phaseOf(world, id) === "returning");
    clock.pass(OFFLOAD_STALL_MS);
    const view = await laptop.ended(id);
    expect(view).toMatchObject({ status: "done", files: [{ name: "0.txt" }], files_missing: FILES_MAX });
    for (const text of [renderOffload(view), describeOffload(view)])
      expect(text).toContain(`The sandbox named ${names.length} result files, and 1 came.`);
  });

  it("that were on their way to a laptop that died are asked for when the sandbox is done", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const id = await laptop.offload("make something large");
    const sandbox = await Agent.open(servers, "box");
    await ready(world, "box");
    const bytes = randomBytes(1_100_000);
    const { manifest, chunks } = chunksOf(fileTransfer("large.bin", bytes));
    expect(chunks).toHaveLength(3);
    servers.relay.loses = ({ id: frame }) => frame === "lost";
    await sandbox.say(laptop.did, sandbox.hello(id), manifest, chunks[0]);
    await sandbox.client.say(laptop.did, chunks[1], "lost");
    await sandbox.say(laptop.did, chunks[2], done(id, ["large.bin"]));
    const asked = await sandbox.heard.first(isType("mesh:transfer_chunk_request"));
    expect(asked).toMatchObject({ transfer_id: manifest.transfer_id, missing: [1] });
    expect((await laptop.view(id)).phase).toBe("returning");
    await sandbox.say(laptop.did, chunks[1]);
    const { files, status } = await laptop.ended(id);
    expect(status).toBe("done");
    expect(readFileSync(files[0]?.path ?? "").equals(bytes)).toBe(true);
  });

  it("that a sandbox lacks are sent again, to it alone, and not for ever", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const bytes = randomBytes(1_500_000);
    const id = await laptop.offload("take this", [await fileOf("in.bin", bytes)]);
    const transfer_id = `${id}.file.0`;
    // A relay that stores nothing for whoever is there loses what a connection loses.
    servers.relay.loses = (frame) => frame.id === `${transfer_id}.1`;
    const sandbox = await Agent.open(servers, "box");
    const stranger = await Agent.open(servers, "stranger");
    await ready(world, "box");
    await sandbox.say(laptop.did, sandbox.hello(id));
    await servers.relay.passed.first((frame) => frame.id === `${transfer_id}.2`);
    const asks = { type: "mesh:transfer_chunk_request", transfer_id, missing: [1, 1, 79] };
    await stranger.say(laptop.did, asks, "that was all");
    await laptop.until(() => laptop.node.core.messages.hasUnread(stranger.did));
    expect(sandbox.heard.all).toEqual([]);
    await sandbox.say(laptop.did, asks);
    const file = await sandbox.heard.first(isType("file_transfer"));
    expect(Buffer.from(String("file_data" in file && file.file_data), "base64").equals(bytes)).toBe(true);
    for (let more = 0; more < 2 * RESENDS_MAX; more++) await sandbox.say(laptop.did, asks);
    await sandbox.say(laptop.did, "that was all");
    await laptop.until(() => laptop.node.core.messages.hasUnread(sandbox.did));
    await laptop.until(() => handlingOf(world, sandbox.did) === 0 && queuedFor(world, sandbox.did) === 0);
    await servers.relay.passed.first(() => resent(world, sandbox.did).length >= RESENDS_MAX);
    // What is said last arrives last.
    const last = randomUUID();
    await sayRaw(laptop.node, sandbox.did, "the end", last);
    await servers.relay.passed.first((frame) => frame.id === last);
    expect(resent(world, sandbox.did)).toHaveLength(RESENDS_MAX);
    expect(resent(world, stranger.did)).toEqual([]);
  });

  it("that a sandbox never sends are waited for as long as relays keep mail, also across a restart", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { laptop, servers } = world;
    const id = await laptop.offload("make something large");
    const sandbox = await Agent.open(servers, "box");
    await ready(world, "box");
    const { manifest, chunks } = chunksOf(fileTransfer("large.bin", randomBytes(1_100_000)));
    await sandbox.say(laptop.did, sandbox.hello(id));
    await laptop.until(() => contextOf(world, id)?.sandbox.did === sandbox.did);
    await sandbox.say(laptop.did, manifest, chunks[0]);
    await laptop.until(() => handlingOf(world, sandbox.did) === 2);
    clock.pass(TRANSFER_WAIT_MS - 1);
    await laptop.again();
    expect(handlingOf(world, sandbox.did)).toBe(2);
    clock.pass(1);
    await laptop.until(() => handlingOf(world, sandbox.did) === 0);
    expect(laptop.notes.join("\n")).toContain("2 parts of larger messages");
  });

  it("of a manifest that is too large are not waited for, and the offload goes on", async () => {
    const world = await openPaired();
    const { laptop, servers } = world;
    const id = await laptop.offload("too much");
    const sandbox = await Agent.open(servers, "box");
    await ready(world, "box");
    const { manifest } = chunksOf(fileTransfer("x", Buffer.from("x")));
    const giant = { ...manifest, total_chunks: 4_000_000_000, total_bytes: 2 ** 50 };
    await sandbox.say(laptop.did, sandbox.hello(id), giant, {
      ...manifest,
      chunk_hashes: Array(1_000).fill("0".repeat(64)),
    });
    await sandbox.say(laptop.did, done(id));
    expect((await laptop.ended(id)).status).toBe("done");
    expect(handlingOf(world, sandbox.did)).toBe(0);
  });
});

/** Chunks that were sent again: their ids begin with that of the message that asked. */
const resent = ({ servers, laptop }: Deployed, peer: string) =>
  servers.relay.passed.all.filter(
    ({ from, to, type, id }) =>
      from === laptop.did && to === peer && type === "message" && /^[0-9a-f-]{36}\.1$/.test(id ?? ""),
  );

describe("a controller that refuses", () => {
  const refusals: readonly (readonly [record: object, code: string])[] = [
    [{ phase: "Expired" }, "token_expired"],
    [{ phase: "Revoked" }, "token_revoked"],
    [{ boundAmid: null }, "not_paired"],
    [{ capabilities: ["handoff"] }, "capability_missing"],
  ];
  it.each(refusals)("%o is told as what it is", async (change, code) => {
    const { controller, laptop } = await openPaired();
    for (const pairing of controller.pairings.values()) Object.assign(pairing, change);
    const view = await laptop.ended(await laptop.offload("x"));
    expect(view).toMatchObject({ status: "error", error: { code } });
  });

  it.each([
    ["Sandbox failed to start: Sandbox pod failed before becoming ready", "cluster_refused"],
    ["Sandbox timed out waiting to become ready", "cluster_refused"],
  ])("%s ends the offload with its words", async (error, code) => {
    const world = await openPaired();
    const { controller, laptop } = world;
    const id = await laptop.offload("x");
    await requested(world);
    controller.fails(laptop.did, id, error);
    expect(await laptop.ended(id)).toMatchObject({ status: "error", error: { code, message: error } });
  });

  it("for want of a slot has the offload wait its turn, until another has ended", async () => {
    const world = await openPaired({}, { slotsMax: 1 });
    const { controller, laptop, servers } = world;
    const [pairing] = controller.pairings.values();
    if (!pairing) throw new Error("no pairing");
    // Somebody else takes it.
    pairing.slotsUsed = 1;
    const id = await laptop.offload("patience");
    await laptop.until(() => contextOf(world, id).refusals > 0);
    pairing.slotsUsed = 0;
    await controller.heard.first(({ type }) => type === "offload_request", 2);
    const sandbox = await Agent.open(servers, "box");
    controller.ready(laptop.did, id, "box");
    await sandbox.say(laptop.did, sandbox.hello(id), done(id));
    expect((await laptop.ended(id)).status).toBe("done");
  });

  it("for want of a slot does not come again when the sandbox that had it was deleted", async () => {
    const { controller, laptop, servers } = await openPaired({}, { slotsMax: 1 });
    const sandbox = await Agent.open(servers, "box");
    for (const [before, task] of ["first", "second"].entries()) {
      const id = await laptop.offload(task);
      await controller.heard.first(({ type }) => type === "offload_request", before + 1);
      controller.ready(laptop.did, id, "box");
      await sandbox.say(laptop.did, sandbox.hello(id), done(id));
      expect(await laptop.ended(id)).toMatchObject({ status: "done", error: null });
      await controller.heard.first(({ type }) => type === "offload_cleanup", before + 1);
    }
    expect(controller.heard.all.filter(({ type }) => type === "offload_request")).toHaveLength(2);
  });

  it("is not asked for a sandbox by name or capability, which it could not choose", async () => {
    const { laptop } = await openPaired();
    for (const target of [{ to: "builder" }, { capability: "gpu" }])
      await expect(call(laptop.node, "offload", { task: "x", ...target })).rejects.toMatchObject({
        code: "input_invalid",
      });
  });
});

describe("a cancelled offload", () => {
  it("is over after a while, and it is said that nobody confirmed it", async () => {
    const { clock, ports } = standing();
    const world = await openPaired({}, {}, ports);
    const { controller, laptop } = world;
    const id = await laptop.offload("never mind");
    await requested(world);
    await call(laptop.node, "offload_cancel", { id });
    expect(await controller.heard.first(({ type }) => type === "offload_cleanup")).toMatchObject({
      reason: "cancelled",
    });
    clock.pass(OFFLOAD_CANCEL_MS);
    const view = await laptop.ended(id);
    for (const text of [renderOffload(view), describeOffload(view)]) expect(text).toContain("has not confirmed");
    expect(view).toMatchObject({
      status: "cancelled",
      confirmed: false,
      error: null,
      progress: { message: expect.stringContaining("has not confirmed") },
    });
  });
});

it("a relay that says what it has on disk is told the same, and what waits leaves in its order when it is back", async () => {
  const { server } = await openWorld();
  const places = { relayUrl: server.relayUrl, registryUrl: server.url };
  const controller = await new Controller(places).open();
  const laptop = await Laptop.open();
  expect(await laptop.pair(controller.issue({ slotsMax: 3 }))).toBe("paired");
  laptop.node.core.link.pause();
  const ids = [await laptop.offload("one"), await laptop.offload("two"), await laptop.offload("three")];
  await laptop.again();
  await controller.heard.first(({ request_id }) => request_id === ids[2]);
  const requests = controller.heard.all.filter(({ type }) => type === "offload_request");
  expect(requests.map(({ request_id }) => request_id)).toEqual(ids);
  await laptop.until(() => queuedFor({ laptop }, controller.identity.did) === 0);
  const [id = ""] = ids;
  const sandbox = await Agent.open(places, "box");
  controller.ready(laptop.did, id, "box");
  await sandbox.say(laptop.did, sandbox.hello(id), done(id));
  expect((await laptop.ended(id)).status).toBe("done");
});

describe("a laptop that dies on the way", () => {
  it("goes on wherever it was, and asks nobody twice", async () => {
    const world = await openPaired();
    const { controller, laptop, servers } = world;
    await controller.close();
    const id = await laptop.offload("survive", [await fileOf("a.txt", "a")]);
    await laptop.again();
    await controller.open();
    await requested(world);
    await laptop.again();
    const sandbox = await Agent.open(servers, "box");
    await ready(world, "box");
    await laptop.until(() => phaseOf(world, id) === "expecting");
    await laptop.again();
    await sandbox.say(laptop.did, sandbox.hello(id));
    await sandbox.heard.first(isType("file_transfer"));
    await laptop.again();
    await sandbox.say(laptop.did, progress(id, 50));
    await laptop.until(() => phaseOf(world, id) === "running");
    await laptop.again();
    await sandbox.say(laptop.did, fileTransfer("r.txt", Buffer.from("r")), done(id, ["r.txt"]));
    expect(await laptop.ended(id)).toMatchObject({ status: "done", files: [{ name: "r.txt" }] });
    await controller.heard.first(({ type }) => type === "offload_cleanup");
    expect(controller.heard.all.map(({ type }) => type)).toEqual([
      "pair_request",
      "offload_request",
      "offload_cleanup",
    ]);
    expect(sandbox.heard.all.filter(isType("file_transfer"))).toHaveLength(1);
  });
});
