/** Files that look like secrets do not leave, unless they are meant. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, it } from "vitest";
import { inspectFiles } from "../../src/actors/files.ts";
import { realDisk } from "../../src/store/disk.ts";
import { temporaryDirectory } from "../store/disks.ts";

async function fileOf(name: string, words = "words"): Promise<string> {
  const path = join(await temporaryDirectory(), name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, words);
  return path;
}

it.each([
  ".env",
  ".env.production",
  "server.key",
  "chain.pem",
  "id_ed25519",
  ".netrc",
  ".npmrc",
  "credentials.json",
  "service-account-prod.json",
  "Secrets.YAML",
  "passwords.kdbx",
  ".ssh/config",
  ".aws/config",
  ".kube/config",
])("%s", async (name) => {
  const path = await fileOf(name);
  await expect(inspectFiles(realDisk, [path], [])).rejects.toMatchObject({ code: "file_secret" });
  expect(await inspectFiles(realDisk, [path], [path])).toMatchObject([{ path }]);
});

it.each([
  "-----BEGIN OPENSSH PRIVATE KEY-----\n",
  "\n-----BEGIN RSA PRIVATE KEY-----\n",
  "-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
  "PuTTY-User-Key-File-3: ssh-ed25519\n",
])("whatever begins with %j", async (words) => {
  const path = await fileOf("notes.txt", words);
  await expect(inspectFiles(realDisk, [path], [])).rejects.toThrow(/begins as a private key does.*--allow-secret/);
});

it.each([".env.example", "environment.md", "keyboard.txt", "id_ed25519.pub", "secretary.txt", "monkey.keys.md"])(
  "%s is none",
  async (name) => {
    const path = await fileOf(name, "-----BEGIN PUBLIC KEY-----");
    expect(await inspectFiles(realDisk, [path], [])).toMatchObject([{ path }]);
  },
);
