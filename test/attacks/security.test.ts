import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

// A claim of SECURITY.md names the test that shows it.

it("every test and document that SECURITY.md names is there", () => {
  const root = join(import.meta.dirname, "../..");
  const text = readFileSync(join(root, "SECURITY.md"), "utf8");
  const named = [...text.matchAll(/`(test\/[^`]+)`|\]\((docs\/[^)#]+)\)/g)].map(
    ([, test, document]) => test ?? document ?? "",
  );
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});
