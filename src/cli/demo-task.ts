import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

// The computation that the demo hands to the cluster: a census of source files. It stands alone, because it travels as one
// file. Every number in its report comes from the bytes of the files, the long way: each file's fingerprint is its SHA-256
// hashed again ROUNDS times, which keeps a core busy for a moment.

const ROUNDS = 15_000;

export interface Census {
  readonly files: readonly {
    readonly name: string;
    readonly lines: number;
    readonly bytes: number;
    readonly fingerprint: string;
  }[];
  readonly lines: number;
  readonly bytes: number;
  /** The identifiers that occur most often, with how often. */
  readonly words: readonly (readonly [word: string, count: number])[];
}

/** @param onFile called after each file with how many are done */
export function takeCensus(
  directory: string,
  names: readonly string[],
  onFile: (done: number, name: string) => void = () => undefined,
): Census {
  const counts = new Map<string, number>();
  const files = [...names].sort().map((name, index) => {
    const content = readFileSync(join(directory, name));
    const text = content.toString("utf8");
    for (const [word] of text.matchAll(/[A-Za-z_]\w{3,}/g)) counts.set(word, (counts.get(word) ?? 0) + 1);
    let fingerprint = createHash("sha256").update(content).digest();
    for (let round = 0; round < ROUNDS; round++) fingerprint = createHash("sha256").update(fingerprint).digest();
    onFile(index + 1, name);
    return {
      name,
      lines: text.split("\n").length - 1,
      bytes: content.length,
      fingerprint: fingerprint.toString("hex"),
    };
  });
  const words = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).slice(0, 10);
  return {
    files,
    lines: files.reduce((sum, file) => sum + file.lines, 0),
    bytes: files.reduce((sum, file) => sum + file.bytes, 0),
    words,
  };
}

export function reportOf({ files, lines, bytes, words }: Census): string {
  const longest = [...files].sort((a, b) => b.lines - a.lines).slice(0, 5);
  return [
    "# Census of the sources",
    "",
    `${files.length} files, ${lines} lines, ${bytes} bytes.`,
    "",
    "## Longest files",
    ...longest.map((file) => `- ${file.name}: ${file.lines} lines`),
    "",
    "## Most frequent identifiers",
    ...words.map(([word, count]) => `- ${word}: ${count}`),
    "",
    "## Fingerprints",
    ...files.map((file) => `- ${file.fingerprint.slice(0, 16)} ${file.name}`),
    "",
  ].join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const own = basename(fileURLToPath(import.meta.url));
  const names = readdirSync(".", { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== own)
    .map((entry) => entry.name);
  const census = takeCensus(".", names, (done, name) =>
    console.log(`${Math.round((100 * done) / names.length)} % ${name}`),
  );
  mkdirSync("out", { recursive: true });
  writeFileSync(join("out", "census.md"), reportOf(census));
  writeFileSync(join("out", "census.json"), `${JSON.stringify(census, null, 2)}\n`);
  console.log(
    `${census.files.length} files, ${census.lines} lines, ${census.bytes} bytes; most frequent: ${census.words
      .slice(0, 3)
      .map(([word]) => word)
      .join(", ")}.`,
  );
}
