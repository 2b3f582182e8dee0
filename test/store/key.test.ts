/** The store key: its forms, and changing it under crashes and beside commits. */
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { MeshError } from "../../src/errors.ts";
import { type Disk, realDisk } from "../../src/store/disk.ts";
import { Journal } from "../../src/store/journal.ts";
import { describeStoreKey, type Keychain, openStoreKey, type Unlock, type Wish } from "../../src/store/key.ts";
import { openKeychain } from "../../src/store/keychain.ts";
import { Secrets } from "../../src/store/secrets.ts";
import { opensVault, openVault } from "../../src/store/vault.ts";
import { diskWith, filesBelow, killedAt, noSpace, seededRandom, temporaryDirectory } from "./disks.ts";

const random = seededRandom(3);
const path = (home: string) => join(home, "store.key");
/** Deriving is made cheap here; what it costs for real is in the file of the one test that says so. */
const cost = { n: 2, r: 1, p: 1 };
const sealedWith = (passphrase: string): Wish => ({ protection: "passphrase", passphrase, cost });

/** A keychain in memory, of a machine that outlives its processes. */
function memoryKeychain(): Keychain & { readonly held: Map<string, string> } {
  const held = new Map<string, string>();
  const name = (service: string, account: string) => `${service}/${account}`;
  return {
    held,
    read: async (service, account) => held.get(name(service, account)) ?? null,
    write: async (service, account, secret) => void held.set(name(service, account), secret),
    remove: async (service, account) => void held.delete(name(service, account)),
  };
}

const knowing = (passphrase: string | undefined, keychain = memoryKeychain()): Unlock => ({
  passphrase: async () => passphrase,
  keychain: async () => keychain,
});

interface Options {
  readonly disk?: Disk;
  readonly unlock?: Unlock;
  readonly hasData?: boolean;
}
const openKey = (home: string, { disk = realDisk, unlock = knowing(undefined), hasData = false }: Options = {}) =>
  openStoreKey({ disk, home, random, unlock, hasData, opens: (key) => opensVault(disk, home, key) });

/** A home's key, vault, secrets and journal, as a node opens them. */
async function openHome(home: string, options: Options = {}) {
  const { disk = realDisk } = options;
  const storeKey = await openKey(home, options);
  const vault = await openVault(disk, home, storeKey.key, random, 0);
  const secrets = new Secrets(vault, random);
  const journal = await Journal.open({
    disk,
    directory: join(home, "journal"),
    ready: () => secrets.certain(),
    onCommit: (commit) => secrets.recover(commit),
  });
  onTestFinished(() => journal.close());
  return {
    storeKey,
    vault,
    secrets,
    journal,
    async commit(name: string) {
      const patch = { [name]: name };
      const sealing = secrets.decide(patch);
      await journal.append({ at: 1, entries: [{ stream: "a/b", event: { type: "MOVED" } }], ...sealing });
      secrets.confirm(patch);
    },
    change: (wish: Wish) =>
      storeKey.change(wish, {
        get key() {
          return secrets.storeKey;
        },
        settle: () => journal.exclusive(() => secrets.certain()),
        reseal: (key) => journal.exclusive(() => secrets.turnEpoch(journal.head, 1, key)),
      }),
  };
}

describe("the store key", () => {
  it.each([0o000, 0o022, 0o077, 0o777])(
    "is made once and is its owner's alone, whatever the umask (%o)",
    async (umask) => {
      const home = await temporaryDirectory();
      const before = process.umask(umask);
      let made: Uint8Array;
      try {
        made = (await openKey(home)).key;
      } finally {
        process.umask(before);
      }
      expect(made.length).toBe(32);
      expect((await stat(path(home))).mode & 0o777).toBe(0o600);
      expect((await openKey(home, { hasData: true })).key).toEqual(made);
      expect(await readdir(home)).toEqual(["store.key"]);
    },
  );

  it("two processes that make it at the same moment get the same one", async () => {
    const home = await temporaryDirectory();
    const keys = await Promise.all(Array.from({ length: 8 }, () => openKey(home)));
    expect(new Set(keys.map(({ key }) => Buffer.from(key).toString("hex"))).size).toBe(1);
  });

  it("missing beside sealed data is an error: a new key would be a new identity", async () => {
    const home = await temporaryDirectory();
    await expect(openKey(home, { hasData: true })).rejects.toMatchObject({ code: "store_key_unreadable" });
    expect(await readdir(home)).toEqual([]);
  });

  const passphraseFile = (over: object) =>
    `kars-mesh-store-key-passphrase-v1:${JSON.stringify({ n: 2, r: 1, p: 1, salt: "AAAA", sealed: "AAAA", ...over })}`;
  it.each([
    "",
    "nonsense",
    "kars-mesh-store-key-v1:",
    "kars-mesh-store-key-v1:c2hvcnQ",
    "kars-mesh-store-key-v2:AAAA",
    "kars-mesh-store-key-passphrase-v1:{}",
    // What would take the machine's memory, or its time.
    passphraseFile({ n: 2 ** 30, r: 8 }),
    passphraseFile({ r: 2 ** 24 }),
    passphraseFile({ p: 1_000_000 }),
    passphraseFile({ n: 3 }),
    'kars-mesh-store-key-keychain-v1:{"service":""}',
  ])("a file that holds no key is an error and is left as it is (%s)", async (content) => {
    const home = await temporaryDirectory();
    await writeFile(path(home), content);
    for (const hasData of [true, false])
      await expect(openKey(home, { hasData, unlock: knowing("whatever") })).rejects.toMatchObject({
        code: "store_key_unreadable",
      });
    expect(await readFile(path(home), "utf8")).toBe(content);
  });

  it("one that cannot be read is an error", async () => {
    const home = await temporaryDirectory();
    const disk = diskWith({}, { read: () => Promise.reject(new Error("EACCES: permission denied")) });
    await expect(openKey(home, { disk, hasData: true })).rejects.toMatchObject({
      code: "store_key_unreadable",
      message: expect.stringContaining("permission denied"),
    });
  });
});

