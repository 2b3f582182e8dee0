import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { openCluster } from "../../src/cluster/local.ts";
import { filesBelow, temporaryDirectory } from "../store/disks.ts";
import { call, encodingsOf, openNode } from "./world.ts";

const CANARIES = {
  "the task": "run moonshot-plan.mjs --codename perihelion",
  "a file's name": "moonshot-plan.mjs",
  "a file's name and nothing else": "ledger-of-secrets.csv",
  "a file's words": "the launch window opens on a tuesday",
  "a result's words": "verdict: the window is real",
  "a progress line": "calculating trajectories 50%",
};

it("an offload leaves no task, file name or word readable in the laptop's home, the controller's or the relay's", async () => {
  const directory = await temporaryDirectory();
  const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
  onTestFinished(() => cluster.close());
  const { token } = await cluster.call("grant_issue", {
    name: "laptop",
    slots: 1,
    capabilities: ["offload"],
    expires_ms: 3_600_000,
  });
  const home = join(directory, "home");
  const node = await openNode({ home });
  node.start();
  await call(node, "pair", { token });
  const errand = join(directory, "errand");
  await mkdir(errand);
  const script = `import { writeFileSync } from "node:fs";
    console.log("${CANARIES["a progress line"]}");
    writeFileSync("out/verdict.txt", "${CANARIES["a result's words"]}"); // ${CANARIES["a file's words"]}`;
  const paths = [CANARIES["a file's name"], CANARIES["a file's name and nothing else"]].map((name) =>
    join(errand, name),
  );
  await writeFile(paths[0] ?? "", script);
  await writeFile(paths[1] ?? "", CANARIES["a file's words"].repeat(4_000));
  const { offload_id: id } = await call(node, "offload", { task: CANARIES["the task"], files: paths });
  const done = await call(node, "offload_status", { id, wait_ms: 15_000, until_over: true });
  expect(done).toMatchObject({ status: "done", files: [{ name: "verdict.txt" }], task: CANARIES["the task"] });
  await call(node, "settle", {});
  const search = async () => {
    const results = join(home, "offloads");
    const files = [
      // The results themselves are what the person asked for, and lie open in their own folder.
      ...[...(await filesBelow(home))].filter(([path]) => !path.startsWith(results)),
      ...(await filesBelow(join(directory, "cluster", "controller"))),
      ...(await filesBelow(join(directory, "cluster", "server"))),
    ];
    expect(files.length).toBeGreaterThan(5);
    const seen = files.flatMap(([path, bytes]) =>
      Object.entries({ ...CANARIES, "the pairing token": token })
        .filter(([, text]) => encodingsOf(text).some((form) => bytes.includes(form)))
        .map(([what]) => `${what} in ${path}`),
    );
    expect(seen).toEqual([]);
  };
  await search();
  await node.close();
  await search();
});
