/** A laptop that lets go of a plain relay and comes back at once: the relay has let go of the connection before. */
import { expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import type { Network } from "../../src/actors/ports.ts";
import { LINK_FAREWELL_MS } from "../../src/limits.ts";
import { Laptop } from "../scenarios/laptop.ts";
import { openLocal, openStandIns } from "../scenarios/stage.ts";

/** A network that tells when it dials and when a connection is closed. @param hears whether anybody is told that one is closed */
function told(hears: boolean): { readonly happened: string[]; readonly network: Network } {
  const happened: string[] = [];
  const dial: Network["dial"] = (url, events) => {
    happened.push("dialed");
    return realNetwork.dial(url, {
      ...events,
      closed: (code, reason) => {
        if (!hears) return;
        happened.push("closed");
        events.closed(code, reason);
      },
    });
  };
  return { happened, network: { ...realNetwork, dial } };
}

const online = (laptop: Laptop) =>
  laptop.until(
    () => "its link to be up",
    () => laptop.node.core.link.online,
  );

it("a plain relay is not dialed before that connection is closed", async () => {
  const { happened, network } = told(true);
  const laptop = await Laptop.open(await openStandIns(), { network });
  await online(laptop);
  for (let round = 0; round < 3; round++) {
    laptop.leave();
    laptop.comeBack();
    await online(laptop);
  }
  expect(happened).toEqual(["dialed", ...Array(3).fill(["closed", "dialed"]).flat()]);
});

it("one that closes nothing is dialed again after a second", async () => {
  const { happened, network } = told(false);
  const stage = await openStandIns();
  const laptop = await Laptop.open(stage, { network });
  await online(laptop);
  laptop.leave();
  laptop.comeBack();
  expect(happened).toEqual(["dialed"]);
  await stage.clock.passes(LINK_FAREWELL_MS);
  await online(laptop);
  expect(happened).toEqual(["dialed", "dialed"]);
});

it("a laptop that leaves for good meanwhile dials nobody", async () => {
  const { happened, network } = told(false);
  const stage = await openStandIns();
  const laptop = await Laptop.open(stage, { network });
  await online(laptop);
  laptop.leave();
  laptop.comeBack();
  laptop.leave();
  await stage.clock.passes(2 * LINK_FAREWELL_MS);
  expect(happened).toEqual(["dialed"]);
});

it("a relay of ours is dialed at once, because there the newest connection stands", async () => {
  const { happened, network } = told(false);
  const laptop = await Laptop.open(await openLocal(), { network });
  await online(laptop);
  laptop.leave();
  laptop.comeBack();
  await online(laptop);
  expect(happened).toEqual(["dialed", "dialed"]);
});