describe("a key under a passphrase", () => {
  it("opens with that passphrase, whichever way its letters are composed, and says when it is another or none", async () => {
    const home = await temporaryDirectory();
    const { change, vault } = await openHome(home);
    await change(sealedWith("Grüße aus Köln"));
    const open = (passphrase?: string) => openKey(home, { hasData: true, unlock: knowing(passphrase) });
    expect((await open("Grüße aus Köln".normalize("NFD"))).key).toEqual(vault.key);
    await expect(open("Grüße aus Bonn")).rejects.toMatchObject({ code: "passphrase_wrong" });
    await expect(open()).rejects.toMatchObject({
      code: "passphrase_needed",
      message: expect.stringContaining("KARS_MESH_PASSPHRASE"),
    });
    expect(await describeStoreKey(realDisk, home)).toEqual({ protection: "passphrase", changing: false });
  });

  it("costs 2^17 rounds of scrypt unless a test makes it cheap, with a salt of its own each time", async () => {
    const home = await temporaryDirectory();
    const { change } = await openHome(home);
    const texts: string[] = [];
    for (const _ of [1, 2]) {
      await change({ protection: "passphrase", passphrase: "the same words" });
      texts.push(await readFile(path(home), "utf8"));
    }
    for (const text of texts) expect(text).toContain('"n":131072,"r":8,"p":1');
    const salts = texts.map((text) => /"salt":"([^"]+)"/.exec(text)?.[1]);
    expect(new Set(salts).size).toBe(2);
  });

  it.each(["", "short", "x".repeat(1025)])(
    "a passphrase that is too short or too long changes nothing (%#)",
    async (passphrase) => {
      const home = await temporaryDirectory();
      const { change } = await openHome(home);
      const before = await filesBelow(home);
      await expect(change({ protection: "passphrase", passphrase })).rejects.toMatchObject({ code: "input_invalid" });
      expect(await filesBelow(home)).toEqual(before);
    },
  );
});

