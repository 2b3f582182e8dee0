import { readFileSync } from "node:fs";

// What people and agents write to each other: prose, from this project's own pages. Random letters would be no measure of
// what is stored, nor would one sentence over and over.

const PAGES = ["../README.md", "../docs/architecture.md", "../CHANGELOG.md"];
const prose = PAGES.map((page) => readFileSync(new URL(page, import.meta.url), "utf8"))
  .join("\n")
  .replace(/[^\x20-\x7e\n]/g, "-");

/** A message of exactly so many bytes: another part of the prose for each number. */
export function message(number: number, size: number): string {
  const start = (number * 337) % (prose.length - size);
  return prose.slice(start, start + size);
}
