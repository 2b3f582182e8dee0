/** A secret under another name, which somebody talks a laptop into handing over. */
import { linkSync } from "node:fs";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { inspectFiles } from "../../src/actors/files.ts";
import { realDisk } from "../../src/store/disk.ts";
import { temporaryDirectory } from "../store/disks.ts";

it.each([
  ["a file", ".env", "notes.txt"],
  ["a folder on the way", ".ssh/config", "tools/config"],
])("a link to a secret is a secret, whatever the link is called: %s", async (_, secret, named) => {
  const folder = await temporaryDirectory();
  const [target, link] = [join(folder, secret), join(folder, named)];
  await mkdir(join(folder, ".ssh"));
  await writeFile(target, "TOKEN=1");
  if (named.includes("/")) await symlink(join(folder, ".ssh"), join(folder, "tools"));
  else await symlink(target, link);
  await expect(inspectFiles(realDisk, [link], [])).rejects.toThrow(`${link}, which is ${target}, `);
  // What is meant leaves under the name that it was given, and by the path that was looked at.
  expect(await inspectFiles(realDisk, [link], [link])).toMatchObject([{ name: named.split("/").at(-1), path: target }]);
});

it("a link to a link to a secret is one too, and a link to anything else is none", async () => {
  const folder = await temporaryDirectory();
  await writeFile(join(folder, "id_rsa"), "x");
  await writeFile(join(folder, "data.csv"), "x");
  await symlink("id_rsa", join(folder, "one"));
  await symlink("one", join(folder, "two"));
  await symlink("data.csv", join(folder, "three"));
  await expect(inspectFiles(realDisk, [join(folder, "two")], [])).rejects.toMatchObject({ code: "file_secret" });
  expect(await inspectFiles(realDisk, [join(folder, "three")], [])).toMatchObject([{ name: "three" }]);
});

it("a hard link has no other name that could be seen: only its content can tell", async () => {
  const folder = await temporaryDirectory();
  await writeFile(join(folder, "id_rsa"), "-----BEGIN OPENSSH PRIVATE KEY-----\n");
  linkSync(join(folder, "id_rsa"), join(folder, "notes.txt"));
  await expect(inspectFiles(realDisk, [join(folder, "notes.txt")], [])).rejects.toThrow(/begins as a private key does/);
});