describe("changing the store key", () => {
  it("an old copy of the key opens nothing any more, and the epoch of before is unreadable", async () => {
    const home = await temporaryDirectory();
    const keychain = memoryKeychain();
    const unlock = knowing("correct horse", keychain);
    const { change, commit, storeKey, journal } = await openHome(home, { unlock });
    const wishes: Wish[] = [
      { protection: "file" },
      sealedWith("correct horse"),
      { protection: "keychain" },
      { protection: "keychain" },
      { protection: "file" },
    ];
    for (const [index, wish] of wishes.entries()) {
      const old = storeKey.key;
      await commit(`before ${index}`);
      await change(wish);
      expect(storeKey.protection).toBe(wish.protection);
      expect(await opensVault(realDisk, home, old)).toBe(false);
      expect(await readdir(home)).toEqual(["journal", "store.key", "vault"]);
      // What the keychain held of the key before is gone with it.
      expect(keychain.held.size).toBe(wish.protection === "keychain" ? 1 : 0);
    }
    await journal.close();
    const { secrets } = await openHome(home);
    for (const index of wishes.keys()) expect(secrets.get(`before ${index}`)).toBe(`before ${index}`);
  });

  it("loses no commit that is made meanwhile", async () => {
    const home = await temporaryDirectory();
    const { change, commit, journal } = await openHome(home);
    const names = Array.from({ length: 60 }, (_, index) => `n${index}`);
    await Promise.all([
      ...names.slice(0, 20).map(commit),
      change({ protection: "file" }),
      ...names.slice(20, 40).map(commit),
      change({ protection: "file" }).catch((error: unknown) => expect(error).toBeUndefined()),
      ...names.slice(40).map(commit),
    ]);
    await journal.close();
    const { secrets } = await openHome(home);
    expect(names.filter((name) => secrets.get(name) !== name)).toEqual([]);
  });

  const CHANGES: readonly (readonly [string, Wish, Wish])[] = [
    ["file to file", { protection: "file" }, { protection: "file" }],
    ["file to passphrase", { protection: "file" }, sealedWith("the new words")],
    ["passphrase to passphrase", sealedWith("the old words"), sealedWith("the new words")],
    ["passphrase to keychain", sealedWith("the old words"), { protection: "keychain" }],
    ["keychain to file", { protection: "keychain" }, { protection: "file" }],
  ];
  it.each(CHANGES)("a process that dies at any step of it leaves a home that opens: %s", async (_, from, to) => {
    for (let step = 1; ; step++) {
      const home = await temporaryDirectory();
      const keychain = memoryKeychain();
      const first = await openHome(home, { unlock: knowing("the old words", keychain) });
      await first.change(from);
      await first.commit("acknowledged");
      await first.journal.close();
      const disk = killedAt(step);
      let isDone = false;
      try {
        const dying = await openHome(home, { disk, unlock: knowing("the old words", keychain) });
        await dying.change(to);
        isDone = true;
        await dying.commit("after");
      } catch (error) {
        if (!disk.wasKilled()) throw error;
      }
      // Whoever comes next knows one of the two passphrases; where both are in play, one of them opens.
      const opened = [];
      for (const passphrase of ["the old words", "the new words"]) {
        const unlock = knowing(passphrase, keychain);
        try {
          const again = await openHome(home, { unlock });
          expect(again.secrets.get("acknowledged"), `${passphrase}, step ${step}`).toBe("acknowledged");
          await again.commit(`by ${passphrase}`);
          await again.journal.close();
          opened.push(passphrase);
        } catch (error) {
          expect(error, `${passphrase}, step ${step}`).toMatchObject({ code: "passphrase_wrong" });
        }
      }
      expect(opened, `step ${step}`).not.toEqual([]);
      if (isDone && to.protection === "passphrase") expect(opened).toEqual(["the new words"]);
      // The change is finished or undone, and nothing of the other key is left.
      expect((await readdir(home)).filter((name) => name !== "journal" && !name.endsWith(".tmp"))).toEqual([
        "store.key",
        "vault",
      ]);
      const { protection } = (await describeStoreKey(realDisk, home)) ?? {};
      expect([from.protection, to.protection]).toContain(protection);
      if (!disk.wasKilled()) break;
    }
  });

  it("one that the disk refuses half-way is finished or undone by the next one", async () => {
    // The n-th replacement fails, after it took its place (its directory could not be made durable) or before.
    for (const isThere of [false, true]) {
      for (let failing = 1; failing <= 3; failing++) {
        const home = await temporaryDirectory();
        let left = Number.POSITIVE_INFINITY;
        const disk = diskWith(
          {},
          {
            replace: async (file, bytes) => {
              if (--left !== 0) return realDisk.replace(file, bytes);
              if (isThere) await realDisk.replace(file, bytes);
              throw noSpace();
            },
          },
        );
        const { change, commit, journal, storeKey } = await openHome(home, { disk });
        await commit("one");
        left = failing;
        await expect(change({ protection: "file" })).rejects.toMatchObject({ code: "store_io" });
        await commit("two");
        await change({ protection: "file" });
        await commit("three");
        await journal.close();
        expect(await readdir(home)).toEqual(["journal", "store.key", "vault"]);
        const again = await openHome(home);
        expect(again.storeKey.key).toEqual(storeKey.key);
        for (const name of ["one", "two", "three"]) expect(again.secrets.get(name)).toBe(name);
      }
    }
  });

  it("a home whose key went with its machine's keychain says so, and is left as it is", async () => {
    const home = await temporaryDirectory();
    const { change, journal } = await openHome(home, { unlock: knowing(undefined) });
    await change({ protection: "keychain" });
    await journal.close();
    const before = await filesBelow(home);
    await expect(openHome(home, { unlock: knowing(undefined) })).rejects.toMatchObject({
      code: "keychain_unavailable",
    });
    expect(await filesBelow(home)).toEqual(before);
  });
});

describe("the keychain of this machine", () => {
  it("keeps a key, gives it back, and forgets it", async ({ skip }) => {
    const keychain = await openKeychain();
    const account = `test ${process.pid}`;
    const isThere = await keychain.write("kars-mesh-test", account, "probe").then(
      () => true,
      (error: unknown) => {
        expect(error).toBeInstanceOf(MeshError);
        expect(error).toMatchObject({ code: "keychain_unavailable" });
        return false;
      },
    );
    if (!isThere)
      skip("no unlocked keychain here: run under a desktop session, or dbus-run-session with gnome-keyring");
    onTestFinished(() => keychain.remove("kars-mesh-test", account));
    expect(await keychain.read("kars-mesh-test", account)).toBe("probe");
    const home = await temporaryDirectory();
    const unlock: Unlock = { passphrase: async () => undefined, keychain: openKeychain };
    const first = await openHome(home, { unlock });
    await first.commit("kept");
    await first.change({ protection: "keychain" });
    await first.journal.close();
    const again = await openHome(home, { unlock });
    expect(again.secrets.get("kept")).toBe("kept");
    expect((await filesBelow(home)).get(path(home))?.toString()).not.toContain(
      Buffer.from(again.storeKey.key).toString("base64url"),
    );
    await again.change({ protection: "file" });
    await again.journal.close();
    expect(await keychain.read("kars-mesh", "store key of nobody")).toBeNull();
  });
});
