// The doctor looks at everything a home stands on, says what is wrong and what to do, and changes nothing.

import { chmod, mkdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { openMesh } from "../../src/actors/mesh.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { claimOwnership } from "../../src/actors/owner.ts";
import { type Clock, realClock, realPorts } from "../../src/actors/ports.ts";
import { repairHome } from "../../src/actors/repair.ts";
import { type DoctorReport, examine } from "../../src/inspect/doctor/doctor.ts";
import { narrowPermissions, nodeVersion } from "../../src/inspect/doctor/files.ts";
import { AUTH_SKEW_MAX_MS } from "../../src/limits.ts";
import { PRESENCE_EVERY_MS, PRESENCE_JITTER_MS } from "../../src/machines/presence/limits.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readSnapshots, writeSnapshots } from "../../src/store/snapshots.ts";
import { openPlainWorld } from "../actors/plain-world.ts";
import { call, offline, openNode, openWorld } from "../actors/world.ts";
import { ALICE } from "../specification.ts";
import { filesBelow, temporaryDirectory } from "../store/disks.ts";

const SEGMENT = "journal/000000000001.jsonl";
const reach = { network: realNetwork, clock: realClock };
/** Where nothing can be reached, at once. */
const alone = { network: offline().network, clock: realClock };

const of = ({ checks }: DoctorReport, name: string) => checks.find((check) => check.name === name);
const problems = ({ checks }: DoctorReport) =>
  checks.filter(({ status }) => status === "problem").map(({ name }) => name);
/** A home without a cluster, with a few commits. */
async function smallHome(): Promise<string> {
  const home = await temporaryDirectory();
  const node = await MeshNode.open({ home, ports: offline() });
  for (const name of ["a", "b", "c"]) {
    const event = { type: "NAMED", name, source: "registry" };
    await node.core.system.commit([{ stream: `conversation/${ALICE}`, event }], { secrets: { name } }).durable;
  }
  await node.close();
  return home;
}
/** What it says, after making sure that it changed nothing. */
async function look(home: string, ports: Pick<typeof reach, "network" | "clock"> = alone): Promise<DoctorReport> {
  const before = await filesBelow(home);
  const report = await examine({ home, ...ports });
  expect(await filesBelow(home)).toEqual(before);
  expect(report.ok).toBe(problems(report).length === 0);
  return report;
}

describe("a home that is well", () => {
  it("has no problem, whether nobody has it open or another process does", async () => {
    const world = await openWorld();
    const alice = await world.open("alice");
    const bob = await world.open("bob");
    await call(alice, "send", { to: "bob", message: "hello" });
    await call(bob, "await", { from: ["alice"], timeout_ms: 15_000 });
    await alice.close();
    const home = world.home("alice");
    const report = await look(home, reach);
    expect(problems(report)).toEqual([]);
    expect(report.checks.map(({ name }) => name)).toEqual([
      ...["node", "ownership", "permissions", "disk", "journal", "vault", "snapshots", "blobs"],
      ...["pairing", "prekeys", "registration", "registry", "relay", "clock"],
    ]);
    expect(of(report, "pairing")?.message).toContain("alice is paired with test; 1 peer, 1 open session, 0 messages");
    expect(of(report, "prekeys")?.message).toContain("50 one-time prekeys left");
    expect(of(report, "registration")).toMatchObject({ status: "ok", message: "The registry knows this laptop." });
    expect(of(report, "snapshots")?.message).toContain("gives the same");

    const mesh = await openMesh({ home, ports: realPorts(realNetwork) });
    onTestFinished(() => mesh.close());
    const owned = await examine({ home, ...reach });
    expect(problems(owned)).toEqual([]);
    expect(of(owned, "ownership")?.message).toMatch(
      new RegExp(`^Process ${process.pid} has it open, and answered in \\d+ ms`),
    );
    expect(of(owned, "vault")?.message).toMatch(/^Its owner has it open: epoch \d+, of commit \d+/);
    expect(of(owned, "relay")?.message).toContain("The owner's link is ");
    expect(of(owned, "pairing")?.message).toBe(of(report, "pairing")?.message);
  });

  it("that does not exist yet is not a problem, and is not made", async () => {
    const home = join(await temporaryDirectory(), "none");
    const report = await examine({ home, ...alone });
    expect(report).toMatchObject({ ok: true, checks: [{ name: "node" }, { name: "home", status: "note" }] });
    await expect(stat(home)).rejects.toMatchObject({ code: "ENOENT" });
  });
});

describe("ownership and surroundings", () => {
  it("a process that has it open and cannot be reached is a problem; the rest is read beside it", async () => {
    const home = await smallHome();
    const ownership = await claimOwnership(home);
    const report = await look(home);
    ownership?.release();
    expect(of(report, "ownership")).toMatchObject({ status: "problem" });
    expect(of(report, "journal")).toMatchObject({ status: "ok" });
    expect(of(report, "vault")).toMatchObject({ status: "note" });
  });

  it.skipIf(process.platform === "win32")("what others could read is named, and taken back", async () => {
    const home = await smallHome();
    await chmod(join(home, "vault"), 0o640);
    await chmod(join(home, "journal"), 0o711);
    const report = await look(home);
    expect(of(report, "permissions")).toMatchObject({
      status: "problem",
      message: expect.stringMatching(/(journal|vault) and 1 more: /),
    });
    expect(await narrowPermissions(home)).toBe(2);
    expect(of(await look(home), "permissions")).toMatchObject({ status: "ok" });
  });

  it("a registry and a relay that do not answer are problems; a clock that is wrong is one, too", async () => {
    const world = await openWorld();
    await (await world.open("alice")).close();
    const home = world.home("alice");
    for (const skew of [AUTH_SKEW_MAX_MS + 5_000, -AUTH_SKEW_MAX_MS - 5_000]) {
      const clock: Clock = {
        now: () => Date.now() + skew,
        at: (time, ring) => realClock.at(time - skew, ring),
      };
      const wrong = await look(home, { network: realNetwork, clock });
      expect(problems(wrong)).toEqual(["clock"]);
      expect(of(wrong, "clock")?.message).toMatch(skew > 0 ? / ahead of / : / behind /);
    }
    const nobody = await look(home);
    expect(problems(nobody)).toEqual(["registry", "relay"]);
    expect(of(nobody, "clock")).toMatchObject({ status: "note" });
  });

  it("a registry that has forgotten this laptop is a problem while no process registers it again, and is told of later", async () => {
    const { clock, servers, open } = await openPlainWorld();
    let alice = await open("alice");
    await alice.node.close();
    servers.registry.forget();
    const registration = async () => of(await look(alice.home, { network: realNetwork, clock }), "registration");
    expect(await registration()).toMatchObject({
      status: "problem",
      message: expect.stringMatching(/^The registry does not know this laptop: .* kars-mesh run\.$/),
    });

    alice = await alice.again();
    await alice.until(() => alice.node.presence.value === "arriving");
    alice.traffic.blocks = (what) => what === "POST agents";
    clock.pass(PRESENCE_JITTER_MS);
    await alice.until(() => alice.pairing.failure !== null);
    await alice.node.close();
    const noticed =
      "The registry had forgotten this laptop, which was noticed at \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d UTC";
    expect(await registration()).toMatchObject({
      status: "problem",
      message: expect.stringMatching(
        `^${noticed}\\. It does not take this laptop back: http:.* does not answer\\. .* kars-mesh run\\.$`,
      ),
    });

    alice = await alice.again();
    clock.pass(60_000);
    await alice.isBack();
    await alice.node.close();
    expect(await registration()).toMatchObject({
      status: "ok",
      message: expect.stringMatching(`^The registry knows this laptop\\. ${noticed}\\. It was registered again at `),
    });
  });

  it("the owner knows how a registry hears of this laptop, and why it does not", async () => {
    const { clock, servers, open } = await openPlainWorld();
    const { home, node } = await open("alice");
    await node.close();
    clock.pass(1);
    const mesh = await openMesh({ home, ports: { ...realPorts(realNetwork), clock } });
    onTestFinished(() => mesh.close());
    const state = async () => (await mesh.call("diagnose", {})).presence.state;
    const registration = async () => of(await examine({ home, network: realNetwork, clock }), "registration");
    await expect.poll(state).toBe("arriving");
    clock.pass(PRESENCE_JITTER_MS);
    await expect.poll(state).toBe("present");
    expect(await registration()).toMatchObject({
      status: "ok",
      message: expect.stringMatching(/^The registry knows this laptop, and gets a heartbeat every 30 s, last at /),
    });
    await servers.registry.close();
    clock.pass(PRESENCE_EVERY_MS);
    await expect.poll(state).toBe("beatingLater");
    expect(await registration()).toMatchObject({
      status: "note",
      message: expect.stringMatching(/^The registry does not hear from this laptop\. http:.* does not answer\./),
    });
  });

  it("a Node.js that is too old is named", () => {
    expect(nodeVersion("20.20.2")).toMatchObject({ status: "problem" });
    expect(nodeVersion("22.15.9")).toMatchObject({ status: "problem" });
    expect([nodeVersion("22.16.0"), nodeVersion("24.0.0")]).toMatchObject([{ status: "ok" }, { status: "ok" }]);
  });
});

describe("a journal", () => {
  it("that is damaged in the middle: segment, line, what is sound and what lies behind; after the repair all is well", async () => {
    const home = await smallHome();
    const path = join(home, SEGMENT);
    await writeFile(path, (await readFile(path, "utf8")).replace('"name":"b"', '"name":"B"'));
    const report = await look(home);
    expect(problems(report)).toEqual(["journal"]);
    expect(of(report, "journal")?.message).toMatch(
      /^Segment 000000000001\.jsonl, line 2: checksum does not match\. 1 commit before it is sound, 1 whole ones lie behind it\..*--repair/,
    );
    await repairHome({ home, ports: offline() });
    expect(problems(await look(home))).toEqual([]);
  });

  it("with a torn tail: a note, and nothing is cut by looking", async () => {
    const home = await smallHome();
    await writeFile(join(home, SEGMENT), '{"n":4,"t":', { flag: "a" });
    const report = await look(home);
    expect(of(report, "journal")).toMatchObject({
      status: "note",
      message: expect.stringContaining("3 sound commits; a torn write of 11 bytes"),
    });
    expect(problems(report)).toEqual([]);
  });

  it("that was cut: the vault and the snapshots know of more", async () => {
    const home = await smallHome();
    const path = join(home, SEGMENT);
    const text = await readFile(path, "utf8");
    await truncate(path, text.lastIndexOf('{"n":3'));
    const report = await look(home);
    expect(problems(report)).toEqual(["vault", "snapshots"]);
    expect(of(report, "vault")?.message).toContain("It is of commit 3, and the journal ends with 2");
    await repairHome({ home, ports: offline() });
    expect(problems(await look(home))).toEqual([]);
  });

  it("that cannot be read is a problem with its reason", async () => {
    const home = await smallHome();
    await rm(join(home, SEGMENT));
    await mkdir(join(home, SEGMENT));
    const report = await look(home);
    expect(of(report, "journal")?.message).toContain(`${join(home, SEGMENT)}: a directory stands where a file belongs`);
  });
});

describe("vault, snapshots and blobs", () => {
  it("a vault or a key that is damaged or missing is a problem with what is left", async () => {
    for (const [name, said] of [
      ["vault", /vault does not open/],
      ["store.key", /store\.key is not a store key/],
    ] as const) {
      const home = await smallHome();
      await writeFile(join(home, name), "kars-mesh-vault-v1\nnonsense");
      expect(of(await look(home), "vault")).toMatchObject({ status: "problem", message: expect.stringMatching(said) });
      await rm(join(home, name));
      expect(of(await look(home), "vault")).toMatchObject({
        status: "problem",
        message: expect.stringContaining("missing"),
      });
      expect(of(await look(home), "journal"), "the facts are there").toMatchObject({ status: "ok" });
    }
  });

  it("a key under a passphrase that is not at hand is a note: it is closed, not broken", async () => {
    const home = await smallHome();
    const unlock = { passphrase: async () => "open sesame", keychain: () => Promise.reject(new Error("no keychain")) };
    const node = await MeshNode.open({ home, ports: offline(), unlock });
    await node.changeKey({ protection: "passphrase", passphrase: "open sesame" });
    await node.close();
    const report = await look(home);
    expect(problems(report)).toEqual([]);
    expect(of(report, "vault")).toMatchObject({ status: "note", message: expect.stringContaining("passphrase") });
    expect(of(await examine({ home, unlock, ...alone }), "vault")).toMatchObject({ status: "ok" });
  });

  it("snapshots that are broken are a note; that differ from the journal, a problem", async () => {
    const home = await smallHome();
    const file = await readSnapshots(realDisk, home);
    if (!file) throw new Error("there are no snapshots");
    const other = JSON.parse(JSON.stringify(file.state).replaceAll('"c"', '"z"'));
    await writeSnapshots(realDisk, home, { ...file, state: other });
    const report = await look(home);
    expect(of(report, "snapshots")).toMatchObject({ status: "problem", message: expect.stringContaining(ALICE) });
    await truncate(join(home, "snapshots", "snapshots.json"), 20);
    expect(of(await look(home), "snapshots")).toMatchObject({ status: "note" });
    await rm(join(home, "snapshots"), { recursive: true });
    expect(of(await look(home), "snapshots")).toMatchObject({ status: "note" });
  });

  it("a blob that is missing is a problem that a repair ends; one that nothing refers to, a note", async () => {
    const home = await temporaryDirectory();
    const node = await openNode({ home, ports: offline() });
    const { body, size, secrets, before } = node.core.bodies.seal(ALICE, "x".repeat(40_000), true);
    const send = { type: "SEND", id: "m", kind: "work", body, size };
    await node.core.system.commit([{ stream: `conversation/${ALICE}`, event: send }], { secrets, before }).durable;
    await node.close();
    await writeFile(join(home, "blobs", "stray"), "", { mode: 0o600 });
    expect(of(await look(home), "blobs")).toMatchObject({
      status: "note",
      message: expect.stringContaining("1 that nothing"),
    });
    await rm(join(home, "blobs"), { recursive: true });
    expect(problems(await look(home))).toEqual(["blobs"]);
    expect(await repairHome({ home, ports: offline() })).toMatchObject({ outcome: "sound", given_up: 1 });
    expect(problems(await look(home))).toEqual([]);
  });
});
