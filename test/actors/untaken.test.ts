import { expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { call, filtered, openWorld } from "./world.ts";

it("a message whose knock could not be judged waits at the relay, also where another session cannot read it", async () => {
  const world = await openWorld();
  // Alice hears nothing, so that each of the two opens a session of its own.
  const alice = await world.open(
    "alice",
    filtered((frame, direction) => direction === "out" || (frame.type !== "knock" && frame.type !== "message")),
  );
  const { did: aliceDid } = await call(alice, "whoami", {});
  const asked = Promise.withResolvers<void>();
  let isAway = false;
  const bob = await world.open(
    "bob",
    realPorts({
      ...realNetwork,
      fetch: async (url, init) => {
        if (!isAway || !url.endsWith(`/v1/agents/${encodeURIComponent(aliceDid ?? "")}`))
          return realNetwork.fetch(url, init);
        asked.resolve();
        return new Response("{}", { status: 503 });
      },
    }),
  );
  const { did: bobDid } = await call(bob, "whoami", {});
  await call(bob, "send", { to: aliceDid ?? "", message: "from bob", id: "b1" });
  expect(await call(bob, "sent", { to: aliceDid ?? "", id: "b1", wait_ms: 10_000 })).toMatchObject({ state: "sent" });
  isAway = true;

  await call(alice, "send", { to: bobDid ?? "", message: "from alice", id: "a1" });
  expect(await call(alice, "sent", { to: bobDid ?? "", id: "a1", wait_ms: 10_000 })).toMatchObject({ state: "sent" });
  await asked.promise;
  await call(bob, "settle", { wait_ms: 1_000 });
  await bob.close();

  const again = await world.open("bob");
  const { messages } = await call(again, "await", { from: [aliceDid ?? ""], timeout_ms: 10_000 });
  expect(messages).toMatchObject([{ id: "a1", body: "from alice" }]);
});
