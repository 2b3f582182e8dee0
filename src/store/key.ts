import { MeshError } from "../errors.ts";
import { type Disk, joinPath } from "./disk.ts";
import { reasonOf } from "./disk-errors.ts";
import { type Random, SEAL_KEY_SIZE } from "./seal.ts";

// The store key seals the vault. By default it lies beside it in a file that only its owner can read: that protects a home
// that is copied without the key file (a backup, a synced folder), not one that is copied whole.

const FILE = "store.key";
const HEADER = "kars-mesh-store-key-v1:";

/**
 * The home's store key (32 bytes), made on first use. A key that is missing where sealed data exists, or that cannot be
 * read, is an error: a new key would be a new identity.
 * @throws MeshError `store_key_unreadable`
 */
export async function openStoreKey(disk: Disk, home: string, hasData: boolean, random: Random): Promise<Uint8Array> {
  const path = joinPath(home, FILE);
  let text: string | undefined;
  try {
    const bytes = await disk.read(path);
    text = bytes && Buffer.from(bytes).toString("utf8").trim();
  } catch (cause) {
    throw new MeshError("store_key_unreadable", `${path}: ${reasonOf(cause)}.`, { cause });
  }
  if (text !== undefined) {
    const key = new Uint8Array(Buffer.from(text.startsWith(HEADER) ? text.slice(HEADER.length) : "", "base64url"));
    if (key.length !== SEAL_KEY_SIZE) throw new MeshError("store_key_unreadable", `${path} is not a store key.`);
    return key;
  }
  if (hasData)
    throw new MeshError("store_key_unreadable", `${path} is missing, and this state directory was sealed with it.`);
  const key = random(SEAL_KEY_SIZE);
  const created = await disk.create(path, Buffer.from(`${HEADER}${Buffer.from(key).toString("base64url")}\n`, "utf8"));
  return created ? key : openStoreKey(disk, home, hasData, random);
}
