import { MeshError } from "../errors.ts";
import { admissionDefinition } from "../machines/admission/machine.ts";
import { conversationDefinition } from "../machines/conversation/machine.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import { linkDefinition } from "../machines/link/machine.ts";
import { noticeDefinition } from "../machines/notice/machine.ts";
import { offloadDefinition } from "../machines/offload/machine.ts";
import { pairingDefinition } from "../machines/pairing/machine.ts";
import { prekeysDefinition } from "../machines/prekeys/machine.ts";
import { presenceDefinition } from "../machines/presence/machine.ts";
import { sessionDefinition } from "../machines/session/machine.ts";
import { Blobs } from "../store/blobs.ts";
import { joinPath } from "../store/disk.ts";
import { tellingDisk } from "../store/disk-errors.ts";
import { Journal } from "../store/journal.ts";
import { openStoreKey, type StoreKey, type Unlock } from "../store/key.ts";
import { Secrets } from "../store/secrets.ts";
import { readSnapshots, type SnapshotFile } from "../store/snapshots.ts";
import { opensVault, openVault, vaultExists } from "../store/vault.ts";
import type { Limits } from "./housekeeping.ts";
import { Keyring } from "./keyring.ts";
import { blobsInUse, framesInUse, removeLeftovers } from "./leftovers.ts";
import type { Ports } from "./ports.ts";
import { MessagesProjection } from "./projections/messages.ts";
import type { PersistedState } from "./state.ts";
import type { StoreHealth } from "./store-health.ts";
import { ActorSystem } from "./system.ts";
import { environmentUnlock } from "./unlock.ts";

// A state directory is opened: what is sealed in the vault, what the snapshots remember, and what the journal has beyond them.

/** When the store turns a page: by default as `limits.ts` says. */
export interface StoreLimits extends Limits {
  /** Bytes of one journal segment. */
  readonly segmentSize: number;
}
export interface OpenOptions {
  readonly home: string;
  readonly limits?: Partial<StoreLimits>;
  /** How a store key that does not lie in the open is come by: by the environment, unless given. */
  readonly unlock?: Unlock;
  /** Machines beyond a laptop's own, with their effects. */
  readonly definitions?: readonly MachineDefinition[];
  /** Lines for whoever watches: never words or secrets. */
  readonly onNote?: (text: string) => void;
}

/** What a state directory holds, opened. */
export interface Store {
  readonly system: ActorSystem;
  readonly journal: Journal;
  readonly secrets: Secrets;
  readonly storeKey: StoreKey;
  readonly keyring: Keyring;
  readonly blobs: Blobs;
  readonly messages: MessagesProjection;
  /** Who is told when the disk refuses. */
  listener: Pick<StoreHealth, "failed" | "refusedEffect"> | undefined;
}

/** Where a repaired home waits to take a damaged one's place. */
export const repairedBeside = (home: string): string => `${home}.repaired`;

interface SnapshotState {
  readonly actors: Record<string, PersistedState>;
  readonly projections: Record<string, unknown>;
}
const isSnapshotState = (state: unknown): state is SnapshotState =>
  typeof state === "object" && state !== null && "actors" in state && "projections" in state;

/** Takes the states of a snapshot file; false when they say nothing to this program. */
function isRestored(system: ActorSystem, { position, state }: SnapshotFile): boolean {
  try {
    if (!isSnapshotState(state)) return false;
    system.restore(position, state);
    return true;
  } catch {
    // A cache that says nothing is no cache; the journal has everything.
    return false;
  }
}

export const NODE_DEFINITIONS: readonly MachineDefinition[] = [
  pairingDefinition,
  prekeysDefinition,
  admissionDefinition,
  sessionDefinition,
  conversationDefinition,
  offloadDefinition,
  noticeDefinition,
  linkDefinition,
  presenceDefinition,
];

/**
 * Opens a state directory: vault, snapshots, tail of the journal.
 * @throws MeshError as `MeshNode.open`
 */
export async function openStore(options: OpenOptions, ports: Ports, useSnapshots = true): Promise<Store> {
  const { home } = options;
  const { random, clock } = ports;
  const disk = tellingDisk(ports.disk);
  await disk.makeDirectory(home);
  const directory = joinPath(home, "journal");
  const hasJournal = (await disk.list(directory)).length > 0;
  const hasData = hasJournal || (await vaultExists(disk, home));
  if (!hasData && (await disk.list(repairedBeside(home))).length > 0)
    throw new MeshError("store_damaged", `${home} is being repaired; kars-mesh doctor --repair finishes that.`);
  await removeLeftovers(disk, home);
  const opens = (key: Uint8Array) => opensVault(disk, home, key);
  const unlock = options.unlock ?? environmentUnlock;
  const storeKey = await openStoreKey({ disk, home, random, unlock, hasData, opens });
  const vault = await openVault(disk, home, storeKey.key, random, clock.now(), hasJournal);
  const secrets = new Secrets(vault, random);
  const keyring = new Keyring(secrets, random);
  const messages = new MessagesProjection();
  let store: Store | undefined;
  const system = new ActorSystem({
    definitions: [...NODE_DEFINITIONS, ...(options.definitions ?? [])],
    projections: [messages],
    clock,
    onRefused: (error) => store?.listener?.refusedEffect(error),
    onFault: (error, where) =>
      options.onNote?.(`A defect in ${where}: ${error instanceof Error ? error.message : String(error)}`),
  });
  const snapshots = await readSnapshots(disk, home, system.versions);
  const used = useSnapshots ? snapshots : undefined;
  // With anything wrong about the snapshots the journal alone is read, and says what is wrong with itself.
  if (used && !isRestored(system, used)) return openStore(options, ports, false);
  const opening = Journal.open({
    disk,
    directory,
    known: Math.max(secrets.epoch.position, snapshots?.position ?? 0),
    checked: used?.checked,
    after: Math.min(secrets.epoch.position, used?.position ?? 0),
    segmentSize: options.limits?.segmentSize,
    ready: () => secrets.certain(),
    onCommit: (commit) => {
      secrets.recover(commit);
      system.fold(commit);
    },
    onDurable: (commits) => system.onDurable(commits),
    onFailure: (error) => {
      system.onFailure();
      keyring.rollBack();
      store?.listener?.failed(error);
    },
  });
  const journal = await opening.catch((error: unknown) => {
    if (used && error instanceof MeshError && error.code === "store_damaged") return undefined;
    throw error;
  });
  if (!journal) return openStore(options, ports, false);
  system.attach(journal, secrets);
  keyring.forgetSent(framesInUse(system));
  const blobs = new Blobs(disk, joinPath(home, "blobs"), random);
  await blobs.sweep(blobsInUse(system));
  store = { system, journal, secrets, storeKey, keyring, blobs, messages, listener: undefined };
  return store;
}
