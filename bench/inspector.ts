import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Browser, Page } from "playwright-core";
import { sending } from "../src/actors/drafts.ts";
import { MeshNode } from "../src/actors/node.ts";
import { foldJournal } from "../src/inspect/fold.ts";
import { checkReplay } from "../src/inspect/replay.ts";
import { startInspector } from "../src/inspect/server.ts";
import { launch } from "../test/browser/chromium.ts";
import { type Row, type Subject, summary, withDirectory } from "./harness.ts";
import { buildHome } from "./home.ts";
import { ports } from "./laptop.ts";

// Looking inside: a long history replayed, and shown in a browser.

/** A conversation and a session each, so 1,000 actors and a few. */
const SIZE = { sessions: 500, events: 100_000, messageSize: 1_000 };
const ROUNDS = 7;
const [REPLAY_GOAL, LOAD_GOAL_MS] = [20_000, 500];
/** What is said while the page looks on: so many events a second, for so long. */
const [RATE, SECONDS, STEP_MS] = [500, 5, 20];
const LAG_GOAL_MS = 500;
const LOOK_EVERY_MS = 5;
/** A new window of Chromium loads hundreds of modules of its own at first. */
const WINDOW_MS = 1_500;

/** A mesh of which nobody asks anything. */
const silent: Parameters<typeof startInspector>[0] = {
  call: () => new Promise(() => undefined),
  closed: new Promise(() => undefined),
};

async function replay(home: string): Promise<Row[]> {
  const [folded, checked]: [number[], number[]] = [[], []];
  for (let round = 0; round <= ROUNDS; round++) {
    let begin = performance.now();
    let events = 0;
    for await (const _ of foldJournal(home)) events++;
    if (round > 0) folded.push(events / ((performance.now() - begin) / 1000));
    begin = performance.now();
    const check = await checkReplay(home);
    if (check.differences.length > 0) throw new Error(`The replay differs: ${JSON.stringify(check.differences[0])}`);
    if (check.compared_at === null) throw new Error("There was nothing to compare the replay with.");
    if (round > 0) checked.push(check.events / ((performance.now() - begin) / 1000));
  }
  return [
    { work: "replay of 100,000 events", unit: "events/s", ours: summary(folded), goal: { atLeast: REPLAY_GOAL } },
    {
      work: "the same, all states compared with the live ones",
      unit: "events/s",
      ours: summary(checked),
      goal: { atLeast: REPLAY_GOAL },
    },
  ];
}

/** Resolves when a page shows so many events. */
async function isShown(page: Page, events: number): Promise<void> {
  for (;;) {
    const shown = await page.locator("html").getAttribute("data-events");
    if (Number(shown) >= events) return;
    await pause(LOOK_EVERY_MS);
  }
}

/** Milliseconds from the address to a page on which all of it can be gone through. */
async function load(browser: Browser, url: string, events: number): Promise<number> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await pause(WINDOW_MS);
  const begin = performance.now();
  await page.goto(url);
  await isShown(page, events);
  const ms = performance.now() - begin;
  await context.close();
  return ms;
}

/** Milliseconds from the last of many events to its being shown. */
async function lag(browser: Browser, url: string, home: string, events: number): Promise<number> {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  await page.goto(url);
  await isShown(page, events);
  const node = await MeshNode.open({ home, ports });
  const [[stream] = [""]] = [...node.core.system.streams("conversation")];
  const peer = stream.slice("conversation/".length);
  const said = RATE * SECONDS;
  const each = (RATE * STEP_MS) / 1000;
  const begin = performance.now();
  for (let done = 0; done < said; done += each) {
    const drafts = Array.from({ length: each }, (_, index) =>
      sending(node.core, peer, `bench.${done + index}`, "chat", "said while somebody looks on"),
    );
    for (const { entries, secrets } of drafts) node.core.system.commit(entries, { secrets });
    await pause(Math.max(0, begin + ((done + each) / RATE) * 1000 - performance.now()));
  }
  const last = performance.now();
  await isShown(page, events + said);
  const ms = performance.now() - last;
  await node.close();
  await page.close();
  return ms;
}

export const inspector: Subject = {
  name: "inspector",
  about: "replay of a long history, and the inspector's page with it in a real Chromium",
  measure: (tell) =>
    withDirectory(async (directory) => {
      const home = join(directory, "home");
      tell("inspector: building the home");
      const { events } = await buildHome(directory, home, SIZE);
      // A clean stop leaves the snapshots that a replay is compared with.
      await (await MeshNode.open({ home, ports })).close();
      tell(`inspector: replaying ${events} events`);
      const rows = await replay(home);
      tell("inspector: the page");
      const shown = await startInspector(silent, { home });
      const browser = await launch();
      try {
        const loads: number[] = [];
        for (let round = 0; round <= ROUNDS; round++) {
          const ms = await load(browser, shown.page, events);
          if (round > 0) loads.push(ms);
        }
        const lags = [await lag(browser, shown.page, home, events)];
        return [
          ...rows,
          {
            work: `the inspector's page with ${2 * SIZE.sessions} actors and 100,000 events`,
            unit: "ms",
            ours: summary(loads),
            goal: { atMost: LOAD_GOAL_MS },
          },
          {
            work: `how far it is behind after ${SECONDS} s of ${RATE} events a second`,
            unit: "ms",
            ours: summary(lags),
            goal: { atMost: LAG_GOAL_MS },
          },
        ];
      } finally {
        await browser.close();
        await shown.close();
      }
    }),
};
