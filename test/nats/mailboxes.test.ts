/** The mail in NATS where an answer of it is lost. */
import { expect, test } from "vitest";
import { openJetStreamMailboxes } from "../../src/cluster/jetstream/mailboxes.ts";
import type { Mail } from "../../src/cluster/state.ts";
import { agent } from "../cluster/world.ts";
import { threeBuses } from "./buses.ts";
import { withNats } from "./server.ts";

const alice = agent("alice").did;
const bob = agent("bob").did;

test.each([1_000, 1_000_000])("a frame of %i bytes whose answer was lost arrives whole and once", async (length) => {
  const [bus, other] = await threeBuses(await withNats());
  const mailboxes = await openJetStreamMailboxes(bus);
  const { promise, resolve } = Promise.withResolvers<Mail[]>();
  const mail: Mail[] = [];
  const feed = await (await openJetStreamMailboxes(other)).open(bob, () => {
    for (let next = feed.next(); next; next = feed.next()) mail.push(next);
    if (mail.some(({ id }) => id === "last")) resolve(mail);
  });
  const publish = bus.js.publish.bind(bus.js);
  let isLost = false;
  bus.js.publish = async (subject, ...rest) => {
    const answer = await publish(subject, ...rest);
    if (isLost || !subject.includes(".mail.")) return answer;
    isLost = true;
    throw new Error("timeout");
  };
  const frame = Buffer.alloc(length, "x");
  expect(await mailboxes.put(bob, alice, "1", length > 100_000 ? frame : frame.toString())).toBe("duplicate");
  expect(isLost).toBe(true);
  await mailboxes.put(bob, alice, "last", "behind it");
  const [first, ...others] = await promise;
  expect(Buffer.from(first?.text ?? "").equals(frame)).toBe(true);
  expect(others.map(({ id }) => id)).toEqual(["last"]);
  await feed.close();
});
