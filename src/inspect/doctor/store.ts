import { type Standing, standingOf } from "../../actors/diagnosis.ts";
import { realRandom } from "../../actors/ports.ts";
import { type ActorState, begin } from "../../actors/state.ts";
import { environmentUnlock, type Unlock } from "../../actors/unlock.ts";
import { upcast } from "../../actors/upcast.ts";
import { asMeshError, type ErrorCode } from "../../errors.ts";
import { joinPath, realDisk } from "../../store/disk.ts";
import { tellingDisk } from "../../store/disk-errors.ts";
import type { Commit } from "../../store/journal.ts";
import { describeStoreKey, openStoreKey } from "../../store/key.ts";
import { type JournalScan, scanJournal } from "../../store/scan.ts";
import { applyPatch, openPatch } from "../../store/secrets.ts";
import { readSnapshots } from "../../store/snapshots.ts";
import { opensVault, openVault, type Secret, type VaultDocument } from "../../store/vault.ts";
import { definitionOf, partsOf } from "../definitions.ts";
import { stepOrNone } from "../fold.ts";
import { checkReplay } from "../replay.ts";
import { counted, type Finding, failed, note, ok, problem, SALVAGE } from "./check.ts";

// The store of a home: journal, vault, snapshots, blobs. Everything is only read, and beside an owner too.

const disk = tellingDisk(realDisk);

/** What was found out about a store, as far as it could be read. */
export interface StoreFindings {
  readonly journal: Finding;
  readonly vault: Finding;
  readonly snapshots: Finding;
  readonly blobs: Finding;
  /** How the home stands by its sound commits. */
  readonly standing: Standing;
  /** One-time prekeys that were not used up; undefined when the secrets cannot be read. */
  readonly oneTimePreKeys: number | undefined;
}

/** What an owner that answers says of what it alone can know. */
export interface OwnerSays {
  readonly head: number;
  readonly epoch: { readonly number: number; readonly position: number };
}

/** The passphrase is somebody's to give: without it the vault is closed, not broken. */
const CLOSED: ReadonlySet<ErrorCode> = new Set(["passphrase_needed"]);

export async function examineStore(
  home: string,
  owner: OwnerSays | "silent" | undefined,
  unlock: Unlock = environmentUnlock,
): Promise<StoreFindings> {
  const states = new Map<string, ActorState>();
  const secrets = new Map<string, Secret>();
  const vault = owner ? undefined : await openDocument(home, unlock);
  const document = vault?.document;
  for (const [name, value] of Object.entries(document?.secrets ?? {})) secrets.set(name, value);
  let sealed: Finding | undefined;
  let foreign: Finding | undefined;
  const take = (stored: Commit) => {
    try {
      fold(states, stored);
    } catch (error) {
      foreign ??= failed(error);
    }
    try {
      if (document && !sealed) applyPatch(secrets, openPatch(document, stored) ?? {});
    } catch (error) {
      sealed = failed(error);
    }
  };
  const scan = await scanJournal(disk, joinPath(home, "journal"), { onSound: take }).catch(failed);
  const standing = standingOf(states);
  if ("status" in scan) {
    const unknown = note("Not looked at: the journal cannot be read.");
    const vaultFinding = vault?.finding ?? unknown;
    return {
      journal: scan,
      vault: vaultFinding,
      snapshots: unknown,
      blobs: unknown,
      standing,
      oneTimePreKeys: undefined,
    };
  }
  const snapshots = await snapshotFinding(home, scan, owner !== undefined);
  return {
    journal: foreign ?? journalFinding(scan, owner !== undefined),
    vault: sealed ?? (owner ? ownedVault(owner) : vaultFinding(vault, scan)),
    snapshots,
    blobs: await blobFinding(home, standing.blobs, owner !== undefined),
    standing,
    oneTimePreKeys: document && [...secrets.keys()].filter((name) => name.startsWith("prekey/one-time/")).length,
  };
}

function fold(states: Map<string, ActorState>, stored: Commit): void {
  const commit = upcast(stored, definitionOf);
  for (const { stream, event } of commit.entries) {
    const definition = definitionOf(stream);
    if (!definition) continue;
    const before = states.get(stream) ?? begin(definition, partsOf(stream).id);
    states.set(stream, stepOrNone(definition, before, event, commit.at)?.state ?? before);
  }
}

interface OpenedVault {
  readonly document: VaultDocument | undefined;
  /** Why there is none. */
  readonly finding: Finding | undefined;
}

