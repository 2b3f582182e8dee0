import { randomUUID } from "node:crypto";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { realDisk } from "../src/store/disk.ts";
import { type Draft, Journal } from "../src/store/journal.ts";
import { type Contender, compare, type Row, type Subject, withDirectory } from "./harness.ts";
import { peer } from "./peers.ts";

// Durable commits a second: callers that each wait for their commit before they ask for the next.

const CALLERS = [1, 16, 256];
const ROUNDS = 21;
const ROUND_MS = 500;
/** The sealed text of a 1 kB message is 1,384 characters of base64. */
const SEALED = Buffer.alloc(1038, 0x5a).toString("base64");

/** The commit of one message that a person sends. */
const draft = (): Draft => ({
  at: Date.now(),
  entries: [
    {
      stream: "conversation/did:mesh:00112233445566778899aabbccddeeff",
      event: { type: "SEND", id: randomUUID(), kind: "chat", body: { sealed: SEALED }, size: 1000 },
    },
  ],
});

/** Commits a second of so many callers. */
async function rate(callers: number, commit: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  const end = begin + ROUND_MS;
  let count = 0;
  const caller = async () => {
    while (performance.now() < end) {
      await commit();
      count++;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return (count * 1000) / (performance.now() - begin);
}

const journal = (callers: number): Contender => ({
  name: "the journal",
  round: () =>
    withDirectory(async (directory) => {
      const ours = await Journal.open({ disk: realDisk, directory: join(directory, "journal") });
      const figure = await rate(callers, () => ours.append(draft()));
      await ours.close();
      return figure;
    }),
});

/** Lines of the same length, each written and synced for itself, one after the other. */
const eachSynced = (callers: number): Contender => ({
  name: "write + fdatasync each",
  round: () =>
    withDirectory(async (directory) => {
      const file = await open(join(directory, "lines"), "a");
      const around = ',"n":1234567,"t":1763712000000,"g":1234567,"p":"0123456789012345678901","c":"01234567"'.length;
      let turn: Promise<unknown> = Promise.resolve();
      const figure = await rate(callers, () => {
        const line = Buffer.from(`${JSON.stringify(draft().entries)}${" ".repeat(around)}\n`);
        const mine = turn.then(async () => {
          await file.write(line);
          await file.datasync();
        });
        turn = mine;
        return mine;
      });
      await file.close();
      return figure;
    }),
});

interface Database {
  pragma(text: string): unknown;
  exec(text: string): unknown;
  prepare(text: string): { run(...values: readonly (string | number)[]): unknown };
  close(): unknown;
}
type OpenDatabase = new (path: string) => Database;

const database = (directory: string, Sqlite: OpenDatabase) => {
  const db = new Sqlite(join(directory, "commits.db"));
  db.pragma("journal_mode = WAL");
  db.pragma("synchronous = FULL");
  db.exec("CREATE TABLE commits (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, entries TEXT NOT NULL) STRICT");
  const statement = db.prepare("INSERT INTO commits (at, entries) VALUES (?, ?)");
  const insert = ({ at, entries }: Draft) => statement.run(at, JSON.stringify(entries));
  return { db, insert };
};

const rowEach = (callers: number, Sqlite: OpenDatabase): Contender => ({
  name: "better-sqlite3, a row a transaction",
  round: () =>
    withDirectory(async (directory) => {
      const { db, insert } = database(directory, Sqlite);
      const figure = await rate(callers, async () => insert(draft()));
      db.close();
      return figure;
    }),
});

/** Whoever waits when the event loop comes round shares a transaction. */
const grouped = (callers: number, Sqlite: OpenDatabase): Contender => ({
  name: "better-sqlite3, a group a transaction",
  round: () =>
    withDirectory(async (directory) => {
      const { db, insert } = database(directory, Sqlite);
      const [begin, commit] = [db.prepare("BEGIN"), db.prepare("COMMIT")];
      let waiting: { readonly draft: Draft; readonly resolve: () => void }[] = [];
      const write = () => {
        const group = waiting;
        waiting = [];
        begin.run();
        for (const each of group) insert(each.draft);
        commit.run();
        for (const { resolve } of group) resolve();
      };
      const figure = await rate(
        callers,
        () =>
          new Promise<void>((resolve) => {
            if (waiting.length === 0) setImmediate(write);
            waiting.push({ draft: draft(), resolve });
          }),
      );
      db.close();
      return figure;
    }),
});

export const commits: Subject = {
  name: "commits",
  about: "durable commits a second with 1, 16 and 256 callers",
  async measure(tell) {
    const Sqlite: OpenDatabase = peer("better-sqlite3", "13.2.0", tell)("better-sqlite3");
    const rows: Row[] = [];
    for (const callers of CALLERS) {
      tell(`commits: ${callers} callers, ${ROUNDS} rounds`);
      const work = { work: `durable commits, ${callers} at once`, unit: "a second", rounds: ROUNDS };
      rows.push(
        ...(await compare(work, journal(callers), [
          { ...eachSynced(callers), ...(callers === 256 && { goal: { atLeast: 10 } }) },
          { ...rowEach(callers, Sqlite), goal: { atLeast: 1 } },
          { ...grouped(callers, Sqlite), goal: { atLeast: 1 } },
        ])),
      );
    }
    return rows;
  },
};
