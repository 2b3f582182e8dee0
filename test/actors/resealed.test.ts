import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { call, filtered, openWorld } from "./world.ts";

const PATIENCE = { timeoutMs: 20_000, signal: new AbortController().signal, concerns: () => true };

it("a message whose session is refused while the relay holds its frame arrives all the same, and once", async () => {
  const world = await openWorld();
  const bob = await world.open("bob");
  const { did } = await call(bob, "whoami", {});
  await bob.close();
  const to = did ?? "";

  // The first knock is lost on the way, and the relay's word that it has the message is lost on the way back.
  const knocks: string[] = [];
  const frames: { readonly id: string; readonly message_id?: string }[] = [];
  const sent = Promise.withResolvers<void>();
  let isFirst = true;
  const alice = await world.open(
    "alice",
    filtered((frame, direction) => {
      if (frame.type === "knock" && direction === "out") {
        knocks.push(String(frame.id));
        return !isFirst;
      }
      if (frame.type === "message" && direction === "out") {
        frames.push({ id: String(frame.id), ...(frame.message_id ? { message_id: String(frame.message_id) } : {}) });
      }
      if (frame.type === "accepted" && isFirst) {
        sent.resolve();
        return false;
      }
      return true;
    }),
  );
  await call(alice, "send", { to, message: "hello", id: "m1" });
  await sent.promise;
  isFirst = false;
  await alice.knocks.onReject({
    v: 1,
    type: "knock_reject",
    from: to,
    to: "",
    id: "r",
    knock_id: knocks[0] ?? "",
  });
  expect(await call(alice, "sent", { to, id: "m1", wait_ms: 20_000 })).toMatchObject({ state: "sent" });
  expect(frames).toEqual([{ id: "m1" }, { id: expect.not.stringMatching("m1"), message_id: "m1" }]);

  const again = await world.open("bob");
  expect(await until(again, () => again.core.link.caughtUp, PATIENCE)).toBe(true);
  const { messages } = await call(again, "await", { from: [(await call(alice, "whoami", {})).did ?? ""] });
  expect(messages).toMatchObject([{ id: "m1", body: "hello" }]);
  await call(alice, "send", { to, message: "and more", id: "m2" });
  const later = await call(again, "await", { from: [messages[0]?.from ?? ""] });
  expect(later.messages).toMatchObject([{ id: "m2", body: "and more" }]);
});

it("so do hundreds of them", async () => {
  const world = await openWorld();
  const bob = await world.open("bob");
  const { did } = await call(bob, "whoami", {});
  await bob.close();
  const to = did ?? "";

  const count = 300;
  const words = Array.from({ length: count }, (_, index) => `m${index}`);
  const knocks: string[] = [];
  let left = count;
  const allSent = Promise.withResolvers<void>();
  let isFirst = true;
  const alice = await world.open(
    "alice",
    filtered((frame, direction) => {
      if (frame.type === "knock" && direction === "out") {
        knocks.push(String(frame.id));
        return !isFirst;
      }
      if (frame.type === "message" && direction === "out" && --left === 0) allSent.resolve();
      // Of the first frames, which go by the messages' own ids, nobody says that the relay has them.
      return !(frame.type === "accepted" && words.includes(String(frame.id)));
    }),
  );
  await Promise.all(words.map((id) => call(alice, "send", { to, message: id, id })));
  await allSent.promise;
  isFirst = false;
  const reject = { v: 1, type: "knock_reject", from: to, to: "", id: "r" } as const;
  await alice.knocks.onReject({ ...reject, knock_id: knocks[0] ?? "" });
  await call(alice, "settle", { wait_ms: 20_000 });

  const again = await world.open("bob");
  const received = () => [...again.core.messages.received()].map(({ id }) => id);
  expect(await until(again, () => received().length === count, PATIENCE)).toBe(true);
  expect(received()).toEqual(words);
});
