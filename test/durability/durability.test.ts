// What must hold when disks refuse, processes die and files go missing.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { openMesh } from "../../src/actors/mesh.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { SEGMENT_SIZE_MAX } from "../../src/limits.ts";
import { linkDefinition } from "../../src/machines/link/machine.ts";
import { offloadDefinition } from "../../src/machines/offload/machine.ts";
import { realDisk } from "../../src/store/disk.ts";
import { Journal } from "../../src/store/journal.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { Secrets } from "../../src/store/secrets.ts";
import { openVault } from "../../src/store/vault.ts";
import { add, arm, event, openSystem } from "../actors/systems.ts";
import { call, offline, openNode } from "../actors/world.ts";
import { ALICE, BOB, given, T0, words } from "../specification.ts";
import { diskWith, FullDisk, HeldDisk, killedAt, seededRandom, temporaryDirectory } from "../store/disks.ts";

const random = seededRandom();
const key = random(32);
const draft = (text: string) => ({ at: 1, entries: [{ stream: "s/1", event: { type: "SAID", text } }] });
const A = "tally/a";
const OWNER = fileURLToPath(new URL("../actors/owner-process.ts", import.meta.url));
const MESH = new URL("../../src/actors/mesh.ts", import.meta.url).href;

it("a commit refused with store_io is not on disk after a close, and the home opens", async () => {
  const full = new FullDisk();
  const home = await temporaryDirectory();
  const node = await MeshNode.open({ home, ports: { ...offline(), disk: full.disk } });
  const send = (id: string) => {
    const { body, size, secrets } = node.core.bodies.seal(ALICE, id);
    return node.core.system.commit(
      [{ stream: `conversation/${ALICE}`, event: { type: "SEND", id, kind: "chat", body, size } }],
      { secrets: { ...secrets, [`x/${id}`]: "s" } },
    ).durable;
  };
  await send("m1");
  full.syncFails = true;
  await expect(send("m2")).rejects.toMatchObject({ code: "store_io" });
  full.syncFails = false;
  await node.close();
  const again = await openNode({ home, ports: offline() });
  expect(
    again.core.system.state(`conversation/${ALICE}`)?.snapshot.context.outbox.map((o: { id: string }) => o.id),
  ).toEqual(["m1"]);
});

it("a refused commit without secrets does not come to be either", async () => {
  const full = new FullDisk();
  const directory = await temporaryDirectory();
  const journal = await Journal.open({ disk: full.disk, directory });
  await journal.append(draft("one"));
  full.syncFails = true;
  await expect(journal.append(draft("refused"))).rejects.toMatchObject({ code: "store_io" });
  full.syncFails = false;
  await journal.close();
  expect(
    (await Array.fromAsync(readJournal(realDisk, directory))).map(({ entries }) => entries[0]?.event.text),
  ).toEqual(["one"]);
});

it("the vault took its place but the directory's fsync failed: the home still opens", async () => {
  const home = await temporaryDirectory();
  let fail = false;
  const disk = diskWith(
    {},
    {
      replace: async (path, bytes) => {
        await realDisk.replace(path, bytes);
        if (fail) throw new Error("EIO: fsync of the directory");
      },
    },
  );
  const secrets = new Secrets(await openVault(disk, home, key, random, 0), random);
  const journal = await Journal.open({ disk, directory: join(home, "journal"), ready: () => secrets.certain() });
  const put = async (name: string) => {
    const { seal } = secrets.decide({ [name]: "v" });
    await journal.append({ ...draft("x"), seal });
    secrets.confirm({ [name]: "v" });
  };
  await put("one");
  fail = true;
  await secrets.turnEpoch(journal.head, 1).catch(() => undefined);
  fail = false;
  await put("two");
  await journal.close();
  const again = new Secrets(await openVault(realDisk, home, key, random, 0), random);
  await Journal.open({
    disk: realDisk,
    directory: join(home, "journal"),
    onCommit: (commit) => again.recover(commit),
  }).then((each) => each.close());
  expect(again.get("two")).toBe("v");
});