/** Reads the vault; a change of the key that was cut short is left for the next opening to finish. */
async function openDocument(home: string, unlock: Unlock): Promise<OpenedVault> {
  try {
    const described = await describeStoreKey(disk, home);
    if (described?.changing)
      return { document: undefined, finding: note("A change of its key was cut short; the next opening ends it.") };
    const opens = (key: Uint8Array) => opensVault(disk, home, key);
    const { key } = await openStoreKey({ disk, home, random: realRandom, unlock, hasData: true, opens });
    const { document } = await openVault(disk, home, key, realRandom, 0, true);
    return { document, finding: undefined };
  } catch (error) {
    const { code, message } = asMeshError(error);
    const restore =
      "Restore it from a backup, or set this state directory aside and pair anew; kars-mesh history can still be read.";
    if (CLOSED.has(code)) return { document: undefined, finding: note(`It was not opened. ${message}`) };
    return {
      document: undefined,
      finding: problem(code === "store_damaged" ? `${firstSentence(message)} ${restore}` : message),
    };
  }
}

/** Without the code's own advice, where better can be given. */
const firstSentence = (message: string): string => /^.*?\.(?=\s[A-Z])/s.exec(message)?.[0] ?? message;

const where = ({ segments, bytes }: JournalScan) =>
  `${counted(segments, "segment")}, ${bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1000)} kB`}`;

function journalFinding(scan: JournalScan, isOwned: boolean): Finding {
  const { damage, torn, head, behind } = scan;
  if (damage) {
    const rest = behind.commits > 0 ? `, ${behind.commits} whole ones lie behind it` : "";
    return problem(
      `Segment ${damage.segment}, line ${damage.line}: ${damage.reason}. ${counted(head, "commit")} before it ${head === 1 ? "is" : "are"} sound${rest}. ${SALVAGE}`,
    );
  }
  if (torn && !isOwned)
    return note(
      `${counted(head, "sound commit")}; a torn write of ${counted(torn.bytes, "byte")} at the end of ${torn.segment}, which the next opening cuts off.`,
    );
  if (head === 0) return ok("It is empty.");
  return ok(`${counted(head, "commit")} in ${where(scan)}: every checksum, number and hash is right.`);
}

const ownedVault = (owner: OwnerSays | "silent"): Finding =>
  owner === "silent"
    ? note("Not looked at: its owner, who rewrites it, did not answer.")
    : ok(
        `Its owner has it open: epoch ${owner.epoch.number}, of commit ${owner.epoch.position}; the journal is at ${owner.head}.`,
      );

function vaultFinding(vault: OpenedVault | undefined, { head, damage }: JournalScan): Finding {
  if (vault?.finding) return vault.finding;
  const { epoch, position } = vault?.document ?? { epoch: 0, position: 0 };
  if (position > head && !damage)
    return problem(`It is of commit ${position}, and the journal ends with ${head}: the journal was cut. ${SALVAGE}`);
  return ok(`It opens: epoch ${epoch}, of commit ${position}.`);
}

async function snapshotFinding(home: string, { head, damage }: JournalScan, isOwned: boolean): Promise<Finding> {
  const file = await readSnapshots(disk, home);
  if (!file) {
    const isThere = (await disk.list(joinPath(home, "snapshots")).catch(() => [])).length > 0;
    return isThere
      ? note(
          "They cannot be read. They are a cache: the next opening folds the journal from its start and writes new ones.",
        )
      : note("There are none yet: the next opening folds the journal from its start.");
  }
  if (damage) return note(`They are of commit ${file.position}; they were not compared, since the journal is damaged.`);
  if (file.position > head && !isOwned)
    return problem(
      `They are of commit ${file.position}, and the journal ends with ${head}: the journal was cut. ${SALVAGE}`,
    );
  const { streams, events, compared_at, differences } = await checkReplay(home);
  const [first] = differences;
  if (first)
    return problem(
      `${first.stream}: ${first.what}${differences.length > 1 ? ` And ${differences.length - 1} more.` : ""} Move the folder snapshots away and open the home again; if it comes back, report it.`,
    );
  if (compared_at === null)
    return note("They are of another version of the program; the next opening writes new ones.");
  return ok(
    `Of commit ${compared_at}; folding ${counted(events, "event")} of ${counted(streams, "stream")} from the start gives the same.`,
  );
}

/** Beside an owner blobs come and go while one looks. */
async function blobFinding(home: string, used: readonly string[], isOwned: boolean): Promise<Finding> {
  const there = (await disk.list(joinPath(home, "blobs"))).filter((name) => !name.endsWith(".tmp"));
  const missing = used.filter((name) => !there.includes(name));
  if (missing.length > 0 && !isOwned)
    return problem(
      `${counted(missing.length, "body", "bodies")} of waiting messages are missing: kars-mesh doctor --repair gives those messages up.`,
    );
  const strays = there.filter((name) => !used.includes(name)).length;
  if (strays > 0 && !isOwned)
    return note(
      `${counted(used.length, "blob")} in use, ${strays} that nothing refers to: the next opening removes them.`,
    );
  return ok(used.length === 0 ? "None is in use." : `${counted(used.length, "blob")} in use, and there.`);
}
