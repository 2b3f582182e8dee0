/** What a registry's answers mean to the laptop that asked, whichever program the registry is. */
import { describe, expect, it } from "vitest";
import { realClock } from "../../src/actors/ports.ts";
import { Registry } from "../../src/actors/registry.ts";
import { identityFromSeed } from "../../src/crypto/index.ts";

const IDENTITY = identityFromSeed(new Uint8Array(32).fill(7));
const MINUTE_MS = 60_000;

interface Said {
  readonly status: number;
  readonly body: unknown;
  readonly date?: number;
}
const json = (status: number, detail: string, date?: number): Said => ({
  status,
  body: { detail },
  ...(date === undefined ? {} : { date }),
});
/** What a gateway says of a path that leads nowhere. */
const PAGE: Said = { status: 404, body: "<html>404</html>" };
const RECORD: Said = { status: 200, body: { did: IDENTITY.did } };

/** A registry that gives these answers, one after the other. */
function registryThatSays(...answers: readonly Said[]): Registry {
  const left = [...answers];
  const fetch = async (): Promise<Response> => {
    const { status, body, date } = left.shift() ?? { status: 500, body: {} };
    const headers = date === undefined ? {} : { date: new Date(date).toUTCString() };
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers });
  };
  const network = { fetch, dial: () => expect.fail("nobody dials") };
  return new Registry({ network, clock: realClock, signal: new AbortController().signal }, "https://registry.test");
}

describe("a registry has forgotten an agent", () => {
  it.each([
    ["as the reference registry says to who signed a request", json(401, "Agent not registered")],
    ["as it says of the agent that a request is about", json(404, "Agent not found")],
    ["as ours says", { status: 404, body: { error: { code: "peer_unknown", message: "No agent." } } }],
  ])("%s", async (_, said) => {
    for (const ask of [
      (registry: Registry) => registry.beat(IDENTITY),
      (registry: Registry) => registry.preKeysLeft(IDENTITY),
    ])
      await expect(ask(registryThatSays(said))).rejects.toMatchObject({ code: "registry_forgot" });
    await registryThatSays(said).remove(IDENTITY);
  });

  it.each([
    ["a path that it does not have", json(404, "Not Found"), null],
    ["a page of a gateway", PAGE, null],
  ])("not where it answers with %s", async (_, said, left) => {
    expect(await registryThatSays(said).preKeysLeft(IDENTITY)).toBe(left);
  });

  it("as its record says, where it takes no heartbeats", async () => {
    for (const said of [json(404, "Not Found"), PAGE]) {
      await registryThatSays(said, RECORD).beat(IDENTITY);
      const forgetful = registryThatSays(said, json(404, "Agent not found"));
      await expect(forgetful.beat(IDENTITY)).rejects.toMatchObject({ code: "registry_forgot" });
    }
  });
});

describe("a registry refuses what was signed", () => {
  const beat = (said: Said) => registryThatSays(said).beat(IDENTITY);

  it.each([
    [62 * MINUTE_MS, "62 minutes behind"],
    [-62 * MINUTE_MS, "62 minutes ahead of"],
  ])("because of the clock: the difference is told by the Date header (%i ms)", async (ahead, words) => {
    const said = json(401, "Timestamp outside replay window", Date.now() + ahead);
    await expect(beat(said)).rejects.toMatchObject({
      code: "clock_off",
      message: expect.stringMatching(`^This machine's clock is ${words} the registry's\\. .* Set this machine's clock`),
    });
  });
  it("because of the clock, and does not tell what time it has", async () => {
    await expect(beat(json(401, "Timestamp outside replay window"))).rejects.toMatchObject({
      code: "clock_off",
      message: expect.stringMatching(/^The cluster refuses what this laptop signs/),
    });
  });
  it("for a reason of its own, which is quoted", async () => {
    await expect(beat(json(401, "Invalid signature", Date.now()))).rejects.toMatchObject({
      code: "cluster_refused",
      message: expect.stringContaining('The server answered 401 and says "Invalid signature".'),
    });
  });
});
