/** What lies on a disk, where others may have written, and what a crash or a failing disk leaves. */
import { hash } from "node:crypto";
import { crc32 } from "node:zlib";
import { type Commit, Journal } from "../../src/store/journal.ts";
import { type Line, lineHash, parseHead, parseLine, toCommit } from "../../src/store/journal-line.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { formatForm, parseForm } from "../../src/store/key-forms.ts";
import { seal, sealText, unsealText } from "../../src/store/seal.ts";
import { Secrets } from "../../src/store/secrets.ts";
import { readSnapshots } from "../../src/store/snapshots.ts";
import { openVault } from "../../src/store/vault.ts";
import { MemoryDisk } from "../store/memory-disk.ts";
import { assertEqual } from "./check.ts";
import { attempt, type Outcome, type Target } from "./fuzz.ts";

const KEY = new Uint8Array(32).fill(7);
const random = (length: number) => new Uint8Array(length).fill(9);
const utf8 = (text: string) => new Uint8Array(Buffer.from(text, "utf8"));
const isCount = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 0;

/** A line as it stands in the journal. */
const textOf = (line: Line) => checksummed(JSON.stringify(line));

const event = { s: "session/a", type: "SEALED", message: "m", header: { n: 1 } };
const lines: Line[] = [];
for (let n = 1; n <= 6; n++) {
  const before = lines.at(-1);
  lines.push({
    n,
    t: 1_763_712_000_000 + n,
    g: n <= 2 ? 1 : n,
    p: before ? lineHash(Buffer.from(textOf(before))) : "",
    e: [event, { ...event, s: "conversation/b", v: 2 }],
    ...(n % 2 === 0 ? { k: `1.${sealText(KEY, '{"a":"b"}', `journal/1/${n}`, random)}` } : {}),
  });
}
const texts = lines.map(textOf);

/** Whatever a line says, its checksum is right: what is read behind the checksum is what is tried. */
function checksummed(text: string): string {
  const open = text.slice(0, -1);
  return `${open},"c":"${crc32(open).toString(16).padStart(8, "0")}"}`;
}

function assertCommit(commit: Commit): void {
  const { sealed } = commit;
  if (!isCount(commit.number) || !Number.isFinite(commit.at)) throw new Error("no number");
  if (sealed !== undefined && typeof sealed !== "string") throw new Error("sealed is no text");
  for (const entry of commit.entries) {
    if (typeof entry.stream !== "string" || typeof entry.event.type !== "string") throw new Error("no event");
    if (entry.version !== undefined && !isCount(entry.version)) throw new Error("no version");
  }
}

function takeLine(text: string): Outcome {
  const line = parseLine(Buffer.from(text));
  if (typeof line === "string") return "refused";
  if (!isCount(line.g)) throw new Error("no group");
  const head = parseHead(Buffer.from(text));
  if (typeof head === "string") throw new Error("a line without a head");
  assertEqual([head.n, head.g, head.p], [line.n, line.g, line.p], "a head of another line");
  assertCommit(toCommit(line, { segment: "s", offset: 0, length: text.length }));
  return "taken";
}

async function takeJournal(bytes: Uint8Array): Promise<Outcome> {
  const disk = new MemoryDisk(new Map([["j/000000000001.jsonl", bytes]]));
  const read = await attempt(async () => {
    for await (const commit of readJournal(disk, "j")) assertCommit(commit);
  });
  return attempt(async () => {
    let count = 0;
    const journal = await Journal.open({ disk, directory: "j", onCommit: () => count++ });
    if (journal.head !== count) throw new Error("the head is not the last commit");
    await journal.close();
    if (read === "refused") throw new Error("a reader refuses what the owner opens");
  });
}

const document = {
  epoch: 1,
  key: Buffer.from(KEY).toString("base64"),
  position: 3,
  since: 5,
  secrets: { a: { b: [1] } },
};
const MAGIC = utf8("kars-mesh-vault-v1\n");
const vaultOf = (text: string) => Buffer.concat([MAGIC, seal(KEY, utf8(text), "vault-v1", random)]);

const takeVault = (bytes: Uint8Array): Promise<Outcome> =>
  attempt(async () => {
    const disk = new MemoryDisk(new Map([["h/vault", bytes]]));
    const { document: opened } = await openVault(disk, "h", KEY, random, 1);
    if (!isCount(opened.position) || !isCount(opened.epoch)) throw new Error("no position");
    const secrets = new Secrets(await openVault(disk, "h", KEY, random, 1), random);
    for (const name of secrets.names("")) if (secrets.get(name) === undefined) throw new Error("a name of nothing");
  });

async function takeSnapshots(text: string): Promise<Outcome> {
  const disk = new MemoryDisk(new Map([["h/snapshots/snapshots.json", utf8(text)]]));
  const file = await readSnapshots(disk, "h", "v1");
  if (!file) return "refused";
  if (file.versions !== "v1" || !isCount(file.position)) throw new Error("no snapshots of ours");
  return "taken";
}

const snapshots = { versions: "v1", position: 5, state: { actors: {} } };
const hashed = (text: string) => `${hash("sha256", text, "hex")}\n${text}`;

const passphrase = { n: 1024, r: 8, p: 1, salt: "AAAA", sealed: "AAAA" };
const forms = [
  formatForm({ protection: "file", key: KEY }),
  formatForm({ protection: "passphrase", ...passphrase }),
  formatForm({ protection: "keychain", service: "kars-mesh", account: "a" }),
];
function takeForm(text: string): Outcome {
  const form = parseForm(text.trim());
  if (!form) return "refused";
  assertEqual(parseForm(formatForm(form).trim()), form, "a form that does not come back");
  return "taken";
}

export const storeTargets: readonly Target[] = [
  { name: "journal-line", kind: "text", samples: texts, take: takeLine },
  { name: "journal-event", kind: "json", samples: lines, take: (text) => takeLine(checksummed(text)) },
  {
    name: "journal",
    kind: "bytes",
    samples: [utf8(`${texts.join("\n")}\n`), utf8(`${texts.slice(0, 3).join("\n")}\n${texts[3]?.slice(0, 40)}`)],
    take: takeJournal,
  },
  {
    name: "journal-lines",
    kind: "json",
    samples: lines,
    take: (text) => takeJournal(utf8(`${texts[0]}\n${checksummed(text)}\n${texts[1]}\n`)),
  },
  { name: "vault", kind: "bytes", samples: [vaultOf(JSON.stringify(document))], take: takeVault },
  { name: "vault-document", kind: "json", samples: [document], take: (text) => takeVault(vaultOf(text)) },
  { name: "snapshots", kind: "text", samples: [hashed(JSON.stringify(snapshots))], take: takeSnapshots },
  { name: "snapshots-state", kind: "json", samples: [snapshots], take: (text) => takeSnapshots(hashed(text)) },
  { name: "store-key", kind: "text", samples: forms, take: takeForm },
  {
    name: "store-key-form",
    kind: "json",
    samples: [passphrase],
    take: (text) => takeForm(`kars-mesh-store-key-passphrase-v1:${text}`),
  },
  {
    name: "sealed-text",
    kind: "text",
    samples: [sealText(KEY, "words", "place", random)],
    take: (text) => attempt(() => unsealText(KEY, text, "place")),
  },
];
