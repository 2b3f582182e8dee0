import { mkdir, realpath, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { resolveFiles } from "../../src/plugin/files.ts";
import { temporaryFolder } from "./world.ts";

const ANY = { uploadRoots: undefined, limits: {} };

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
  expect(
    await resolveFiles(["a.txt", ".env", "../other/b.txt"], { workspaceDir: workspace }, { ...ANY, home }),
  ).toEqual([join(workspace, "a.txt"), join(workspace, ".env"), join(root, "other", "b.txt")]);
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
    resolveFiles([join(file.startsWith("/") ? "/" : root, file)], { workspaceDir: workspace }, { ...ANY, home }),
  ).rejects.toThrow(message);
});

it("takes what lies elsewhere also before there is a workspace", async () => {
  const { root, home } = await place();
  const b = join(root, "other", "b.txt");
  expect(await resolveFiles([b], { workspaceDir: join(root, "none") }, { ...ANY, home })).toEqual([b]);
});

it("keeps to the workspace an agent that is kept to it", async () => {
  const { root, workspace, home } = await place();
  const file = join(root, "other", "b.txt");
  for (const confined of [{ sandboxed: true }, { fsPolicy: { workspaceOnly: true } }]) {
    const context = { workspaceDir: workspace, ...confined };
    await expect(resolveFiles([file], context, { ...ANY, home })).rejects.toThrow(/lies outside the workspace/);
    expect(await resolveFiles(["a.txt"], context, { ...ANY, home })).toEqual([join(workspace, "a.txt")]);
  }
});

it("takes from outside of the workspace only what lies in an upload root, where the person named some", async () => {
  const { root, workspace, home } = await place();
  await mkdir(join(root, "other", ".git"));
  await writeFile(join(root, "other", ".git", "config"), "");
  const take = (file: string, uploadRoots: string[]) =>
    resolveFiles([join(root, file)], { workspaceDir: workspace }, { ...ANY, home, uploadRoots });
  const b = join(root, "other", "b.txt");
  expect(await take("other/b.txt", [join(root, "none"), join(root, "other")])).toEqual([b]);
  await expect(take("other/b.txt", [])).rejects.toThrow(
    /outside the workspace and the folders of uploadRoots \(none\)/,
  );
  await expect(take("other/b.txt", [join(root, "oth")])).rejects.toThrow(/uploadRoots/);
  await expect(take("other/.git/config", [join(root, "other")])).rejects.toThrow(/is hidden/);
  // A hidden folder that was named is meant; the node's own never is.
  expect(await take(".ssh/key", [join(root, ".ssh")])).toEqual([join(root, ".ssh", "key")]);
  await expect(take("workspace/mesh/vault", [home])).rejects.toThrow(/belongs to the mesh node itself/);
  expect(await take("workspace/a.txt", [])).toEqual([join(workspace, "a.txt")]);
});

it("takes no more files, and no larger ones, than the person allows", async () => {
  const { root, workspace, home } = await place();
  const take = (limits: object) =>
    resolveFiles(["a.txt", join(root, "other", "b.txt")], { workspaceDir: workspace }, { ...ANY, home, limits });
  expect(await take({ filesPerOffload: 2, megabytesPerOffload: 0.001 })).toHaveLength(2);
  await expect(take({ filesPerOffload: 1 })).rejects.toThrow(/2 are given, and one offload takes at most 1/);
  await expect(take({ megabytesPerOffload: 0.00001 })).rejects.toThrow(/file_too_large|together 26 bytes.*0\.00001 MB/);
});
