/** What holds between one of ours and a plain peer, of whichever kind. */
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { RENEW_AFTER_MS, RENEW_QUIET_MS } from "../../src/actors/limits.ts";
import { ClientFrame, Knock, type RoutedFrame } from "../../src/wire/frame.ts";
import { filtered } from "../actors/world.ts";
import { comes, dealtWith } from "../attacks/world.ts";
import { drain, Laptop, type LaptopOptions, texts } from "./laptop.ts";
import type { PeerKind, PlainPeer } from "./peers.ts";
import type { OpenStage, Stage } from "./stage.ts";

const MESSAGES = 60;
const HALF = MESSAGES / 2;
/** A text whose frame is smaller than what the smallest client takes (1 MiB). */
const large = (of: string) => texts(of, 0, 3).map((text) => text.padEnd(250_000, "."));

interface Meeting {
  readonly stage: Stage;
  readonly laptop: Laptop;
  readonly peer: PlainPeer;
}

async function meet(open: OpenStage, kind: PeerKind, options: LaptopOptions = {}): Promise<Meeting> {
  const stage = await open();
  const [laptop, peer] = await Promise.all([Laptop.open(stage, options), kind.open(stage)]);
  return { stage, laptop, peer };
}

/** Why a scenario is left out: ids of prekeys begin anew with each process of the client, which acks no knocks. */
const STALE_KNOCK =
  "the relay gives the restarted client our first knock again, which uses up one of its new one-time prekeys";

/** Why a scenario is left out: it needs a peer that reads us when we open the session. */
const UNREAD = "this peer reads nothing of ours before it has spoken";

const NEVER_AWAY = "this peer does not leave the relay without losing its sessions";
/** How a message stands that the relay lost: nobody tells us, and we do not say that it arrived. */
const MAYBE_LOST = ["sent", "uncertain"];
const NO_RESTART = "no command is given that restarts the relay";

/** Who says the first word, which opens the session. */
type Opener = "we" | "the peer";

/** The session is there, and each side has shown that it holds it. */
async function begin({ laptop, peer }: Meeting, opener: Opener): Promise<void> {
  const ours = async () => {
    await laptop.say(peer.did, "ours 0");
    await peer.until(() => peer.received.includes("ours 0"));
  };
  const theirs = async () => {
    await peer.say(laptop.did, "theirs 0");
    await laptop.heard(peer.did, 1);
  };
  for (const say of opener === "we" ? [ours, theirs] : [theirs, ours]) await say();
}

/** Both say these at once. Resolves when each has what the other said. */
async function exchange({ laptop, peer }: Meeting, from: number, to: number): Promise<void> {
  await Promise.all([
    laptop.say(peer.did, ...texts("ours", from, to)),
    peer.say(laptop.did, ...texts("theirs", from, to)),
  ]);
  await Promise.all([laptop.heard(peer.did, to), peer.until(() => peer.received.length >= to)]);
}

/** Each side has all that the other said, once and in order. */
async function expectAll({ laptop, peer }: Meeting, count = MESSAGES): Promise<void> {
  expect(peer.received).toEqual(texts("ours", 0, count));
  expect(await laptop.read(peer.did)).toEqual(texts("theirs", 0, count));
}

/** Messages flow both ways: both sides say something, and hear what the other said. */
async function expectFlow({ laptop, peer }: Meeting, words: string): Promise<void> {
  const [ours, theirs] = [`ours ${words}`, `theirs ${words}`];
  await laptop.say(peer.did, ours);
  await peer.until(() => peer.received.includes(ours));
  await peer.say(laptop.did, theirs);
  await laptop.hears(peer.did, theirs);
}

/** Frames of a peer that are kept from us for a while, as if they were still on their way. */
class Held {
  from: string | undefined;
  readonly accepted = Promise.withResolvers<void>();
  readonly #frames: RoutedFrame[] = [];
  #isOver = false;

