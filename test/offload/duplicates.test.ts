/** The same errand twice: while one goes on, it is the one that is meant. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, it } from "vitest";
import type { MeshNode } from "../../src/actors/node.ts";
import { call, openNode, openWorld, type World } from "../actors/world.ts";

let world: World;
let laptop: MeshNode;
let controller: string;

beforeEach(async () => {
  world = await openWorld();
  controller = (await world.open("controller")).core.keyring.identity.did;
  laptop = await openNode({ home: world.home("laptop") });
  laptop.start();
  const { relayUrl, url } = world.server;
  await laptop.membership.join({
    controller,
    cluster: "test",
    relayUrl,
    registryUrl: url,
    name: "laptop",
    capabilities: [],
  });
});

const file = (name: string, words: string) => {
  const path = join(world.directory, name);
  writeFileSync(path, words);
  return path;
};
const ask = (task: string, files: string[] = [], more: object = {}) =>
  call(laptop, "offload", { task, files, ...more });

it("is known by its task, its files and whom it is for, and begun once more when that is wanted", async () => {
  const data = file("data.txt", "one");
  const first = await ask("count", [data]);
  expect(first.duplicate).toBe(false);
  expect(await ask("count", [data])).toMatchObject({ offload_id: first.offload_id, duplicate: true });
  const others = [
    await ask("count again", [data]),
    await ask("count", [data], { capability: "gpu" }),
    await ask("count", [data], { to: "box" }),
    await ask("count", []),
    await ask("count", [file("other.txt", "one")]),
    await ask("count", [file("data.txt", "two")]),
    await ask("count", [file("data.txt", "one")], { force: true }),
  ];
  expect(new Set([first, ...others].map(({ offload_id }) => offload_id)).size).toBe(8);
  expect(others.map(({ duplicate }) => duplicate)).toEqual(others.map(() => false));
});

it("is no duplicate of one that has ended", async () => {
  const first = await ask("count");
  await call(laptop, "offload_cancel", { id: first.offload_id });
  expect((await ask("count")).offload_id).not.toBe(first.offload_id);
});

it("is found among those that are asked for at the same moment", async () => {
  const asked = await Promise.all(Array.from({ length: 5 }, () => ask("count", [file("data.txt", "one")])));
  expect(new Set(asked.map(({ offload_id }) => offload_id)).size).toBe(1);
  expect(asked.map(({ duplicate }) => duplicate)).toEqual([false, true, true, true, true]);
});

it("is known after a restart", async () => {
  const { offload_id: id } = await ask("count");
  await laptop.close();
  laptop = await openNode({ home: world.home("laptop") });
  expect(await ask("count")).toMatchObject({ offload_id: id, duplicate: true });
});
