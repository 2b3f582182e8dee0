import { mkdir, realpath, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { resolveFiles } from "../../src/plugin/files.ts";
import { temporaryFolder } from "./world.ts";

const NONE = { uploadRoots: [], limits: {} };

async function place() {
  const root = await realpath(await temporaryFolder());
  const [workspace, home] = [join(root, "workspace"), join(root, "workspace", "mesh")];
  for (const folder of [home, join(root, ".ssh"), join(root, "other")]) await mkdir(folder, { recursive: true });
  for (const file of ["workspace/a.txt", "workspace/.env", "workspace/mesh/vault", ".ssh/key", "other/b.txt"])
    await writeFile(join(root, file), file);
  await symlink(join(root, ".ssh", "key"), join(workspace, "link"));
  return { root, workspace, home };
}

it("resolves against the workspace of the run", async () => {
  const { workspace, home } = await place();
  const context = { workspaceDir: workspace };
  expect(await resolveFiles(["a.txt", ".env"], context, { ...NONE, home })).toEqual({
    files: [join(workspace, "a.txt"), join(workspace, ".env")],
    meant: [],
  });
});

it.each([
  ["what lies elsewhere", "other/b.txt", /files\.0: .* lies outside the workspace/],
  ["a key", ".ssh/key", /files\.0: .* lies outside the workspace/],
  ["a link to a key", "workspace/link", /lies outside the workspace/],
  ["the mesh's own secrets", "workspace/mesh/vault", /belongs to the mesh node itself/],
  ["what the system makes up", "/proc/self/environ", /is not a stored file|file_unreadable|no such file/],
  ["what is not there", "workspace/none", /no such file/],
])("refuses %s", async (_, file, message) => {
  const { root, workspace, home } = await place();
  await expect(
    resolveFiles([join(file.startsWith("/") ? "/" : root, file)], { workspaceDir: workspace }, { ...NONE, home }),
  ).rejects.toThrow(message);
});

it("keeps to the workspace an agent that is kept to it", async () => {
  const { root, workspace, home } = await place();
  const file = join(root, "other", "b.txt");
  for (const confined of [{ sandboxed: true }, { fsPolicy: { workspaceOnly: true } }]) {
    const context = { workspaceDir: workspace, ...confined };
    await expect(resolveFiles([file], context, { ...NONE, home })).rejects.toThrow(/lies outside the workspace/);
    expect(await resolveFiles(["a.txt"], context, { ...NONE, home })).toMatchObject({
      files: [join(workspace, "a.txt")],
    });
  }
});

it("takes from outside of the workspace only what lies in an upload root", async () => {
  const { root, workspace, home } = await place();
  await mkdir(join(root, "other", ".git"));
  await writeFile(join(root, "other", ".git", "config"), "");
  const take = (file: string, uploadRoots: string[]) =>
    resolveFiles([join(root, file)], { workspaceDir: workspace }, { ...NONE, home, uploadRoots });
  const b = join(root, "other", "b.txt");
  expect(await take("other/b.txt", [join(root, "none"), join(root, "other")])).toEqual({ files: [b], meant: [] });
  expect(await take("other/b.txt", [b])).toEqual({ files: [b], meant: [b] });
  await expect(take("other/b.txt", [])).rejects.toThrow(
    /outside the workspace .* and the folders of uploadRoots \(none\)/,
  );
  await expect(take("other/b.txt", [join(root, "oth")])).rejects.toThrow(/uploadRoots/);
  await expect(take("other/.git/config", [join(root, "other")])).rejects.toThrow(/is hidden/);
  // A hidden folder that was named is meant; the node's own never is.
  const key = join(root, ".ssh", "key");
  expect(await take(".ssh/key", [join(root, ".ssh")])).toEqual({ files: [key], meant: [key] });
  await expect(take(".ssh/key", [root])).rejects.toThrow(/is hidden/);
  await expect(take("workspace/mesh/vault", [home])).rejects.toThrow(/belongs to the mesh node itself/);
  expect(await take("workspace/a.txt", [])).toEqual({ files: [join(workspace, "a.txt")], meant: [] });
});

it("takes no more files, and no larger ones, than the person allows", async () => {
  const { root, workspace, home } = await place();
  const take = (limits: object) =>
    resolveFiles(
      ["a.txt", join(root, "other", "b.txt")],
      { workspaceDir: workspace },
      { uploadRoots: [root], home, limits },
    );
  expect((await take({ filesPerOffload: 2, megabytesPerFile: 1, megabytesPerOffload: 0.001 })).files).toHaveLength(2);
  await expect(take({ filesPerOffload: 1 })).rejects.toThrow(/2 are given, and one offload takes at most 1/);
  await expect(take({ megabytesPerOffload: 0.00001 })).rejects.toThrow(/file_too_large|together 26 bytes.*0\.00001 MB/);
  await writeFile(join(root, "other", "b.txt"), Buffer.alloc(1_000_001, 7));
  await expect(take({ megabytesPerFile: 1 })).rejects.toThrow(/b\.txt has more than 1 MB/);
});