  /** Whether a frame is kept from us. */
  holds(json: Readonly<Record<string, unknown>>): boolean {
    if (this.#isOver || this.from === undefined || json.from !== this.from) return false;
    const frame = ClientFrame.parse(json);
    if (frame.type === "connected" || frame.type === "accepted" || frame.type === "error") return false;
    this.#frames.push(frame);
    if (frame.type === "knock_accept") this.accepted.resolve();
    return true;
  }

  /** They come, in their order. */
  async release({ node }: Laptop): Promise<void> {
    this.#isOver = true;
    for (const frame of this.#frames) await comes(node, frame);
  }
}

export function withPlainPeer(open: OpenStage, kind: PeerKind): void {
  const openers: readonly Opener[] = kind.readsOurOpening ? ["we", "the peer"] : ["the peer"];

  describe(`with ${kind.name}`, () => {
    describe.each(openers)("whom %s spoke to first", (opener) => {
      it.each([true, false])(`${MESSAGES} messages each way (with one-time prekeys: %s)`, async (withOneTime) => {
        const meeting = await meet(open, kind);
        const { stage, laptop, peer } = meeting;
        if (!withOneTime) for (const { did } of [laptop, peer]) await drain(stage, did);
        await begin(meeting, opener);
        await exchange(meeting, 1, MESSAGES);
        await expectAll(meeting);
        const [session, ...others] = laptop.sessions(peer.did);
        expect(others).toEqual([]);
        expect(session?.otk === null).toBe(!withOneTime);
      });

      it("our process ends and another one begins, with messages on their way", async () => {
        const meeting = await meet(open, kind);
        const { laptop, peer } = meeting;
        await begin(meeting, opener);
        await exchange(meeting, 1, HALF);
        await laptop.close();
        await peer.say(laptop.did, ...texts("theirs", HALF, HALF + 10));
        await laptop.again();
        await Promise.all([
          laptop.say(peer.did, ...texts("ours", HALF, MESSAGES)),
          peer.say(laptop.did, ...texts("theirs", HALF + 10, MESSAGES)),
        ]);
        await Promise.all([laptop.heard(peer.did, MESSAGES), peer.until(() => peer.received.length >= MESSAGES)]);
        await expectAll(meeting);
      });

      it("messages of 250 kB each way", async () => {
        const meeting = await meet(open, kind);
        const { laptop, peer } = meeting;
        await begin(meeting, opener);
        await Promise.all([laptop.say(peer.did, ...large("to the peer")), peer.say(laptop.did, ...large("to us"))]);
        await Promise.all([laptop.heard(peer.did, 4), peer.until(() => peer.received.length >= 4)]);
        expect(peer.received.slice(1)).toEqual(large("to the peer"));
        expect((await laptop.read(peer.did)).slice(1)).toEqual(large("to us"));
      });

      it("5 MB are refused at once, with what to do, and nothing of them is sent", async () => {
        const meeting = await meet(open, kind);
        const { laptop, peer } = meeting;
        await begin(meeting, opener);
        await expect(laptop.say(peer.did, "x".repeat(5_000_000))).rejects.toThrow(/at most 262144 bytes.*by offload/);
        await expectFlow(meeting, "1");
        await expectAll(meeting, 2);
      });

      it("each says things while the other is away", async (context) => {
        const meeting = await meet(open, kind);
        const { laptop, peer } = meeting;
        const { away } = peer;
        if (!away) return context.skip(NEVER_AWAY);
        await begin(meeting, opener);
        await laptop.close();
        await peer.say(laptop.did, ...texts("theirs", 1, 10));
        await away.leave();
        await laptop.again();
        await laptop.say(peer.did, ...texts("ours", 1, 10));
        await laptop.heard(peer.did, 10);
        await away.comeBack();
        await peer.until(() => peer.received.length >= 10);
        await expectAll(meeting, 10);
        await expectFlow(meeting, "10");
      });

      it("the peer restarts and speaks first", async (context) => {
        const meeting = await meet(open, kind);
        const { stage, laptop, peer } = meeting;
        if (stage.keeps && opener === "we")
          return context.skip(
            "the relay gives our first knock again, which the peer never acked: it is mute until we speak",
          );
        await begin(meeting, opener);
        await exchange(meeting, 1, 5);
        await peer.restart();
        await peer.say(laptop.did, "theirs 5");
        await laptop.heard(peer.did, 6);
        await laptop.say(peer.did, "ours 5");
        await peer.until(() => peer.received.length >= 6);
        await exchange(meeting, 6, 15);
        await expectAll(meeting, 15);
      });

      it("the peer restarts, and we speak first after a silence", async (context) => {
        const meeting = await meet(open, kind);
        const { stage, laptop, peer } = meeting;
        if (stage.keeps && opener === "we") return context.skip(STALE_KNOCK);
        await begin(meeting, opener);
        await exchange(meeting, 1, 5);
        await peer.restart();
        await stage.clock.passes(RENEW_AFTER_MS);
        await laptop.say(peer.did, "ours 5");
        await peer.until(() => peer.received.length >= 6);
        await peer.say(laptop.did, "theirs 5");
        await laptop.heard(peer.did, 6);
        await exchange(meeting, 6, 15);
        await expectAll(meeting, 15);
      });

      it("the peer restarts, and what we say before anybody knows is uncertain, and said to be", async (context) => {
        const meeting = await meet(open, kind);
        const { stage, laptop, peer } = meeting;
        if (stage.keeps && opener === "we") return context.skip(STALE_KNOCK);
        await begin(meeting, opener);
        await exchange(meeting, 1, 5);
        await peer.restart();
        const lost = await laptop.say(peer.did, "lost 0", "lost 1");
        await laptop.became(peer.did, lost, "sent");
        await stage.clock.passes(RENEW_AFTER_MS + RENEW_QUIET_MS);
        await laptop.became(peer.did, lost, "uncertain");
        for (const id of lost) expect(laptop.state(peer.did, id)).toBe("uncertain");
        await expectFlow(meeting, "5");
        await exchange(meeting, 6, 10);
        expect(peer.received).toEqual(texts("ours", 0, 10));
      });
    });

    it("the peer's knock comes when ours has not left yet", async (context) => {
      if (!kind.readsOurOpening) return context.skip(UNREAD);
      const meeting = await meet(open, kind);
      const { stage, laptop, peer } = meeting;
      laptop.leave();
      await laptop.say(peer.did, "ours 0");
      await laptop.until(
        () => "a session",
        () => laptop.conversation(peer.did).session !== null,
      );
      await peer.say(laptop.did, "theirs 0");
      laptop.comeBack();
      await laptop.until(
        () => "the peer's knock",
        () => laptop.sessions(peer.did).some(({ role }) => role === "responder"),
      );
      await stage.clock.passes(2 * RENEW_QUIET_MS);
      await peer.until(() => peer.received.includes("ours 0"));
      await expectFlow(meeting, "1");
      await expectAll(meeting, 2);
    });

    it.for<Opener>(["we", "the peer"])("the knocks of both cross, and then %s spoke first", async (opener, context) => {
      if (!kind.readsOurOpening) return context.skip(UNREAD);
      const crossing = new Held();
      const { network } = filtered((frame, direction) => direction === "out" || !crossing.holds(frame));
      const meeting = await meet(open, kind, { network });
      const { stage, laptop, peer } = meeting;
      crossing.from = peer.did;
      await peer.say(laptop.did, "theirs first");
      const [first = ""] = await laptop.say(peer.did, "ours first");
      // It has read our message, or it has accepted our knock and passed over what came with it.
      await Promise.race([peer.until(() => peer.received.includes("ours first")), crossing.accepted.promise]);
      await laptop.became(peer.did, [first], "sent");
      await crossing.release(laptop);
      await laptop.hears(peer.did, "theirs first");
      await stage.clock.passes(3 * RENEW_QUIET_MS);
      await peer.until(() => peer.received.includes("ours first"));
      const ours = async () => {
        await laptop.say(peer.did, "ours later");
        await peer.until(() => peer.received.includes("ours later"));
      };
      const theirs = async () => {
        await peer.say(laptop.did, "theirs later");
        await laptop.hears(peer.did, "theirs later");
      };
      for (const say of opener === "we" ? [ours, theirs] : [theirs, ours]) await say();
      await expectFlow(meeting, "at last");
      expect(peer.received).toEqual(["ours first", "ours later", "ours at last"]);
      expect(await laptop.read(peer.did)).toEqual(["theirs first", "theirs later", "theirs at last"]);
    });

    it.for<Opener>(["we", "the peer"])(
      "the relay restarts with our messages for the peer in it, and then %s spoke first",
      async (opener, context) => {
        const meeting = await meet(open, kind);
        const { stage, laptop, peer } = meeting;
        const { away } = peer;
        if (!stage.restartRelay) return context.skip(NO_RESTART);
        if (!away) return context.skip(NEVER_AWAY);
        await begin(meeting, "the peer");
        await exchange(meeting, 1, 5);
        await away.leave();
        const lost = await laptop.say(peer.did, "lost 0", "lost 1");
        await laptop.became(peer.did, lost, "sent");
        await stage.restartRelay();
        await away.comeBack();
        await stage.clock.passes(RENEW_AFTER_MS);
        const ours = async () => {
          await laptop.say(peer.did, "ours 5");
          await peer.until(() => peer.received.includes("ours 5"));
        };
        const theirs = async () => {
          await peer.say(laptop.did, "theirs 5");
          await laptop.hears(peer.did, "theirs 5");
        };
        for (const say of opener === "we" ? [ours, theirs] : [theirs, ours]) await say();
        await exchange(meeting, 6, 10);
        await expectAll(meeting, 10);
        for (const id of lost) expect(MAYBE_LOST).toContain(laptop.state(peer.did, id));
      },
    );

    it("the relay restarts with our knock for the peer in it: what we say after a silence goes in another session", async (context) => {
      const meeting = await meet(open, kind);
      const { stage, laptop, peer } = meeting;
      const { away } = peer;
      if (!kind.readsOurOpening) return context.skip(UNREAD);
      if (!stage.restartRelay) return context.skip(NO_RESTART);
      if (!away) return context.skip(NEVER_AWAY);
      await away.leave();
      const [lost = ""] = await laptop.say(peer.did, "lost");
      await laptop.became(peer.did, [lost], "sent");
      await stage.restartRelay();
      await away.comeBack();
      // The look at the registry, after the first silence, doubles the pause.
      await stage.clock.passes(2 * RENEW_AFTER_MS);
      await expectFlow(meeting, "0");
      await exchange(meeting, 1, 10);
      await expectAll(meeting, 10);
      expect(MAYBE_LOST).toContain(laptop.state(peer.did, lost));
    });

    it("the peer takes a minute to answer", async () => {
      const meeting = await meet(open, kind);
      const { stage, laptop, peer } = meeting;
      await begin(meeting, "the peer");
      await expectFlow(meeting, "1");
      await laptop.say(peer.did, "ours 2");
      await peer.until(() => peer.received.includes("ours 2"));
      await stage.clock.passes(2 * RENEW_AFTER_MS);
      await peer.say(laptop.did, "theirs 2");
      await laptop.hears(peer.did, "theirs 2");
      await expectFlow(meeting, "3");
      await expectAll(meeting, 4);
    });

    it("a knock that the relay gives again changes nothing", async () => {
      const knocks: Knock[] = [];
      const { network } = filtered((frame, direction) => {
        if (direction === "in" && frame.type === "knock") knocks.push(Knock.parse(frame));
        return true;
      });
      const meeting = await meet(open, kind, { network });
      const { laptop, peer } = meeting;
      await begin(meeting, "the peer");
      await exchange(meeting, 1, 10);
      const [knock] = knocks;
      if (!knock) throw new Error("no knock came");
      await comes(laptop.node, knock);
      await comes(laptop.node, { ...knock, id: randomUUID() });
      await exchange(meeting, 10, 20);
      await expectAll(meeting, 20);
      expect(laptop.sessions(peer.did)).toHaveLength(1);
    });

    it("our process dies when a message has left and that is not noted: it may come twice, and all others come once", async () => {
      let dies = false;
      const { network } = filtered(({ type }, direction) => {
        if (dies && direction === "out" && type === "message") {
          dies = false;
          meeting.laptop.copy();
        }
        return true;
      });
      const meeting = await meet(open, kind, { network });
      const { laptop, peer } = meeting;
      await begin(meeting, "the peer");
      const ids = await laptop.say(peer.did, ...texts("ours", 1, 4));
      await laptop.became(peer.did, ids, "sent");
      dies = true;
      await laptop.say(peer.did, "ours 4");
      await peer.until(() => peer.received.includes("ours 4"));
      await laptop.restore();
      await expectFlow(meeting, "5");
      await expectFlow(meeting, "6");
      const twice = peer.received.filter((text, index) => peer.received.indexOf(text) !== index);
      expect(twice).toEqual(meeting.stage.keeps ? [] : ["ours 4"]);
      expect([...new Set(peer.received)]).toEqual(texts("ours", 0, 7));
    });

    it("our home is restored from a copy made when a message had left and that was not noted", async () => {
      let copies = false;
      const { network } = filtered(({ type }, direction) => {
        if (copies && direction === "out" && type === "message") {
          copies = false;
          meeting.laptop.copy();
        }
        return true;
      });
      const meeting = await meet(open, kind, { network });
      const { stage, laptop, peer } = meeting;
      await begin(meeting, "the peer");
      await exchange(meeting, 1, 5);
      copies = true;
      const [id = ""] = await laptop.say(peer.did, "ours 5");
      await peer.until(() => peer.received.includes("ours 5"));
      for (const words of ["6", "7"]) await expectFlow(meeting, words);
      await laptop.restore();
      // The message leaves again and stays unanswered, so that this laptop asks the registry about the peer.
      await laptop.became(peer.did, [id], "sent");
      await stage.clock.passes(RENEW_AFTER_MS);
      await expectFlow(meeting, "11");
      await expectFlow(meeting, "12");
      expect(peer.received.slice(0, 8)).toEqual(texts("ours", 0, 8));
      expect(peer.received.slice(8)).toEqual([...(stage.keeps ? [] : ["ours 5"]), "ours 11", "ours 12"]);
    });

    it("our home is restored from an older copy, the peer lets go of its session, and then both knock at once", async () => {
      const came = Promise.withResolvers<void>();
      const crossing = new Held();
      let isRestored = false;
      const { network } = filtered((frame, direction) => {
        if (direction === "out") return true;
        if (isRestored && frame.type === "message") came.resolve();
        return !crossing.holds(frame);
      });
      const meeting = await meet(open, kind, { network });
      const { stage, laptop, peer } = meeting;
      await begin(meeting, "the peer");
      laptop.copy();
      for (const words of ["1", "2"]) await expectFlow(meeting, words);
      await laptop.restore();
      await stage.clock.passes(RENEW_AFTER_MS);
      isRestored = true;
      await peer.say(laptop.did, "in a session that is not here any more");
      await came.promise;
      await dealtWith(laptop.node);
      await stage.clock.passes(2 * RENEW_QUIET_MS);
      crossing.from = peer.did;
      await peer.say(laptop.did, "theirs 3");
      await laptop.say(peer.did, "ours 3");
      // Our knock tells the peer to let go of what it opened meanwhile, too.
      await peer.until(() => peer.received.includes("ours 3"));
      await crossing.release(laptop);
      if (kind.letsGo) await laptop.hears(peer.did, "theirs 3");
      for (const words of ["4", "5"]) await expectFlow(meeting, words);
      await stage.clock.passes(3 * RENEW_QUIET_MS);
      await expectFlow(meeting, "6");
      expect(peer.received).toEqual(texts("ours", 0, 7));
    });

    it.each<Opener>(["we", "the peer"])(
      "our home is restored from an older copy, and then %s spoke first",
      async (opener) => {
        const came = Promise.withResolvers<void>();
        let isRestored = false;
        const { network } = filtered(({ type }, direction) => {
          if (isRestored && direction === "in" && type === "message") came.resolve();
          return true;
        });
        const meeting = await meet(open, kind, { network });
        const { stage, laptop, peer } = meeting;
        await begin(meeting, "the peer");
        await exchange(meeting, 1, 5);
        const ids = [...laptop.node.core.messages.sent()].map(({ id }) => id);
        await laptop.became(peer.did, ids, "sent");
        laptop.copy();
        // One after the other, so that both ratchets turn.
        for (const words of ["5", "6", "7"]) await expectFlow(meeting, words);
        await laptop.restore();
        await stage.clock.passes(RENEW_AFTER_MS);
        if (opener === "the peer") {
          isRestored = true;
          await peer.say(laptop.did, "in a session that is not here any more");
          await came.promise;
          await dealtWith(laptop.node);
          await stage.clock.passes(2 * RENEW_QUIET_MS);
          await peer.say(laptop.did, "theirs 10");
          // It knocked for that. Another kind of client waits for a message of ours.
          if (kind.letsGo) await laptop.hears(peer.did, "theirs 10");
        }
        await expectFlow(meeting, "11");
        await expectFlow(meeting, "12");
        expect(peer.received).toEqual([...texts("ours", 0, 8), "ours 11", "ours 12"]);
      },
    );
  });
}
