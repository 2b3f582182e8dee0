import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const PAGE = fileURLToPath(new URL("../../dist/page/", import.meta.url));

it("a browser asks for the feed and for the page, and for no module behind them", () => {
  // The server speaks the protocol too.
  const scripts = readdirSync(PAGE).filter((name) => name.endsWith(".js") && name !== "protocol.js");
  const named = readFileSync(`${PAGE}index.html`, "utf8").matchAll(/src="([a-z-]+\.js)"/g);
  expect([...named].map(([, name]) => name).sort()).toEqual(scripts.sort());
});
