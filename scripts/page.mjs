// Makes of the page's compiled modules the two files that a browser asks for: the one that opens the feed, and all the rest.
import { readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const ENTRIES = ["feed", "main"];
/** The inspector's server speaks it too. */
const PROTOCOL = "protocol.js";

const page = fileURLToPath(new URL("../dist/page/", import.meta.url));
const bundle = await rolldown({
  input: Object.fromEntries(ENTRIES.map((name) => [name, `${page}${name}.js`])),
});
const { output } = await bundle.write({ dir: page, entryFileNames: "[name].js" });
await bundle.close();
const kept = new Set([PROTOCOL, ...output.map(({ fileName }) => fileName)]);
for (const name of readdirSync(page)) if (name.endsWith(".js") && !kept.has(name)) rmSync(page + name);
