import { expect, it } from "vitest";
import { realClock } from "../../src/actors/ports.ts";
import { rulesFor } from "../../src/cluster/runner/rules.ts";
import { Sandboxes, type SandboxHooks } from "../../src/cluster/sandboxes.ts";
import { realDisk } from "../../src/store/disk.ts";
import { temporaryDirectory } from "../store/disks.ts";

const DID = "did:mesh:00000000000000000000000000000000";

it("a sandbox that is ended while its folder is being made does not begin behind its end", async () => {
  const disk = Promise.withResolvers<void>();
  const running = new Set<string>();
  const sandboxes = new Sandboxes({
    disk: { ...realDisk, makeDirectory: (path) => disk.promise.then(() => realDisk.makeDirectory(path)) },
    clock: realClock,
    directory: await temporaryDirectory(),
    backend: {
      spawn: async ({ run }, { exited }) => {
        running.add(run);
        const end = () => {
          running.delete(run);
          exited(null);
        };
        return { pid: null, end };
      },
    },
    cluster: () => ({
      controller: DID,
      cluster: "test",
      relay_url: "ws://127.0.0.1:1",
      registry_url: "http://127.0.0.1:1",
      runner: null,
      rules: rulesFor(null),
      policy: null,
    }),
    standing: { serve: () => Promise.reject(new Error("none stands")), end: async () => undefined, has: () => false },
  });
  const nothing = () => undefined;
  const hooks: SandboxHooks = { starting: nothing, ready: nothing, failed: nothing, told: nothing, exited: nothing };
  const wanted = {
    laptop: DID,
    grant: "laptop",
    name: "box",
    capabilities: [],
    timeoutMinutes: 1,
    taskHash: null,
    isStanding: false,
  };
  const spawned = sandboxes.spawn("run", wanted, hooks);
  const stopped = sandboxes.stop("run");
  disk.resolve();
  await spawned;
  expect(await stopped).toBe(true);
  expect([...running]).toEqual([]);
});
