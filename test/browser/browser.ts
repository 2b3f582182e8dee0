/** Pages of which every request and every complaint is kept. */
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { onTestFinished } from "vitest";

/** What is seen by the tests is kept here. */
const PICTURES = fileURLToPath(new URL("../../.cache/browser/", import.meta.url));

export interface Watched {
  readonly page: Page;
  /** Addresses that it asked for. */
  readonly asked: readonly string[];
  /** Errors and warnings of its console, and errors that nobody caught. */
  readonly complaints: readonly string[];
  picture(name: string): Promise<void>;
}

/** A page with nothing in it yet. It is closed when the test ends. */
export async function watched(browser: Browser, options: BrowserContextOptions = {}): Promise<Watched> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  onTestFinished(() => context.close());
  const page = await context.newPage();
  const [asked, complaints]: [string[], string[]] = [[], []];
  page.on("request", (request) => asked.push(request.url()));
  page.on("websocket", (socket) => asked.push(socket.url()));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return {
    page,
    asked,
    complaints,
    picture: async (name) => {
      mkdirSync(PICTURES, { recursive: true });
      await page.screenshot({ path: `${PICTURES}${name}.png` });
    },
  };
}
