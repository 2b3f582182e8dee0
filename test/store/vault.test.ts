import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { type Disk, realDisk } from "../../src/store/disk.ts";
import { Journal } from "../../src/store/journal.ts";
import { seal, sealText, unseal, unsealText } from "../../src/store/seal.ts";
import { type SecretPatch, Secrets } from "../../src/store/secrets.ts";
import { openVault, type VaultDocument } from "../../src/store/vault.ts";
import { diskWith, filesBelow, killedAt, noSpace, seededRandom, temporaryDirectory } from "./disks.ts";

const random = seededRandom();
const key = random(32);

/** A home's vault, secrets and journal, as a node opens them. */
async function openHome(home: string, disk: Disk = realDisk, storeKey = key) {
  await disk.makeDirectory(home);
  const vault = await openVault(disk, home, storeKey, random, 0);
  const secrets = new Secrets(vault, random);
  const journal = await Journal.open({
    disk,
    directory: join(home, "journal"),
    ready: () => secrets.certain(),
    onCommit: (commit) => secrets.recover(commit),
  });
  onTestFinished(() => journal.close());
  return {
    vault,
    secrets,
    journal,
    async commit(patch: SecretPatch) {
      const sealing = secrets.decide(patch);
      await journal.append({ at: 1, entries: [{ stream: "a/b", event: { type: "MOVED" } }], ...sealing });
      secrets.confirm(patch);
    },
    turn: () => journal.exclusive(() => secrets.turnEpoch(journal.head, 1)),
  };
}

const sealedOf = async (home: string): Promise<{ number: number; epoch: number; sealed: string }[]> => {
  const bytes = await readFile(join(home, "journal", "000000000001.jsonl"), "utf8");
  return bytes
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const { n, k }: { n: number; k: string } = JSON.parse(line);
      const [epoch = "", sealed = ""] = k.split(".");
      return { number: n, epoch: Number(epoch), sealed };
    });
};
const epochKeyOf = ({ key: text }: VaultDocument) => new Uint8Array(Buffer.from(text, "base64"));

describe("sealing", () => {
  it("opens with its key at its place, and with nothing else", () => {
    const sealed = seal(key, Buffer.from("words"), "here", random);
    expect(Buffer.from(unseal(key, sealed, "here")).toString()).toBe("words");
    expect(() => unseal(random(32), sealed, "here")).toThrow();
    expect(() => unseal(key, sealed, "there")).toThrow();
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Uint8Array.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => unseal(key, changed, "here")).toThrow();
    }
  });
  it("never gives the same twice", () => {
    expect(sealText(key, "words", "here", random)).not.toBe(sealText(key, "words", "here", random));
  });
});

describe("the vault", () => {
  it("holds its secrets over a restart, and no plaintext of them", async () => {
    const home = await temporaryDirectory();
    const vault = await openVault(realDisk, home, key, random, 7);
    expect(vault.document).toMatchObject({ epoch: 1, position: 0, since: 7, secrets: {} });
    await vault.write({ ...vault.document, secrets: { identity: "the seed of all", deep: { list: [1, null] } } });
    const again = await openVault(realDisk, home, key, random, 9);
    expect(again.document).toEqual(vault.document);
    const bytes = (await readFile(join(home, "vault"))).toString("latin1");
    for (const canary of ["the seed", "identity", vault.document.key, epochKeyOf(vault.document)])
      expect(bytes).not.toContain(Buffer.from(canary).toString("latin1"));
    expect((await stat(join(home, "vault"))).mode & 0o777).toBe(0o600);
  });

  it("another key, a changed byte or another file is damage, and is left as it is", async () => {
    const home = await temporaryDirectory();
    await openVault(realDisk, home, key, random, 0);
    await expect(openVault(realDisk, home, random(32), random, 0)).rejects.toMatchObject({ code: "store_damaged" });
    const path = join(home, "vault");
    const bytes = await readFile(path);
    const flipped = Buffer.from(bytes);
    flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
    for (const content of [flipped, bytes.subarray(0, 30), Buffer.alloc(0), Buffer.from("{}")]) {
      await writeFile(path, content);
      await expect(openVault(realDisk, home, key, random, 0)).rejects.toMatchObject({ code: "store_damaged" });
      expect(await readFile(path)).toEqual(content);
    }
  });

  it("a write that fails leaves the old document, here and on disk", async () => {
    const home = await temporaryDirectory();
    let full = false;
    const disk = diskWith(
      {},
      { replace: (path, bytes) => (full ? Promise.reject(noSpace()) : realDisk.replace(path, bytes)) },
    );
    const vault = await openVault(disk, home, key, random, 0);
    const before = vault.document;
    full = true;
    await expect(vault.write({ ...before, epoch: 2 })).rejects.toThrow("ENOSPC");
    expect(vault.document).toEqual(before);
    expect((await openVault(realDisk, home, key, random, 0)).document).toEqual(before);
  });
});

