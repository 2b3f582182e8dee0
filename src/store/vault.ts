import { type Adapter, Low } from "lowdb";
import { z } from "zod";
import { MeshError } from "../errors.ts";
import { safeParse } from "../parse.ts";
import { type Disk, joinPath } from "./disk.ts";
import { type Random, SEAL_KEY_SIZE, seal, unseal } from "./seal.ts";

// The vault: one small sealed document, rewritten whole at the end of every epoch. It holds the secrets as they were at a
// position of the journal, and the key under which the journal seals the secrets of the epoch that runs since then.

const FILE = "vault";
const MAGIC = Buffer.from("kars-mesh-vault-v1\n", "utf8");
const PLACE = "vault-v1";

const Json = z.json();
export type Secret = z.infer<typeof Json>;

const Document = z.object({
  epoch: z.int().min(1),
  /** The epoch key, base64. */
  key: z.string(),
  /** The number of the last commit whose secrets are in here. */
  position: z.int().min(0),
  /** When the epoch began, in epoch milliseconds. */
  since: z.number(),
  secrets: z.record(z.string(), Json),
});
export type VaultDocument = z.infer<typeof Document>;

function openDocument(path: string, key: Uint8Array, bytes: Uint8Array): VaultDocument {
  if (!Buffer.from(bytes.subarray(0, MAGIC.length)).equals(MAGIC))
    throw new MeshError("store_damaged", `${path} is not a vault.`);
  let content: unknown;
  try {
    content = JSON.parse(Buffer.from(unseal(key, bytes.subarray(MAGIC.length), PLACE)).toString("utf8"));
  } catch (cause) {
    throw new MeshError("store_damaged", `${path} does not open: another store key, or a changed file.`, { cause });
  }
  const document = safeParse(Document, content);
  // It was sealed with our key: another version of the program wrote it.
  if (!document.success) throw new MeshError("store_damaged", `${path} holds a vault of another form.`);
  return document.data;
}

/** lowdb's adapter on a sealed file that is replaced atomically. */
function sealedFile(disk: Disk, path: string, key: () => Uint8Array, random: Random): Adapter<VaultDocument> {
  return {
    async read() {
      const bytes = await disk.read(path);
      return bytes ? openDocument(path, key(), bytes) : null;
    },
    async write(document) {
      const sealed = seal(key(), new Uint8Array(Buffer.from(JSON.stringify(document), "utf8")), PLACE, random);
      await disk.replace(path, Buffer.concat([MAGIC, sealed]));
    },
  };
}

/** Whether these are the bytes of a vault that this key opens, of one epoch if it is named. */
function isDocument(path: string, key: Uint8Array, bytes: Uint8Array, epoch?: number): boolean {
  try {
    const document = openDocument(path, key, bytes);
    return epoch === undefined || document.epoch === epoch;
  } catch (error) {
    if (error instanceof MeshError) return false;
    throw error;
  }
}

/** Whether this key opens the home's vault; a vault that is not there yet any key opens. */
export async function opensVault(disk: Disk, home: string, key: Uint8Array): Promise<boolean> {
  const path = joinPath(home, FILE);
  const bytes = await disk.read(path);
  if (!bytes) return true;
  return isDocument(path, key, bytes);
}

export interface Vault {
  /** The document that is surely on disk. */
  readonly document: VaultDocument;
  /** The store key that it is sealed with. */
  readonly key: Uint8Array;
  /**
   * Replaces it, sealed with the same store key unless another is given. When this fails, either document may be on disk:
   * until `settle` succeeds nothing may be sealed.
   */
  write(document: VaultDocument, key?: Uint8Array): Promise<void>;
  readonly isCertain: boolean;
  /** Makes certain which document is on disk, if that is in doubt. */
  settle(): Promise<void>;
}

export const vaultExists = async (disk: Disk, home: string): Promise<boolean> => (await disk.list(home)).includes(FILE);

export const freshEpochKey = (random: Random): string => Buffer.from(random(SEAL_KEY_SIZE)).toString("base64");

/** Opens the home's vault, or begins one. @throws MeshError `store_damaged`, also when it is missing beside a journal */
export async function openVault(
  disk: Disk,
  home: string,
  key: Uint8Array,
  random: Random,
  now: number,
  hasJournal = false,
): Promise<Vault> {
  const empty: VaultDocument = { epoch: 1, key: freshEpochKey(random), position: 0, since: now, secrets: {} };
  const existed = await vaultExists(disk, home);
  let storeKey = key;
  const path = joinPath(home, FILE);
  const low = new Low(
    sealedFile(disk, path, () => storeKey, random),
    empty,
  );
  if (existed) {
    await low.read();
    // Nothing may be sealed under a key that a failing power could take back.
    await disk.settle(home);
  } else if (hasJournal) throw new MeshError("store_damaged", `${path} is missing.`);
  else await low.write();
  /** What was to be written, and with which key, when its writing failed while the old document may be gone. */
  let doubtful: { readonly document: VaultDocument; readonly under: Uint8Array } | undefined;
  const write = async (document: VaultDocument, under = storeKey) => {
    const before = { document: low.data, key: storeKey };
    low.data = document;
    storeKey = under;
    try {
      await low.write();
      doubtful = undefined;
    } catch (error) {
      low.data = before.document;
      storeKey = before.key;
      doubtful = { document, under };
      throw error;
    }
  };
  return {
    get document() {
      return low.data;
    },
    get key() {
      return storeKey;
    },
    get isCertain() {
      return doubtful === undefined;
    },
    write,
    async settle() {
      if (!doubtful) return;
      const bytes = await disk.read(path);
      const isOld = bytes && isDocument(path, storeKey, bytes, low.data.epoch);
      if (isOld) doubtful = undefined;
      else await write(doubtful.document, doubtful.under);
    },
  };
}
