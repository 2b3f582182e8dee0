import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createBrowserReceiver, type StatelyInspectionEvent } from "@statelyai/inspect";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { readHistory } from "../../src/inspect/history.ts";
import { startInspector } from "../../src/inspect/server.ts";
import { Collected, cluster, type Laptop, laptop, say } from "../inspect/world.ts";
import { watched } from "./browser.ts";
import { launch } from "./chromium.ts";

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

/** Two laptops that have talked, and the inspector of one. */
async function talked() {
  const server = await cluster();
  const [alice, bob] = [await laptop(server, "alice"), await laptop(server, "bob")];
  await say(alice, bob, "hello");
  await say(bob, alice, "good morning");
  const inspector = await startInspector(alice.mesh, { home: alice.home });
  onTestFinished(() => inspector.close());
  return { alice, bob, inspector, conversation: `conversation/${bob.did}` };
}

/** The page, when all that is recorded has come. */
async function opened(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await page.locator("html[data-ready=true]").waitFor();
}

const stateOf = (page: Page) => page.locator("#actor-state").textContent();
const momentOf = async (page: Page) => Number(await page.locator("#slider").inputValue());
const lastOf = async (page: Page) => Number(await page.locator("#slider").getAttribute("max"));
const choose = (page: Page, stream: string) => page.locator(`button.actor[data-stream="${stream}"]`).click();

/** Moves the slider as a person does who drags it. */
const slide = (page: Page, to: number) => page.locator("#slider").fill(String(to));

/** What the history says of a stream after so many events of the home. */
async function recorded(home: string, stream: string, events: number): Promise<string | undefined> {
  const { lines } = await readHistory(home, { limit: 10_000 });
  return lines.slice(0, events).findLast((line) => line.stream === stream)?.to;
}