describe("secrets", () => {
  it("are there as decided at once, by name and in the order in which they were first set", async () => {
    const { secrets } = await openHome(await temporaryDirectory());
    secrets.decide({ "k/2": "two", "k/1": { deep: [1] }, other: "x" });
    secrets.decide({ "k/3": "three", other: null });
    expect(secrets.get("k/1")).toEqual({ deep: [1] });
    expect(secrets.get("other")).toBeUndefined();
    expect(secrets.names("k/")).toEqual(["k/2", "k/1", "k/3"]);
  });

  it("what was decided and is not durable never happened", async () => {
    const { secrets, commit } = await openHome(await temporaryDirectory());
    await commit({ kept: "old", gone: "there" });
    secrets.decide({ kept: "new", added: "x", gone: null });
    secrets.rollBack();
    expect([secrets.get("kept"), secrets.get("added"), secrets.get("gone")]).toEqual(["old", undefined, "there"]);
  });

  it("come back from vault and journal, also after epochs have turned", async () => {
    const home = await temporaryDirectory();
    const first = await openHome(home);
    await first.commit({ a: "1", b: "1" });
    await first.turn();
    await first.commit({ b: "2", c: "2" });
    await first.commit({ a: null });
    await first.journal.close();
    const { secrets, journal } = await openHome(home);
    expect([secrets.get("a"), secrets.get("b"), secrets.get("c")]).toEqual([undefined, "2", "2"]);
    expect(secrets.epoch).toMatchObject({ number: 2, position: 1, commits: 2 });
    await journal.close();
  });

  it("only what is durable goes into the vault", async () => {
    const home = await temporaryDirectory();
    const { secrets, turn, commit, journal, vault } = await openHome(home);
    await commit({ a: "1" });
    secrets.decide({ a: "2" });
    await turn();
    expect(vault.document.secrets).toEqual({ a: "1" });
    expect(secrets.get("a")).toBe("2");
    await journal.close();
  });

  it("a commit's secrets open at its own number alone", async () => {
    const home = await temporaryDirectory();
    const { commit, vault, journal } = await openHome(home);
    await commit({ a: "1" });
    await journal.close();
    const [line] = await sealedOf(home);
    const epochKey = epochKeyOf(vault.document);
    expect(unsealText(epochKey, line?.sealed ?? "", "journal/1/1")).toBe('{"a":"1"}');
    expect(() => unsealText(epochKey, line?.sealed ?? "", "journal/1/2")).toThrow();
    expect(() => unsealText(epochKey, line?.sealed ?? "", "journal/2/1")).toThrow();
  });

  it("a vault that does not belong to the journal is damage, not a fresh start", async () => {
    const home = await temporaryDirectory();
    const { commit, turn, journal } = await openHome(home);
    await commit({ a: "1" });
    const old = await readFile(join(home, "vault"));
    await turn();
    await commit({ a: "2" });
    await journal.close();
    await writeFile(join(home, "vault"), old);
    await expect(openHome(home)).rejects.toMatchObject({ code: "store_damaged" });
    await rm(join(home, "vault"));
    await expect(openHome(home)).rejects.toMatchObject({ code: "store_damaged" });
  });
});

describe("the end of an epoch", () => {
  it("makes what the journal sealed before it unreadable with every key that still exists", async () => {
    const home = await temporaryDirectory();
    const { commit, turn, journal, vault } = await openHome(home);
    await commit({ ratchet: "secret of the first epoch" });
    const oldKey = epochKeyOf(vault.document);
    await turn();
    await commit({ ratchet: "secret of the second epoch" });
    await journal.close();
    const lines = await sealedOf(home);
    expect(lines.map(({ epoch }) => epoch)).toEqual([1, 2]);
    const [before, after] = lines;
    expect(unsealText(oldKey, before?.sealed ?? "", "journal/1/1")).toContain("first epoch");
    const { document } = await openVault(realDisk, home, key, random, 0);
    for (const left of [epochKeyOf(document), key])
      for (const place of ["journal/1/1", "journal/2/1"])
        expect(() => unsealText(left, before?.sealed ?? "", place)).toThrow();
    expect(unsealText(epochKeyOf(document), after?.sealed ?? "", "journal/2/2")).toContain("second epoch");
    const texts = [oldKey, Buffer.from(oldKey).toString("base64"), Buffer.from(oldKey).toString("hex"), "first epoch"];
    for (const [path, bytes] of await filesBelow(home))
      for (const text of texts) expect(bytes.includes(Buffer.from(text)), `the old key in ${path}`).toBe(false);
  });

  it("a process that dies at any step of it loses nothing that was acknowledged", async () => {
    for (let change = 1; ; change++) {
      const home = await temporaryDirectory();
      const disk = killedAt(change);
      const acknowledged: Record<string, string> = {};
      try {
        const { commit, turn, journal } = await openHome(home, disk);
        for (const value of ["1", "2", "3"]) {
          await commit({ latest: value, [`each/${value}`]: value });
          acknowledged.latest = value;
          acknowledged[`each/${value}`] = value;
          await turn();
        }
        await journal.close();
      } catch {
        // The process is dead from here on.
      }
      const again = await openHome(home);
      for (const [name, value] of Object.entries(acknowledged).filter(([name]) => name !== "latest"))
        expect(again.secrets.get(name), `${name} after change ${change}`).toBe(value);
      expect(Number(again.secrets.get("latest") ?? 0)).toBeGreaterThanOrEqual(Number(acknowledged.latest ?? 0));
      await again.commit({ after: "x" });
      await again.turn();
      await again.journal.close();
      const last = await openHome(home);
      expect(last.secrets.get("after")).toBe("x");
      await last.journal.close();
      if (!disk.wasKilled()) break;
    }
  });

  it("one that cannot be written is put off: the old epoch goes on", async () => {
    const home = await temporaryDirectory();
    let full = false;
    const disk = diskWith(
      {},
      { replace: (path, bytes) => (full ? Promise.reject(noSpace()) : realDisk.replace(path, bytes)) },
    );
    const { commit, turn, journal, secrets } = await openHome(home, disk);
    await commit({ a: "1" });
    full = true;
    await expect(turn()).rejects.toThrow("ENOSPC");
    await commit({ a: "2" });
    expect(secrets.epoch).toMatchObject({ number: 1, commits: 2 });
    await journal.close();
    const again = await openHome(home);
    expect(again.secrets.get("a")).toBe("2");
    await again.journal.close();
  });
});
