import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Bodies } from "../../src/actors/bodies.ts";
import { conversationOf } from "../../src/actors/core.ts";
import { Keyring } from "../../src/actors/keyring.ts";
import {
  base64,
  decrypt,
  encrypt,
  initiatorRatchet,
  responderRatchet,
  serializeRatchet,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import { Blobs } from "../../src/store/blobs.ts";
import { realDisk } from "../../src/store/disk.ts";
import { Secrets } from "../../src/store/secrets.ts";
import { readSnapshots, writeSnapshots } from "../../src/store/snapshots.ts";
import { openVault } from "../../src/store/vault.ts";
import { filesBelow, seededRandom, temporaryDirectory } from "../store/disks.ts";
import { call, offline, openNode, openWorld } from "./world.ts";

// What lies on disk while nothing happens: how much, for how long, and how it is found again.

const random = seededRandom(3);

async function keyringOf(home: string) {
  const secrets = new Secrets(await openVault(realDisk, home, new Uint8Array(32), random, 0), random);
  const keyring = new Keyring(secrets, random);
  /** Makes a patch durable, as a commit does. */
  const commit = (patch: Parameters<Secrets["decide"]>[0]) => {
    secrets.decide(patch);
    secrets.confirm(patch);
  };
  return { secrets, keyring, commit };
}

const twoSides = () => {
  const sharedKey = random(32);
  const signed = x25519KeyPair(random(32));
  return {
    alice: initiatorRatchet({ sharedKey, peerSignedPreKey: signed.public, random }),
    bob: responderRatchet({ sharedKey, signedPreKeyPair: signed }),
  };
};
const associatedData = random(64);
const plaintext = new Uint8Array([1, 2, 3]);

describe("words at rest", () => {
  const bodiesIn = async () => {
    const home = await temporaryDirectory();
    const { keyring, commit } = await keyringOf(home);
    const bodies = new Bodies(keyring, new Blobs(realDisk, join(home, "blobs"), random), random);
    return { bodies, commit };
  };
  const PROSE = "It is the same with words as with anything else: what is said twice need not be stored twice. ".repeat(
    9,
  );

  it.each([
    ["short", "hi"],
    ["long", PROSE],
    ["in any script", "日本語 ☂ ".repeat(60)],
    ["that do not get shorter", Buffer.from(random(900)).toString("latin1")],
    ["that are empty", ""],
    ["that begin like deflated ones", `\u00ff${PROSE}`],
  ])("%s come back as they were", async (_, text) => {
    const { bodies, commit } = await bodiesIn();
    const { body, size, secrets } = bodies.seal("did:mesh:a", text);
    commit(secrets);
    expect(size).toBe(Buffer.byteLength(text));
    expect(await bodies.open("did:mesh:a", body)).toBe(text);
  });

  it("take less room than the words themselves", async () => {
    const { bodies } = await bodiesIn();
    const { body } = bodies.seal("did:mesh:a", PROSE);
    expect(JSON.stringify(body).length).toBeLessThan(PROSE.length / 2);
  });
});

describe("a ratchet at rest", () => {
  it("a message moves its chain and nothing else, until the ratchet turns", async () => {
    const home = await temporaryDirectory();
    const { keyring, commit, secrets } = await keyringOf(home);
    let { alice, bob } = twoSides();
    commit(Keyring.ratchetPatch("s", { state: bob, associatedData }, undefined));
    const namesOf: string[][] = [];
    for (let message = 0; message < 3; message++) {
      const sealed = encrypt(alice, { associatedData, plaintext, random });
      alice = sealed.state;
      const before = keyring.ratchet("s");
      if (!before) throw new Error("no ratchet");
      const { header, ciphertext } = sealed;
      const { state } = decrypt(before.state, before.skipped, { associatedData, header, ciphertext, random });
      const patch = Keyring.ratchetPatch("s", { state, associatedData }, before);
      commit(patch);
      keyring.rollBack();
      bob = state;
      expect(keyring.ratchet("s")?.state).toEqual(bob);
      namesOf.push(Object.keys(patch).sort());
    }
    expect(namesOf).toEqual([["ratchet/s", "receiving/s", "sending/s"], ["receiving/s"], ["receiving/s"]]);
    // No chain key that was moved on from is left anywhere: with it, messages that were read could be read again.
    await secrets.turnEpoch(0, 1);
    const again = await keyringOf(home);
    expect(again.keyring.ratchet("s")?.state).toEqual(bob);
    const kept = JSON.stringify(again.secrets.names("").map((name) => again.secrets.get(name)));
    const now = serializeRatchet(bob);
    for (const chain of [now.sending, now.receiving])
      expect(kept.split(chain?.key ?? "").length, "a chain key is there once").toBe(2);
  });

  it("as the first version kept it, it is read, and from then on kept apart", async () => {
    const { keyring, commit, secrets } = await keyringOf(await temporaryDirectory());
    const { alice } = twoSides();
    const json = serializeRatchet(alice);
    commit({ "ratchet/s": { state: JSON.parse(JSON.stringify(json)), ad: base64.encode(associatedData) } });
    const whole = keyring.ratchet("s");
    expect(whole?.state).toEqual(alice);
    const { state } = encrypt(alice, { associatedData, plaintext, random });
    commit(Keyring.ratchetPatch("s", { state, associatedData }, whole));
    keyring.rollBack();
    expect(keyring.ratchet("s")?.state).toEqual(state);
    const kept = JSON.stringify(secrets.names("").map((name) => secrets.get(name)));
    expect(kept, "the chain key that was moved on from").not.toContain(json.sending?.key);
  });
});

describe("the message key of a sent frame", () => {
  it("is forgotten when the relay has the frame: here, after a crash, and in the vault", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    const { did } = bob.core.keyring.identity;
    const { id } = await call(alice, "send", { to: did, message: "hello" });
    await call(alice, "settle", {});
    expect(alice.core.system.state(conversationOf(did))?.snapshot.context.outbox).toEqual([]);
    expect(alice.core.keyring.sentKey(did, id)).toBeUndefined();
    // A copy of what is on disk now is what a crash leaves.
    const left = await temporaryDirectory();
    for (const [path, bytes] of await filesBelow(world.home("alice"))) {
      const to = join(left, path.slice(world.home("alice").length));
      await realDisk.makeDirectory(join(to, ".."));
      await writeFile(to, bytes, { mode: 0o600 });
    }
    for (let opening = 0; opening < 2; opening++) {
      const again = await openNode({ home: left, ports: offline() });
      expect(again.core.keyring.sentKey(did, id)).toBeUndefined();
      await again.close();
    }
  });
});

