/** Whoever recorded a connect uses it again while its owner is away. */
import { expect, it } from "vitest";
import { openReplays } from "../../src/cluster/replays.ts";
import { AUTH_SKEW_MAX_MS } from "../../src/limits.ts";
import { ACCEPTED, agent, connect, connectFrame, ids, message, openSocket, world } from "../cluster/world.ts";

const [alice, bob] = [agent("alice"), agent("bob")];

it.each([0, 1_000, AUTH_SKEW_MAX_MS])(
  "%i ms after the owner signed it: refused, and the mail waits for the owner",
  async (age) => {
    const server = await world();
    const recorded = { ...connectFrame(alice, server.clock.iso()), ...ACCEPTED };
    const owner = await openSocket(server);
    owner.send(recorded);
    await owner.next();
    await owner.close();
    const sender = await connect(server, bob, ACCEPTED);
    sender.send(message(alice, "m1"));
    await sender.next();
    server.clock.time += age;
    const thief = await openSocket(server);
    thief.send(recorded);
    expect(await thief.next()).toMatchObject({ type: "error", code: "connect_refused" });
    expect(await thief.ended).toBe(4007);
    const back = await connect(server, alice, ACCEPTED);
    expect(ids([await back.next()])).toEqual(["m1"]);
  },
);

it("a connect that signed a time to come is refused for as long as it is good", async () => {
  const server = await world();
  const recorded = { ...connectFrame(alice, server.clock.iso(AUTH_SKEW_MAX_MS)), ...ACCEPTED };
  const owner = await openSocket(server);
  owner.send(recorded);
  await owner.next();
  await owner.close();
  server.clock.time += 2 * AUTH_SKEW_MAX_MS;
  await (await connect(server, bob, ACCEPTED)).close();
  const thief = await openSocket(server);
  thief.send(recorded);
  expect(await thief.ended).toBe(4007);
});

it("what cannot be used any more is forgotten, and what is remembered is bounded", () => {
  let time = 0;
  const replays = openReplays(() => time, 3);
  for (const stamp of ["a", "b", "c", "d"]) replays.remember("did", stamp, time);
  expect(["a", "b", "c", "d"].map((stamp) => replays.isKnown("did", stamp))).toEqual([false, true, true, true]);
  time = AUTH_SKEW_MAX_MS + 1;
  replays.remember("did", "e", time);
  expect(["b", "c", "d", "e"].map((stamp) => replays.isKnown("did", stamp))).toEqual([false, false, false, true]);
});
