import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const PAGE = fileURLToPath(new URL("../../src/page/", import.meta.url));

it("a browser is told of every module of the page at once", () => {
  const modules = readdirSync(PAGE).flatMap((name) => (name.endsWith(".ts") ? [name.replace(/ts$/, "js")] : []));
  const told = readFileSync(`${PAGE}index.html`, "utf8").matchAll(/(?:src|href)="([a-z-]+\.js)"/g);
  expect([...told].map(([, name]) => name).sort()).toEqual(modules.sort());
});
