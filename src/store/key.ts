import { timingSafeEqual } from "node:crypto";
import { asMeshError, MeshError } from "../errors.ts";
import { type Disk, joinPath } from "./disk.ts";
import { reasonOf } from "./disk-errors.ts";
import {
  type Form,
  formatForm,
  keyOf,
  type Protection,
  parseForm,
  protect,
  type Unlock,
  type Wish,
} from "./key-forms.ts";
import { type Random, SEAL_KEY_SIZE } from "./seal.ts";

// The store key seals the vault. By default it lies beside it in a file that only its owner can read: that protects a home
// that is copied without the key file (a backup, a synced folder), not one that is copied whole.
//
// A change of protection draws a new key. Its file is written as `store.key.next`, the vault is sealed anew under it, and
// then the file takes the old one's place. After a crash whichever of the two opens the vault is the store key.

export type { Protection, Unlock, Wish } from "./key-forms.ts";
export type { Keychain } from "./keychain.ts";

const FILE = "store.key";
const NEXT = "store.key.next";

interface Candidate {
  readonly form: Form;
  readonly text: string;
}
interface Opened extends Candidate {
  readonly key: Uint8Array;
}

async function readForm(disk: Disk, path: string): Promise<Candidate | undefined> {
  let text: string | undefined;
  try {
    const bytes = await disk.read(path);
    text = bytes && Buffer.from(bytes).toString("utf8").trim();
  } catch (cause) {
    throw new MeshError("store_key_unreadable", `${path}: ${reasonOf(cause)}.`, { cause });
  }
  if (text === undefined) return undefined;
  const form = parseForm(text);
  if (!form) throw new MeshError("store_key_unreadable", `${path} is not a store key.`);
  return { form, text: `${text}\n` };
}

/**
 * How a home's store key is protected, without opening it; undefined when there is none. `changing`: a change was begun and
 * not finished, which the next opening does.
 * @throws MeshError `store_key_unreadable`
 */
export async function describeStoreKey(
  disk: Disk,
  home: string,
): Promise<{ readonly protection: Protection; readonly changing: boolean } | undefined> {
  const [current, next] = [await readForm(disk, joinPath(home, FILE)), await readForm(disk, joinPath(home, NEXT))];
  const shown = current ?? next;
  return shown && { protection: shown.form.protection, changing: next !== undefined };
}

/** What is sealed with the store key. */
export interface SealedVault {
  /** The key that it is surely sealed with, once `settle` has succeeded. */
  readonly key: Uint8Array;
  settle(): Promise<void>;
  /** Seals it with another key, durably. */
  reseal(key: Uint8Array): Promise<void>;
}

/** The home's store key (32 bytes), and the way to change it. */
export class StoreKey {
  readonly #disk: Disk;
  readonly #home: string;
  readonly #random: Random;
  readonly #unlock: Unlock;
  #current: Opened;
  /** A key whose file lies as `store.key.next`, from the beginning of a change to its end. */
  #next: Opened | undefined;
  #changing: Promise<void> = Promise.resolve();

  constructor({ disk, home, random, unlock }: KeyOptions, current: Opened) {
    this.#disk = disk;
    this.#home = home;
    this.#random = random;
    this.#unlock = unlock;
    this.#current = current;
  }

  get key(): Uint8Array {
    return this.#current.key;
  }
  get protection(): Protection {
    return this.#current.form.protection;
  }

  /**
   * Draws a new key, protected as is wished. The old one opens nothing any more when this has ended. One change at a time.
   * @throws MeshError `store_io`, `input_invalid`, `keychain_unavailable`; the next opening finishes or undoes what was begun
   */
  change(wish: Wish, vault: SealedVault): Promise<void> {
    const changing = this.#changing.then(() => this.#change(wish, vault));
    // The one after it has a caller of its own.
    this.#changing = changing.catch(() => undefined);
    return changing;
  }

  /** Resolves when no change is under way. */
  idle(): Promise<void> {
    return this.#changing;
  }