describe("a whole line with a right checksum that does not fit is damage, not a torn tail", () => {
  it("a missing segment: the segment after it must not be emptied", async () => {
    const directory = await temporaryDirectory();
    const small = diskWith({ size: (file) => (file.size === 0 ? 0 : SEGMENT_SIZE_MAX) });
    const journal = await Journal.open({ disk: small, directory });
    for (const text of ["one", "two", "three"]) await journal.append(draft(text));
    await journal.close();
    const last = join(directory, "000000000003.jsonl");
    const before = await readFile(last);
    await rename(join(directory, "000000000002.jsonl"), join(directory, "moved"));
    const failure = await Journal.open({ disk: realDisk, directory }).then(
      (each) => each.close().then(() => "opened"),
      (error: unknown) => error,
    );
    expect(await readFile(last)).toEqual(before);
    expect(failure).toMatchObject({ code: "store_damaged" });
  });
  it("the last line but one edited with a fresh checksum", async () => {
    const directory = await temporaryDirectory();
    const journal = await Journal.open({ disk: realDisk, directory });
    for (const text of ["one", "two", "three"]) await journal.append(draft(text));
    await journal.close();
    const file = join(directory, "000000000001.jsonl");
    const lines = (await readFile(file, "utf8")).split("\n");
    await writeFile(file, [lines[0], lines[2], ""].join("\n"));
    await expect(Journal.open({ disk: realDisk, directory })).rejects.toMatchObject({ code: "store_damaged" });
  });
});

