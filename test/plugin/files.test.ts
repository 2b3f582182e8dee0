import { mkdir, realpath, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { resolveFiles } from "../../src/plugin/files.ts";
import { temporaryFolder } from "./world.ts";

async function place() {
  const root = await realpath(await temporaryFolder());
  const [workspace, home] = [join(root, "workspace"), join(root, "workspace", "mesh")];
  for (const folder of [home, join(root, ".ssh"), join(root, "other")]) await mkdir(folder, { recursive: true });
  for (const file of ["workspace/a.txt", "workspace/.env", "workspace/mesh/vault", ".ssh/key", "other/b.txt"])
    await writeFile(join(root, file), file);
  await symlink(join(root, ".ssh", "key"), join(workspace, "link"));
  return { root, workspace, home };
}

it("resolves against the workspace of the run, and takes what the user keeps elsewhere", async () => {
  const { root, workspace, home } = await place();
  expect(await resolveFiles(["a.txt", ".env", "../other/b.txt"], { workspaceDir: workspace }, home)).toEqual([
    join(workspace, "a.txt"),
    join(workspace, ".env"),
    join(root, "other", "b.txt"),
  ]);
});

it.each([
  ["a key", ".ssh/key", /files\.0: .* is hidden/],
  ["a link to a key", "workspace/link", /is hidden/],
  ["the mesh's own secrets", "workspace/mesh/vault", /belongs to the mesh node itself/],
  ["what the system makes up", "/proc/self/environ", /is not a stored file|file_unreadable|no such file/],
  ["what is not there", "workspace/none", /no such file/],
])("refuses %s", async (_, file, message) => {
  const { root, workspace, home } = await place();
  await expect(
    resolveFiles([join(file.startsWith("/") ? "/" : root, file)], { workspaceDir: workspace }, home),
  ).rejects.toThrow(message);
});

it("keeps to the workspace an agent that is kept to it", async () => {
  const { root, workspace, home } = await place();
  const file = join(root, "other", "b.txt");
  for (const confined of [{ sandboxed: true }, { fsPolicy: { workspaceOnly: true } }]) {
    const context = { workspaceDir: workspace, ...confined };
    await expect(resolveFiles([file], context, home)).rejects.toThrow(/lies outside the workspace/);
    expect(await resolveFiles(["a.txt"], context, home)).toEqual([join(workspace, "a.txt")]);
  }
});