describe("the inspector's page", () => {
  test("shows every actor, where it is and how it came there, and what happens as it happens", async () => {
    const { alice, bob, inspector, conversation } = await talked();
    const { page, asked, complaints, picture } = await watched(browser);
    await opened(page, inspector.page);
    await choose(page, conversation);
    await page.locator('.state.active[data-path="open"]').waitFor();
    expect(await stateOf(page)).toBe("open");
    await expect.poll(() => page.locator("#details").textContent()).toContain(bob.did);
    await page.locator('button.actor[data-stream="link/relay"]').waitFor();

    const before = await lastOf(page);
    await say(alice, bob, "and now?");
    await expect.poll(() => lastOf(page)).toBeGreaterThan(before);
    await page
      .locator("#last-event")
      .filter({ hasText: /SEND|SEALED|TRANSMITTED|RECEIPTED/ })
      .waitFor();
    await expect.poll(async () => (await momentOf(page)) === (await lastOf(page))).toBe(true);

    await page.keyboard.press("2");
    await page.locator("#sequence .arrow").first().waitFor();
    expect(await page.locator("#sequence .who").allTextContents()).toEqual(
      expect.arrayContaining([expect.stringContaining("this home"), expect.stringContaining("relay")]),
    );
    await picture("sequence");
    const host = new URL(inspector.page).host;
    expect(asked.filter((address) => new URL(address).host !== host)).toEqual([]);
    expect(complaints).toEqual([]);
  });

  test("goes to any moment: all of it shows what was then, and a link opens it again", async () => {
    const { alice, inspector, conversation } = await talked();
    const { page, complaints } = await watched(browser);
    await opened(page, inspector.page);
    await choose(page, conversation);
    const total = async () => (await readHistory(alice.home)).total;
    await expect.poll(async () => (await lastOf(page)) === (await total())).toBe(true);
    const all = await lastOf(page);
    for (const moment of [all, Math.floor(all / 2), Math.floor(all / 3), all - 1]) {
      await slide(page, moment);
      const wanted = (await recorded(alice.home, conversation, moment)) ?? "";
      await expect.poll(() => stateOf(page)).toBe(wanted);
    }
    const { lines } = await readHistory(alice.home, { limit: 10_000 });
    const index = lines.findIndex(({ stream, type }) => stream === conversation && type === "SEND");
    await slide(page, index + 1);
    await expect.poll(() => page.locator("#last-event").textContent()).toBe("SEND");
    // What has no journal has no past: the page says so in its place.
    expect(await page.locator('button.actor[data-stream="link/relay"]').isVisible()).toBe(false);
    expect(await page.locator("#only-now").textContent()).toContain("link/relay");
    await expect.poll(() => page.url()).toContain(`at=${lines[index]?.number}`);

    const again = await watched(browser);
    await opened(again.page, page.url());
    await expect.poll(() => stateOf(again.page)).toBe(lines[index]?.to);
    expect(await again.page.locator("#actor-name").textContent()).toBe(await page.locator("#actor-name").textContent());
    expect(await again.page.locator("#live").getAttribute("aria-pressed")).toBe("false");
    await again.page.locator("#live").click();
    await expect.poll(async () => (await momentOf(again.page)) === (await lastOf(again.page))).toBe(true);
    await again.page.locator("#only-now").waitFor({ state: "hidden" });
    await choose(again.page, "link/relay");
    await again.page.keyboard.press("Home");
    await again.page.locator("#details", { hasText: "It has no journal" }).waitFor();
    expect([...complaints, ...again.complaints]).toEqual([]);
  });

  test("is walked through with the keyboard", async () => {
    const { inspector, conversation } = await talked();
    const { page, complaints } = await watched(browser);
    await opened(page, inspector.page);
    // The first stops following what still happens.
    await page.keyboard.press("ArrowLeft");
    await page.locator("#live[aria-pressed=false]").waitFor();
    const stood = await momentOf(page);
    await page.keyboard.press("ArrowLeft");
    await expect.poll(() => momentOf(page)).toBe(stood - 1);
    await page.keyboard.press("Home");
    await expect.poll(() => momentOf(page)).toBe(0);
    await page.keyboard.press("ArrowRight");
    await expect.poll(() => momentOf(page)).toBe(1);
    await page.keyboard.press("l");
    await expect.poll(async () => (await momentOf(page)) === (await lastOf(page))).toBe(true);

    await page.keyboard.press("/");
    await page.keyboard.type("conversation");
    await expect.poll(() => page.locator("button.actor:visible").count()).toBe(1);
    await page.keyboard.press("Escape");
    await expect.poll(() => page.locator("button.actor:visible").count()).toBeGreaterThan(1);
    const first = await page.locator("#actor-name").textContent();
    await page.keyboard.press("j");
    await expect.poll(() => page.locator("#actor-name").textContent()).not.toBe(first);
    await page.keyboard.press("k");
    await expect.poll(() => page.locator("#actor-name").textContent()).toBe(first);

    await choose(page, conversation);
    await page.keyboard.press("o");
    await page.keyboard.press("1");
    await page.keyboard.press("Shift+ArrowLeft");
    await page.locator("#live[aria-pressed=false]").waitFor();
    expect(await momentOf(page)).toBeLessThan(await lastOf(page));
    const kinds = await page.locator(".event :nth-child(2)").allTextContents();
    expect(new Set(kinds.map((text) => text.split("/")[0]))).toEqual(new Set(["conversation"]));
    for (const [key, tab] of Object.entries({ 2: "sequence", 3: "offloads", 1: "events" })) {
      await page.keyboard.press(key);
      await page.locator(`#${tab}`).waitFor();
    }
    await page.keyboard.press("?");
    await page.locator("dialog[open]").waitFor();
    await page.keyboard.press("Escape");
    await expect.poll(() => page.locator("dialog[open]").count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  test("is light or dark, as the system is or as it is asked to be", async () => {
    const { inspector, conversation } = await talked();
    for (const colorScheme of ["light", "dark"] as const) {
      const { page, picture } = await watched(browser, { colorScheme });
      await opened(page, inspector.page);
      await choose(page, conversation);
      await page.locator(".state.active").first().waitFor();
      const ground = () => page.evaluate<string>("getComputedStyle(document.documentElement).backgroundColor");
      const asSystem = await ground();
      await picture(colorScheme);
      await page.keyboard.press("t");
      expect(await ground()).not.toBe(asSystem);
      await page.keyboard.press("t");
      expect(await ground()).toBe(asSystem);
    }
  });

  test("shows nobody's words, and nothing to who does not know the token", async () => {
    const { alice, bob, inspector, conversation } = await talked();
    const canary = "a word that nobody may see";
    await say(alice, bob, canary);
    const { page } = await watched(browser);
    const heard: string[] = [];
    page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => void heard.push(String(payload))));
    page.on(
      "response",
      (response) =>
        void response.text().then(
          (text) => heard.push(text),
          () => undefined,
        ),
    );
    await opened(page, inspector.page);
    await choose(page, conversation);
    await expect.poll(() => page.locator("#details").textContent()).toContain(bob.did);
    expect(heard.join("\n")).toContain(bob.did);
    expect(heard.join("\n")).not.toContain(canary);
    expect(await page.content()).not.toContain(canary);

    const { origin } = new URL(inspector.page);
    for (const path of ["/", "/?token=wrong", `/state?stream=${conversation}`])
      expect((await fetch(origin + path)).status, path).toBe(401);
    expect((await fetch(inspector.page, { headers: { origin: "https://example.org" } })).status).toBe(403);
    expect((await fetch(inspector.page, { method: "POST" })).status).toBe(405);
    for (const path of ["/../package.json", "/charts.js", "/%2e%2e/package.json"])
      expect((await fetch(origin + path)).status, path).toBeGreaterThanOrEqual(400);
  });

  test("is shown to a page that receives as Stately's does, and only if a person says which", async () => {
    const { alice, bob, inspector, conversation } = await talked();
    const { page, complaints } = await watched(browser);
    await opened(page, inspector.page);
    const receiver = await receiving();
    await page.locator("#stately").click();
    await page.locator("#receiver").fill(receiver);
    const [other] = await Promise.all([
      page.waitForEvent("popup"),
      page.locator("#elsewhere button[value=open]").click(),
    ]);
    // What arrived there, given to Stately's own receiver.
    const messages = new Collected<StatelyInspectionEvent>();
    const there = new EventTarget();
    createBrowserReceiver({ window: Object.assign(there, { opener: null }) as never }).subscribe((message) =>
      messages.add(message),
    );
    await other.exposeFunction(
      "arrived",
      (data: unknown) => void there.dispatchEvent(new MessageEvent("message", { data })),
    );
    await other.locator("button").click();
    await messages.first(({ type, sessionId }) => type === "@xstate.actor" && sessionId === conversation);
    await say(alice, bob, "seen there too");
    await messages.first((message) => message.type === "@xstate.snapshot" && message.sessionId === conversation);
    expect(complaints).toEqual([]);
  });

  test("keeps what it has when the mesh ends, and says so", async () => {
    const { alice, inspector } = await talked();
    const { page } = await watched(browser);
    await opened(page, inspector.page);
    const all = await lastOf(page);
    await close(alice);
    await page.locator("#connection.down").waitFor();
    await page.keyboard.press("Home");
    await expect.poll(() => momentOf(page)).toBe(0);
    expect(await lastOf(page)).toBeGreaterThanOrEqual(all);
  });
});

const close = ({ mesh }: Laptop) => mesh.close();

/** A page elsewhere that says that it is there when it is clicked, and hands on what it is told. Gives its address. */
async function receiving(): Promise<string> {
  const html = `<!doctype html><link rel="icon" href="data:,"><button>ready</button><script>
    addEventListener("message", (event) => arrived(event.data));
    document.querySelector("button").onclick = () => opener.postMessage({ type: "@statelyai.connected" }, "*");
  </script>`;
  const server = createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end(html));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}
