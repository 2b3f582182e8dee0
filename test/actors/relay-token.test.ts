/** The access token of a relay, as the environment has it. */
import { join } from "node:path";
import { expect, it, onTestFinished, vi } from "vitest";
import { openMesh } from "../../src/actors/mesh.ts";
import { environmentRelayToken } from "../../src/actors/relay-token.ts";
import { examine } from "../../src/inspect/doctor/doctor.ts";
import { CONNECT_TOKEN_LENGTH_MAX } from "../../src/wire/limits.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { offline } from "./world.ts";

const longest = "t".repeat(CONNECT_TOKEN_LENGTH_MAX);
const inEnvironment = (token: string) => {
  vi.stubEnv("KARS_MESH_RELAY_TOKEN", token);
  onTestFinished(() => void vi.unstubAllEnvs());
};

it("is taken without the white space around it, and is none when nothing is left", () => {
  const read = (token?: string) => environmentRelayToken({ KARS_MESH_RELAY_TOKEN: token });
  expect(read(` ${longest}\n`)).toBe(longest);
  for (const none of [undefined, "", " \n"]) expect(read(none)).toBeUndefined();
  expect(() => read(`${longest}t`)).toThrow(/has 16385 characters, and a relay takes at most 16384\. Set it to/);
});

it("that no relay would take is an error when a home is opened, and a problem for the doctor", async () => {
  const home = join(await temporaryDirectory(), "home");
  const ports = offline();
  inEnvironment(`${longest}t`);
  await expect(openMesh({ home, ports })).rejects.toMatchObject({
    code: "input_invalid",
    message: expect.stringContaining("KARS_MESH_RELAY_TOKEN has 16385 characters"),
  });
  const check = async () =>
    (await examine({ home, network: ports.network, clock: ports.clock })).checks.find(
      ({ name }) => name === "relay_token",
    );
  expect(await check()).toMatchObject({ status: "problem", message: expect.stringContaining("Set it to the access") });
  inEnvironment(longest);
  expect(await check()).toMatchObject({ status: "ok" });
  const mesh = await openMesh({ home, ports });
  await mesh.close();
  inEnvironment("");
  expect(await check()).toBeUndefined();
});