it("an owner survives a caller whose connection is reset", async () => {
  const home = await temporaryDirectory();
  const owner = spawn(process.execPath, ["--no-warnings", OWNER, home], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  let errors = "";
  owner.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  const gone = once(owner, "exit");
  onTestFinished(async () => {
    owner.kill("SIGKILL");
    await gone;
  });
  await once(owner.stdout, "data");
  // A caller that asks a lot, reads nothing and is gone.
  const script = `const s=require("net").connect(${JSON.stringify(join(home, "owner.sock"))},()=>{s.pause();let n=0;for(let i=0;i<2000;i++)s.write(JSON.stringify({id:i,call:"whoami",params:{}})+"\\n",i<1999?undefined:()=>process.kill(process.pid,"SIGKILL"))})`;
  await once(spawn(process.execPath, ["-e", script]), "exit");
  const another = await openMesh({ home });
  expect(another.role, errors).toBe("caller");
  await another.call("whoami", {});
  await another.close();
});

it("a caller survives an owner that is killed", async () => {
  const home = await temporaryDirectory();
  const script = join(await temporaryDirectory(), "caller.ts");
  await writeFile(
    script,
    `
    import { openMesh } from ${JSON.stringify(MESH)};
    const mesh = await openMesh({ home: process.argv[2] });
    for (let i = 0; i < 2000; i++) mesh.call("await", { from: ["did:mesh:" + "a".repeat(32)], timeout_ms: 60000 }).catch(() => {});
    process.stdout.write("asked\\n");
    await mesh.closed; process.stdout.write("told\\n");`,
  );
  const owner = spawn(process.execPath, ["--no-warnings", OWNER, home], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  await once(owner.stdout, "data");
  const caller = spawn(process.execPath, ["--no-warnings", script, home], { stdio: ["ignore", "pipe", "pipe"] });
  let errors = "";
  caller.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  await once(caller.stdout, "data");
  owner.kill("SIGKILL");
  const [code] = await once(caller, "exit");
  expect(code, errors).toBe(0);
});

it("a vault that was half replaced by a crash leaves no copy of the secrets behind", async () => {
  for (let change = 1; change < 30; change++) {
    const home = await temporaryDirectory();
    try {
      const node = await MeshNode.open({ home, ports: { ...offline(), disk: killedAt(change) } });
      await node.core.system.commit(
        [{ stream: `conversation/${ALICE}`, event: { type: "NAMED", name: "a", source: "registry" } }],
        { secrets: { ratchet: "s" } },
      ).durable;
      await node.close();
    } catch {
      /* killed */
    }
    const again = await MeshNode.open({ home, ports: offline() }).catch(() => undefined);
    if (!again) continue;
    await again.core.system.commit(
      [{ stream: `conversation/${ALICE}`, event: { type: "NAMED", name: "b", source: "registry" } }],
      { secrets: { ratchet: null } },
    ).durable;
    await again.close();
    expect(
      (await readdir(home)).filter((name) => name.endsWith(".tmp")),
      `killed at ${change}`,
    ).toEqual([]);
  }
});

describe("a deadline", () => {
  it("a deadline that was set anew, by a commit still being written, does not ring at the old time", async () => {
    const held = new HeldDisk();
    const { system, clock, log, settled } = await openSystem({ disk: held.disk });
    system.start();
    await system.commit([arm(A, 100)]).durable;
    clock.pass(99);
    const syncing = held.hold();
    system.commit([arm(A, 10_000)]);
    await syncing;
    clock.pass(1);
    held.release();
    await settled();
    expect(log).toEqual([]);
  });
  it("a due deadline whose end is still being written does not spin", async () => {
    const held = new HeldDisk();
    const { system, clock } = await openSystem({ disk: held.disk });
    system.start();
    await system.commit([arm(A, 100)]).durable;
    const syncing = held.hold();
    system.commit([event(A, "DISARM")]);
    await syncing;
    clock.pass(100);
    const armed = clock.armed;
    held.release();
    // Armed again for a moment that has passed: a real clock calls back at once, again and again, until the disk answers.
    expect(armed).toBe(0);
  });
});

describe("an actor nobody has told anything durable does not exist", () => {
  it("when its first event was refused by the disk", async () => {
    const full = new FullDisk();
    const { system } = await openSystem({ disk: full.disk });
    full.room = 0;
    await expect(system.commit([add(A)]).durable).rejects.toMatchObject({ code: "store_io" });
    expect(system.state(A)).toBeUndefined();
    expect(system.capture().state.actors).toEqual({});
  });
  it("while its first event is still being written", async () => {
    const held = new HeldDisk();
    const { system, settled } = await openSystem({ disk: held.disk });
    const syncing = held.hold();
    system.commit([add(A)]);
    await syncing;
    const shown = [system.state(A), [...system.streams()].length];
    held.release();
    await settled();
    expect(shown).toEqual([undefined, 0]);
  });
  it("when its first event was in no form, or made the machine throw", async () => {
    const { system } = await openSystem();
    expect(() => system.commit([{ stream: A, event: { type: "ADD", amount: "x" } }])).toThrow();
    expect(() => system.commit([event("tally/b", "EXPLODE")])).toThrow();
    expect([...system.streams()].map(([stream]) => stream)).toEqual([]);
  });
  it("an offload that could not be written is not listed as pending", async () => {
    const full = new FullDisk();
    const node = await openNode({ home: await temporaryDirectory(), ports: { ...offline(), disk: full.disk } });
    full.room = 0;
    await expect(
      node.offloads.begin({ controller: ALICE, task: "t", files: [], target: {}, timeoutMinutes: 1 }),
    ).rejects.toMatchObject({ code: "store_io" });
    full.room = undefined;
    expect(await call(node, "offload_status", {})).toEqual({ offloads: [] });
  });
});

it("the secrets of a closed session, and the keys of what it sealed, are forgotten", async () => {
  const node = await openNode({ home: await temporaryDirectory(), ports: offline() });
  const { system, keyring } = node.core;
  const { identity, patch } = keyring.identityOrNew();
  const agreement = { peer: ALICE, knock: "k", ik: `${"A".repeat(43)}=`, ek: `${"A".repeat(43)}=`, spk: 1, otk: null };
  const stream = `conversation/${ALICE}`;
  const header = { dh: `${"A".repeat(43)}=`, pn: 0, n: 0 };
  const secret = Buffer.alloc(32, 1).toString("base64");
  await system.commit(
    [
      { stream: "session/k", event: { type: "INITIATED", ...agreement } },
      { stream, event: { type: "SEND", id: "m", kind: "chat", body: words("x"), size: 1 } },
      { stream, event: { type: "ESTABLISHED", session: "k", role: "initiator" } },
      { stream, event: { type: "SEALED", id: "m", session: "k", header, nonce: "n" } },
    ],
    { secrets: { ...patch, "ratchet/k": { state: {}, ad: "" }, [`sent/${ALICE}/m`]: secret } },
  ).durable;
  await node.knocks.onReject({
    v: 1,
    type: "knock_reject",
    from: ALICE,
    to: identity.did,
    id: "r",
    knock_id: "k",
    reason: "policy_denied",
  });
  expect(system.state("session/k")?.snapshot.value).toBe("closed");
  expect(keyring.sentKey(ALICE, "m"), "the message key of what will never be sent").toBeUndefined();
  expect(() => keyring.ratchet("k"), "the ratchet of the closed session").not.toThrow();
});

describe("the link", () => {
  it("pauses grow when the relay's socket opens and stays silent, too", () => {
    let down = given(linkDefinition, "relay", { type: "CONNECT", url: "u" });
    const pauses: number[] = [];
    for (let i = 0; i < 5; i++) {
      down = down.whenTimer("open");
      pauses.push(down.deadlines().backoff ?? 0);
      down = down.whenTimer("backoff");
    }
    expect(pauses.at(-1)).toBeGreaterThan(pauses[0] ?? 0);
  });
  it.each([[{ type: "DISCONNECT" }], [{ type: "CLOSED", code: 4006, reason: "", final: true, chance: 0 }]])(
    "a link that is down has not caught up, and is up since never (%j)",
    (end) => {
      given(
        linkDefinition,
        "relay",
        { type: "CONNECT", url: "u" },
        { type: "OPENED", extensions: [], pending: 0 },
        end,
      ).then({ state: end.type === "DISCONNECT" ? "down" : "refused", context: { caughtUp: false, since: null } });
    },
  );
});

it("a result file is a sign of life, and begins the stall limit anew", () => {
  const saved = { type: "FILE_SAVED", body: words("f"), size: 1, sha256: "0".repeat(64) };
  const running = given(
    offloadDefinition,
    "o",
    { type: "REQUESTED", controller: ALICE, target: {}, timeout_minutes: 60, body: words("t"), files: 0, bytes: 0 },
    { type: "ASKED" },
    { type: "GREETED", did: BOB, awaits_task: false },
  );
  expect(running.when(saved, T0 + 60_000).deadlines().stall).toBe(300_000);
});

it("so it is while results return", () => {
  const saved = { type: "FILE_SAVED", body: words("f"), size: 1, sha256: "0".repeat(64) };
  const returning = given(
    offloadDefinition,
    "o",
    { type: "REQUESTED", controller: ALICE, target: {}, timeout_minutes: 60, body: words("t"), files: 0, bytes: 0 },
    { type: "ASKED" },
    { type: "GREETED", did: BOB, awaits_task: false },
    { type: "FINISHED", body: words("s"), outputs: 9, tokens: null, duration_seconds: null },
  );
  expect(returning.when(saved, T0 + 60_000).deadlines().stall).toBe(300_000);
});

it("a missing vault beside a journal is reported, and no new one is made", async () => {
  const home = await temporaryDirectory();
  const node = await MeshNode.open({ home, ports: offline() });
  await node.core.system.commit(
    [{ stream: `conversation/${ALICE}`, event: { type: "NAMED", name: "a", source: "registry" } }],
    { secrets: { identity: "s" } },
  ).durable;
  await node.close();
  await rename(join(home, "vault"), join(home, "kept"));
  await expect(
    MeshNode.open({ home, ports: offline() }),
    "a home without its vault must not open as an empty one",
  ).rejects.toMatchObject({ code: "store_damaged" });
  expect(await readdir(home)).not.toContain("vault");
});

it("a broken line in the middle of the last segment is an error, as its comment says", async () => {
  const directory = await temporaryDirectory();
  const journal = await Journal.open({ disk: realDisk, directory });
  for (const text of ["one", "two", "three"]) await journal.append(draft(text));
  await journal.close();
  const file = join(directory, "000000000001.jsonl");
  await writeFile(file, (await readFile(file, "utf8")).replace("two", "TWO"));
  await expect(Array.fromAsync(readJournal(realDisk, directory))).rejects.toMatchObject({ code: "store_damaged" });
});