  async #change(wish: Wish, vault: SealedVault): Promise<void> {
    try {
      await vault.settle();
      await this.settle(vault.key);
      const key = this.#random(SEAL_KEY_SIZE);
      const form = await protect(key, wish, this.#unlock, this.#random);
      const text = formatForm(form);
      await this.#disk.replace(joinPath(this.#home, NEXT), Buffer.from(text, "utf8"));
      this.#next = { key, form, text };
      await vault.reseal(key);
      await this.settle(vault.key);
    } catch (cause) {
      if (cause instanceof MeshError) throw cause;
      throw new MeshError("store_io", `${cause instanceof Error ? cause.message : String(cause)}.`, { cause });
    }
  }

  /** Ends a change that was begun, if one was: the key that the vault is sealed with is the store key. */
  async settle(sealedWith: Uint8Array): Promise<void> {
    const next = this.#next;
    if (!next) return;
    const current = this.#current;
    const isTaken = timingSafeEqual(sealedWith, next.key);
    if (isTaken) this.#current = next;
    await this.finish(isTaken, (isTaken ? current : next).form);
    this.#next = undefined;
  }

  /** The key in use takes its place, if it lies as the next one, and what is left of the other goes. */
  async finish(isNext: boolean, other: Form | undefined): Promise<void> {
    if (isNext) await this.#disk.replace(joinPath(this.#home, FILE), Buffer.from(this.#current.text, "utf8"));
    await this.#disk.remove(joinPath(this.#home, NEXT));
    if (other) await this.#forget(other);
  }

  /** A key that seals nothing any more may as well lie in its keychain when that refuses. */
  async #forget(form: Form): Promise<void> {
    // Where a crash left the next file beside its own copy, both name the key in use.
    if (form.protection !== "keychain" || formatForm(form) === formatForm(this.#current.form)) return;
    const { service, account } = form;
    await this.#unlock
      .keychain()
      .then((keychain) => keychain.remove(service, account))
      .catch(() => undefined);
  }
}

/** What opens a home's store key. */
export interface KeyOptions {
  readonly disk: Disk;
  readonly home: string;
  readonly random: Random;
  readonly unlock: Unlock;
  /** Whether there is anything that was sealed with it. */
  readonly hasData: boolean;
  /** Whether this key opens the vault. */
  readonly opens: (key: Uint8Array) => Promise<boolean>;
}

/**
 * Opens the home's store key, made on first use as a file. A key that is missing where sealed data exists, or that cannot be
 * read, is an error: a new key would be a new identity.
 * @throws MeshError `store_key_unreadable`, `passphrase_needed`, `passphrase_wrong`, `keychain_unavailable`
 */
export async function openStoreKey(options: KeyOptions): Promise<StoreKey> {
  const { disk, home, random, unlock, hasData } = options;
  const path = joinPath(home, FILE);
  const current = await readForm(disk, path);
  const next = await readForm(disk, joinPath(home, NEXT));
  if (next) return openChanging(options, current, next);
  if (current) return new StoreKey(options, { ...current, key: await keyOf(current.form, unlock) });
  if (hasData)
    throw new MeshError("store_key_unreadable", `${path} is missing, and this state directory was sealed with it.`);
  const key = random(SEAL_KEY_SIZE);
  const form: Form = { protection: "file", key };
  const text = formatForm(form);
  const created = await disk.create(path, Buffer.from(text, "utf8"));
  return created ? new StoreKey(options, { key, form, text }) : openStoreKey(options);
}

/** A change was cut short. The passphrase at hand may be the one before it or the new one. */
async function openChanging(options: KeyOptions, current: Candidate | undefined, next: Candidate): Promise<StoreKey> {
  let asked: Promise<string | undefined> | undefined;
  const passphrase = () => {
    asked ??= options.unlock.passphrase();
    return asked;
  };
  const refusals: MeshError[] = [];
  for (const candidate of current ? [current, next] : [next]) {
    let key: Uint8Array;
    try {
      key = await keyOf(candidate.form, { ...options.unlock, passphrase });
    } catch (error) {
      refusals.push(asMeshError(error));
      continue;
    }
    if (!(await options.opens(key))) continue;
    const isNext = candidate === next;
    const storeKey = new StoreKey(options, { ...candidate, key });
    await storeKey.finish(isNext, (isNext ? current : next)?.form);
    return storeKey;
  }
  const [refusal] = refusals;
  const both = `A change from ${FILE} to ${NEXT} was cut short, and what is at hand opens neither.`;
  throw refusal ? new MeshError(refusal.code, both, { cause: refusal }) : new MeshError("store_damaged", both);
}
