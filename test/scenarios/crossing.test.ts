/** Both sides knock at once, while the relay has not said yet that it has what we wrote. */
import { expect, it } from "vitest";
import { RENEW_AFTER_MS, RENEW_QUIET_MS } from "../../src/actors/limits.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { Network } from "../../src/actors/ports.ts";
import { ClientFrame, Message } from "../../src/wire/frame.ts";
import { filtered } from "../actors/world.ts";
import { comes, dealtWith } from "../attacks/world.ts";
import { Laptop, texts } from "./laptop.ts";
import { STAND_INS } from "./peers.ts";
import { openLocal, openStandIns } from "./stage.ts";

type Type = ClientFrame["type"];

/** What the relay sends us while the gate is shut waits before it, and goes through by its type. */
class Gate {
  isShut = false;
  #waiting: { readonly type: Type; readonly pass: () => void }[] = [];
  #onWaiting = Promise.withResolvers<void>();

  readonly network: Network = {
    ...realNetwork,
    dial: (url, events) =>
      realNetwork.dial(url, {
        ...events,
        received: (text) => {
          const { type } = ClientFrame.parse(JSON.parse(text.toString()));
          if (!this.isShut) return events.received(text);
          this.#waiting.push({ type, pass: () => events.received(text) });
          this.#onWaiting.resolve();
          this.#onWaiting = Promise.withResolvers();
        },
      }),
  };

  /** Resolves when so many frames of this type wait. */
  async waits(type: Type, count: number): Promise<void> {
    while (this.#waiting.filter((frame) => frame.type === type).length < count) await this.#onWaiting.promise;
  }

  /** Lets frames through, in the order in which they came. */
  pass(isMeant: (type: Type) => boolean): void {
    const meant = this.#waiting.filter(({ type }) => isMeant(type));
    this.#waiting = this.#waiting.filter((frame) => !meant.includes(frame));
    for (const { pass } of meant) pass();
  }
}

it.each(STAND_INS)("what we wrote comes once to $name", async (kind) => {
  const stage = await openLocal();
  const gate = new Gate();
  const [laptop, peer] = [await Laptop.open(stage, { network: gate.network }), await kind.open(stage)];
  const ours = texts("ours", 0, 3);
  gate.isShut = true;
  await peer.say(laptop.did, "theirs 0");
  await laptop.say(peer.did, ...ours);
  // The relay has our knock and our messages.
  await gate.waits("accepted", 1 + ours.length);
  gate.pass((type) => type !== "accepted");
  await laptop.hears(peer.did, "theirs 0");
  gate.isShut = false;
  gate.pass(() => true);
  await stage.clock.passes(3 * RENEW_QUIET_MS);
  await peer.until(() => peer.received.length >= ours.length);
  await laptop.say(peer.did, "ours 3");
  await peer.until(() => peer.received.includes("ours 3"));
  expect(peer.received).toEqual([...ours, "ours 3"]);
});

it("a message in a session that the peer has let go of does not make it the one that sends, while the next is being written down", async () => {
  const [kind] = STAND_INS;
  if (!kind) throw new Error("no kind");
  const stage = await openStandIns();
  const held: Message[] = [];
  const came = Promise.withResolvers<void>();
  let phase: "before" | "restored" | "crossing" = "before";
  const { network } = filtered((frame, direction) => {
    if (direction === "out" || frame.type !== "message" || phase === "before") return true;
    if (phase === "restored") came.resolve();
    else held.push(Message.parse(frame));
    return phase === "restored";
  });
  const [laptop, peer] = [await Laptop.open(stage, { network }), await kind.open(stage)];
  const turn = async (words: string) => {
    await peer.say(laptop.did, `theirs ${words}`);
    await laptop.hears(peer.did, `theirs ${words}`);
    await laptop.say(peer.did, `ours ${words}`);
    await peer.until(() => peer.received.includes(`ours ${words}`));
  };
  await turn("0");
  laptop.copy();
  for (const words of ["1", "2"]) await turn(words);
  await laptop.restore();
  await stage.clock.passes(RENEW_AFTER_MS);
  phase = "restored";
  await peer.say(laptop.did, "in a session that is not here any more");
  await came.promise;
  await dealtWith(laptop.node);
  await stage.clock.passes(2 * RENEW_QUIET_MS);
  phase = "crossing";
  await peer.say(laptop.did, "theirs 3");
  await laptop.until(
    () => "the peer's knock",
    () => laptop.sessions(peer.did).length === 2,
  );
  const { system } = laptop.node.core;
  const sending = () => system.decided(`conversation/${peer.did}`)?.snapshot.context.session;
  const before = sending();
  const saying = laptop.say(peer.did, "ours 3");
  // Another session is decided on, and not on the disk yet.
  while (sending() === before || sending() === null) await new Promise((resolve) => setImmediate(resolve));
  for (const frame of held) await comes(laptop.node, frame);
  phase = "before";
  await saying;
  await peer.until(() => peer.received.includes("ours 3"));
  await laptop.hears(peer.did, "theirs 3");
  await peer.say(laptop.did, "theirs 4");
  await laptop.hears(peer.did, "theirs 4");
  expect(peer.received).toEqual(texts("ours", 0, 4));
});