describe("a home that is opened again", () => {
  /** A closed home whose journal has several segments. */
  const talked = async () => {
    const world = await openWorld();
    const home = world.home("alice");
    const alice = await world.open("alice");
    const bob = await world.open("bob");
    await alice.close();
    const small = await openNode({ home, ports: offline(), limits: { segmentSize: 2_000 } });
    for (let number = 0; number < 12; number++)
      await call(small, "send", { to: bob.core.keyring.identity.did, message: `message ${number}` });
    await small.close();
    const { versions } = small.core.system;
    return { home, versions, state: JSON.parse(JSON.stringify(small.core.system.capture())) };
  };

  it("with damage in a segment that was checked before refuses, and names the place", async () => {
    const { home } = await talked();
    const segments = await realDisk.list(join(home, "journal"));
    expect(segments.length).toBeGreaterThan(2);
    for (const segment of segments.slice(0, -1)) {
      const path = join(home, "journal", segment);
      const bytes = await readFile(path);
      const changed = Buffer.from(bytes);
      changed[50] = (changed[50] ?? 0) ^ 1;
      await writeFile(path, changed);
      await expect(openNode({ home, ports: offline() })).rejects.toMatchObject({
        code: "store_damaged",
        message: expect.stringContaining(`${segment}, line 1: `),
      });
      await writeFile(path, bytes);
    }
    const again = await openNode({ home, ports: offline() });
    await again.close();
  });

  it("with snapshots that say something wrong of the journal, or of anything, opens from the journal alone", async () => {
    const { home, versions, state } = await talked();
    const file = await readSnapshots(realDisk, home, versions);
    if (!file) throw new Error("no snapshots");
    const wrong = (file.checked ?? []).map((known) => ({ ...known, digest: known.digest.replaceAll(/[a-m]/g, "n") }));
    const broken = { actors: {}, projections: { messages: { incoming: 7 } } };
    for (const change of [{ checked: wrong }, { checked: wrong.slice(1) }, { state: broken }, { state: 7 }]) {
      await writeSnapshots(realDisk, home, { ...file, ...change });
      const again = await openNode({ home, ports: offline() });
      expect(JSON.parse(JSON.stringify(again.core.system.capture()))).toEqual(state);
      await again.close();
    }
  });
});
