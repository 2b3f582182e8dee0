import { readFile } from "node:fs/promises";
import { MeshError } from "../errors.ts";
import { PASSPHRASE_LENGTH_MAX } from "../limits.ts";
import { type Disk, realDisk } from "../store/disk.ts";
import { describeStoreKey, type Protection, type Unlock } from "../store/key.ts";
import { openKeychain } from "../store/keychain.ts";

// What opens a home's store key where nobody can be asked: the environment names the passphrase, or a file that holds it.

export type { Protection, Unlock } from "../store/key.ts";

/**
 * The passphrase that `name` holds, or the file that `name_FILE` names without the line break at its end; undefined when
 * neither is set.
 * @throws MeshError `passphrase_needed` when the file cannot be read
 */
export async function passphraseFromEnvironment(name = "KARS_MESH_PASSPHRASE"): Promise<string | undefined> {
  const given = process.env[name];
  if (given) return given;
  const path = process.env[`${name}_FILE`];
  if (!path) return undefined;
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new MeshError(
      "passphrase_needed",
      `${name}_FILE cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  });
  const passphrase = text.replace(/\r?\n$/, "");
  if (passphrase === "" || passphrase.length > PASSPHRASE_LENGTH_MAX)
    throw new MeshError("passphrase_needed", `The file that ${name}_FILE names holds no passphrase.`);
  return passphrase;
}

export const environmentUnlock: Unlock = { passphrase: () => passphraseFromEnvironment(), keychain: openKeychain };

/**
 * How a home's store key is protected, without opening it; undefined when there is no home yet.
 * @throws MeshError `store_key_unreadable`
 */
export const keyProtection = async (home: string, disk: Disk = realDisk): Promise<Protection | undefined> =>
  (await describeStoreKey(disk, home))?.protection;
