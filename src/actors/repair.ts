import { readdir, realpath, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { asMeshError, MeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { Body } from "../machines/definition.ts";
import type { SessionContext } from "../machines/session/events.ts";
import { realDisk } from "../store/disk.ts";
import { refusedBy } from "../store/disk-errors.ts";
import { openStoreKey } from "../store/key.ts";
import { salvageStore, syncPath } from "../store/salvage.ts";
import { readSnapshots } from "../store/snapshots.ts";
import { opensVault } from "../store/vault.ts";
import { AUTHORITIES_FILE, authoritiesOf } from "./authorities.ts";
import { conversationOf } from "./core.ts";
import { outlivesSessions } from "./keyring.ts";
import { MeshNode } from "./node.ts";
import { repairedBeside } from "./opening.ts";
import { claimOwnership } from "./owner.ts";
import type { Ports } from "./ports.ts";
import { closing } from "./session-end.ts";
import { queued } from "./settling.ts";
import { environmentUnlock, type Unlock } from "./unlock.ts";

// Repair: what is sound of a damaged home becomes a new home in its place, and the damaged one is kept beside it.
//
//   <home>.repairing    being written; a repeated repair begins it anew
//   <home>.repaired     whole and durable; takes the place of <home>, which has then gone to
//   <home>.damaged-…    the damaged one, as it was
//
// The states of the new home are older than what peers and ratchets have seen since. A ratchet that goes back would use
// message keys twice, so no session is kept: conversations open new ones, and what had not left is sealed anew.

export interface Repair {
  /** `sound`: the home opens. `finished`: an interrupted repair was brought to its end. `repaired`: a new home is in its place. */
  readonly outcome: "sound" | "finished" | "repaired";
  /** Where the damaged home lies now; null when none was set aside. */
  readonly damaged: string | null;
  /** Commits in the new home, and when the last of them was made (ISO 8601). */
  readonly kept: { readonly commits: number; readonly until: string | null } | null;
  /** Commits that are left in the damaged home only, and from when: at least so many. */
  readonly left: { readonly commits: number; readonly from: string | null } | null;
  /** Commits whose secrets could not be read. */
  readonly secrets_unreadable: number;
  /** Sessions that were closed; their peers are met anew. */
  readonly sessions_closed: number;
  /** Messages that wait to be sent. */
  readonly queued: number;
  /** Messages that were given up since their words are gone. */
  readonly given_up: number;
}

export interface RepairOptions {
  readonly home: string;
  readonly ports: Ports;
  /** How a store key that does not lie in the open is come by: by the environment, unless given. */
  readonly unlock?: Unlock;
  /** As of node:fs; what a test lets fail. */
  readonly move?: typeof rename;
}
type Means = Required<Omit<RepairOptions, "home">>;

const NOTHING = {
  damaged: null,
  kept: null,
  left: null,
  secrets_unreadable: 0,
  sessions_closed: 0,
  queued: 0,
  given_up: 0,
} as const;

/** Whether anything of a node lies there, beside the lock that everyone takes. */
async function hasData(home: string): Promise<boolean> {
  const names = await realDisk.list(home);
  return names.some((name) => name === "vault" || name === "store.key" || name === "journal");
}

const exists = async (home: string): Promise<boolean> => (await realDisk.list(home)).length > 0;

/**
 * Repairs a home, or finishes an interrupted repair. A home that opens is left as it is, but for messages whose words are
 * gone: those are given up.
 * @throws MeshError `store_locked` beside a live owner; `store_damaged`, `store_key_unreadable` when it cannot be repaired, with
 * what is left; `store_io`
 */
export async function repairHome({
  home: named,
  ports,
  unlock = environmentUnlock,
  move = rename,
}: RepairOptions): Promise<Repair> {
  // What is renamed is the directory, not a link to it.
  const home = await realpath(named).catch(() => named);
  try {
    const repaired = repairedBeside(home);
    if (!(await hasData(home))) {
      if (!(await exists(repaired))) throw new MeshError("input_invalid", `There is no state directory at ${home}.`);
      return await finish(home, repaired, move);
    }
    return await repairDamaged(home, { ports, unlock, move });
  } catch (error) {
    if (error instanceof Error && "code" in error && "syscall" in error) throw refusedBy(home, error);
    throw asMeshError(error);
  }
}

/** A repair that ended between its two renames: the second of them. */
async function finish(home: string, repaired: string, move: typeof rename): Promise<Repair> {
  const ownership = await claimOwnership(home);
  if (!ownership) throw new MeshError("store_locked", `${home} is in use; a repair needs it to itself.`);
  // Somebody looked for the home meanwhile, and made a lock: nothing else is in there.
  for (const name of await readdir(home)) if (name.startsWith("owner.")) await rm(join(home, name), { force: true });
  ownership.release();
  await rmdir(home);
  await move(repaired, home);
  await syncPath(dirname(home));
  return { ...NOTHING, outcome: "finished", damaged: await newestDamaged(home) };
}

async function newestDamaged(home: string): Promise<string | null> {
  const prefix = `${home}.damaged-`;
  const beside = (await readdir(dirname(home))).map((name) => join(dirname(home), name));
  return (
    beside
      .filter((path) => path.startsWith(prefix))
      .sort()
      .at(-1) ?? null
  );
}

async function repairDamaged(home: string, means: Means): Promise<Repair> {
  const { ports, move } = means;
  const ownership = await claimOwnership(home);
  if (!ownership) throw new MeshError("store_locked", `${home} is in use; a repair needs it to itself.`);
  try {
    const opened = await open(home, means);
    if (opened instanceof MeshNode) {
      const given_up = await giveUpLostWords(opened);
      await opened.close();
      return { ...NOTHING, outcome: "sound", given_up };
    }
    const building = `${home}.repairing`;
    for (const leftover of [building, repairedBeside(home)]) await rm(leftover, { recursive: true, force: true });
    const told = await build(home, building, means).catch(async (error: unknown) => {
      await rm(building, { recursive: true, force: true });
      throw error;
    });
    const trusted = authoritiesOf(home)();
    if (trusted !== "") await ports.disk.replace(join(building, AUTHORITIES_FILE), Buffer.from(trusted));
    await syncPath(dirname(home));
    await move(building, repairedBeside(home));
    await syncPath(dirname(home));
    // Windows renames no directory that holds an open file.
    if (process.platform === "win32") ownership.release();
    const damaged = await setAside(home, ports, move);
    await move(repairedBeside(home), home);
    await syncPath(dirname(home));
    return { ...told, outcome: "repaired", damaged };
  } finally {
    if (process.platform !== "win32") ownership.release();
  }
}

/** The node of a home, or why it is damaged. @throws MeshError for any other failure */
async function open(home: string, { ports, unlock }: Means): Promise<MeshNode | MeshError> {
  try {
    return await MeshNode.open({ home, ports, unlock });
  } catch (error) {
    if (error instanceof MeshError && error.code === "store_damaged") return error;
    throw error;
  }
}

async function setAside(home: string, ports: Ports, move: typeof rename): Promise<string> {
  const stamp = new Date(ports.clock.now()).toISOString().replaceAll(/[-:]|\.\d+/g, "");
  let damaged = `${home}.damaged-${stamp}`;
  for (let again = 2; await exists(damaged); again++) damaged = `${home}.damaged-${stamp}-${again}`;
  await move(home, damaged);
  await syncPath(dirname(home));
  return damaged;
}

const iso = (at: number | null) => (at === null ? null : new Date(at).toISOString());

/** Writes the new home, whole and durable. */
async function build(
  home: string,
  building: string,
  { ports, unlock }: Means,
): Promise<Omit<Repair, "outcome" | "damaged">> {
  const { random, clock } = ports;
  const opens = (key: Uint8Array) => opensVault(realDisk, home, key);
  const { key } = await openStoreKey({ disk: realDisk, home, random, unlock, hasData: true, opens });
  const { scan, unreadable, position } = await salvageStore({
    from: home,
    to: building,
    key,
    random,
    now: clock.now(),
    lasts: outlivesSessions,
  });
  const node = await MeshNode.open({ home: building, ports, unlock });
  const isMember = [...node.core.system.streams("pairing")].length > 0;
  if (isMember && !node.core.keyring.hasIdentity) {
    await node.close();
    throw new MeshError("store_damaged", `The identity of ${home} can be read nowhere; it must be paired anew.`);
  }
  const sessions_closed = await closeSessions(node);
  const given_up = await giveUpLostWords(node);
  const waiting = queued(node);
  await node.close();
  const snapshots = await readSnapshots(realDisk, home);
  const lost = Math.max(scan.behind.head, position, snapshots?.position ?? 0) - scan.head;
  return {
    kept: { commits: scan.head, until: iso(scan.at) },
    left: { commits: Math.max(lost, scan.damage ? 1 : 0), from: iso(scan.behind.from ?? scan.at) },
    secrets_unreadable: unreadable,
    sessions_closed,
    queued: waiting,
    given_up,
  };
}

/** Closes every session: its secrets are gone already. */
async function closeSessions({ core }: MeshNode): Promise<number> {
  let closed = 0;
  for (const [, { snapshot }] of [...core.system.streams("session")]) {
    const { id, peer, role, closed: reason }: SessionContext = snapshot.context;
    if (role === null || reason !== null) continue;
    const { entries, secrets } = closing(core, id, peer, {
      reason: "its state directory was repaired",
      code: "store_damaged",
    });
    await core.system.commit(entries, { secrets }).durable;
    closed++;
  }
  return closed;
}

/** Messages and work whose words can no longer be read would wait for ever: they are given up, and are seen to be. */
async function giveUpLostWords({ core }: MeshNode): Promise<number> {
  let given = 0;
  for (const [, { snapshot }] of [...core.system.streams("conversation")]) {
    const { peer, outbox, handling }: ConversationContext = snapshot.context;
    const lost = async (items: readonly { readonly id: string; readonly body: Body }[]) => {
      const ids: string[] = [];
      for (const { id, body } of items) {
        const isThere = await core.bodies.open(peer, body).then(
          () => true,
          (error: unknown) => asMeshError(error).code !== "store_damaged",
        );
        if (!isThere) ids.push(id);
      }
      return ids;
    };
    const unsendable = await lost(outbox);
    const unheard = await lost(handling);
    const stream = conversationOf(peer);
    const entries = [
      ...(unsendable.length > 0
        ? [{ stream, event: { type: "UNDELIVERABLE", ids: unsendable, code: "store_damaged" } }]
        : []),
      ...(unheard.length > 0 ? [{ stream, event: { type: "HANDLED", ids: unheard } }] : []),
    ];
    if (entries.length > 0) await core.system.commit(entries).durable;
    given += unsendable.length + unheard.length;
  }
  return given;
}
