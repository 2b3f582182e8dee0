/** A sandbox that fills the disk of the laptop that it works for. */
import { randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { OffloadFiles } from "../../src/actors/offload-files.ts";
import { FILES_MAX, RUN_LOG_SIZE_MAX } from "../../src/limits.ts";
import { parsePayload } from "../../src/wire/payload.ts";
import { openWorld } from "../actors/world.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { didOf } from "./world.ts";

/** A laptop with an offload that a sandbox, which is also one of ours, works on. */
async function openOffload() {
  const world = await openWorld();
  const [alice, sandbox] = [await world.open("alice"), await world.open("sandbox")];
  const id = randomUUID();
  const tell = (event: object) =>
    alice.core.system.commit([{ stream: `offload/${id}`, event: event as never }]).durable;
  const { body, secrets } = alice.core.bodies.seal(`offload/${id}`, JSON.stringify({ task: "t", files: [] }));
  const controller = alice.membership.current?.controller ?? "";
  const asked = { type: "REQUESTED", controller, target: {}, timeout_minutes: 1, body, files: 0, bytes: 0 };
  await alice.core.system.commit([{ stream: `offload/${id}`, event: asked as never }], { secrets }).durable;
  await tell({ type: "STATUS", phase: "ready", sandbox: "box", sandbox_did: didOf(sandbox) });
  await tell({ type: "GREETED", did: didOf(sandbox), awaits_task: false });
  const folder = await temporaryDirectory();
  const files = new OffloadFiles(alice.core, folder, 30_000_000);
  /** What becomes of an offer. */
  const place = (more: { role?: "log"; size_bytes?: number } = {}) => {
    const payload = parsePayload(
      JSON.stringify({
        type: "mesh:file_offer",
        transfer_id: randomUUID(),
        request_id: id,
        file_name: "x",
        size_bytes: 10,
        chunk_size: 524_288,
        sha256: "0".repeat(64),
        ...more,
      }),
    );
    if (payload?.type !== "mesh:file_offer") throw new Error("not an offer");
    return files.place(didOf(sandbox), payload);
  };
  return { place };
}

it("has one log, of the size that a sandbox keeps", async () => {
  const { place } = await openOffload();
  expect(await place({ role: "log", size_bytes: 480_000_000 })).toMatchObject({ refused: { code: "file_too_large" } });
  expect(await place({ role: "log", size_bytes: RUN_LOG_SIZE_MAX + 1 })).toMatchObject({
    refused: { code: "file_too_large" },
  });
  expect(await place({ role: "log", size_bytes: RUN_LOG_SIZE_MAX })).toHaveProperty("directory");
  expect(await place({ role: "log" })).toMatchObject({ refused: { code: "limit_reached" } });
});

it("has as many results as that, besides its log", async () => {
  const { place } = await openOffload();
  expect(await place({ role: "log" })).toHaveProperty("directory");
  for (let count = 0; count < FILES_MAX; count++) expect(await place()).toHaveProperty("directory");
  expect(await place()).toMatchObject({ refused: { code: "limit_reached" } });
});
