import { MeshError } from "../errors.ts";
import type { Commit } from "./journal.ts";
import { type Random, sealText, unsealText } from "./seal.ts";
import { freshEpochKey, type Secret, type Vault, type VaultDocument } from "./vault.ts";

// Secrets: what must not outlive its use, by name. Their changes ride in the journal, sealed under the epoch key; the vault
// holds them whole as of the epoch's beginning. Turning the epoch rewrites the vault under a fresh key, and what the
// journal sealed under the old one can be read by nobody any more.

/**
 * Names of secrets and their new values; null forgets one. Content keys are named `content/…`: when one is destroyed the epoch
 * must end, since until then vault and journal still hold it.
 */
export type SecretPatch = Readonly<Record<string, Secret>>;

export function applyPatch(map: Map<string, Secret>, patch: SecretPatch): void {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) map.delete(name);
    else map.set(name, value);
  }
}

const destroysWords = (patch: SecretPatch) =>
  Object.entries(patch).some(([name, value]) => value === null && name.startsWith("content/"));

/**
 * The secrets that a commit changed since the vault was written; undefined when it changed none.
 * @throws MeshError `store_damaged` when they do not open
 */
export function openPatch({ epoch, key, position }: VaultDocument, commit: Commit): SecretPatch | undefined {
  if (commit.sealed === undefined || commit.number <= position) return undefined;
  const [mark = "", sealed = ""] = commit.sealed.split(".");
  const where = `Journal segment ${commit.place.segment}, commit ${commit.number}`;
  if (Number(mark) !== epoch)
    throw new MeshError("store_damaged", `${where}: sealed under epoch ${mark}, and the vault is at epoch ${epoch}.`);
  try {
    return JSON.parse(unsealText(Buffer.from(key, "base64"), sealed, `journal/${epoch}/${commit.number}`));
  } catch (cause) {
    throw new MeshError("store_damaged", `${where}: its secrets do not open.`, { cause });
  }
}

export class Secrets {
  /** As decided: what the next commit builds on. */
  #decided: Map<string, Secret>;
  /** As durable: what the vault may hold. */
  readonly #durable: Map<string, Secret>;
  readonly #vault: Vault;
  readonly #random: Random;
  #commitsOfEpoch = 0;
  #mustEnd = false;

  constructor(vault: Vault, random: Random) {
    this.#vault = vault;
    this.#random = random;
    this.#durable = new Map(Object.entries(vault.document.secrets));
    this.#decided = new Map(this.#durable);
  }

  get(name: string): Secret | undefined {
    return this.#decided.get(name);
  }

  /** Names that start with `prefix`, in the order in which they were first set. */
  names(prefix: string): string[] {
    return [...this.#decided.keys()].filter((name) => name.startsWith(prefix));
  }

  /** Takes a patch into what is decided; `seal` makes the text that the journal keeps of it. */
  decide(patch: SecretPatch): { seal: (commitNumber: number) => string } {
    applyPatch(this.#decided, patch);
    const text = JSON.stringify(patch);
    return {
      seal: (commitNumber) => {
        if (!this.#vault.isCertain) throw new MeshError("store_io", "It is not certain which epoch key is on disk.");
        const { epoch, key } = this.#vault.document;
        return `${epoch}.${sealText(Buffer.from(key, "base64"), text, `journal/${epoch}/${commitNumber}`, this.#random)}`;
      },
    };
  }

  /** Forgets what the events of a commit say is of no more use: the journal need not say it again. */
  decideForgotten(names: readonly string[]): void {
    for (const name of names) this.#decided.delete(name);
  }

  /** Such a commit became durable, or was found when the home opened. */
  forget(names: readonly string[]): void {
    for (const name of names) {
      this.#decided.delete(name);
      // The vault may still have it: it goes with the epoch.
      if (this.#durable.delete(name)) this.#commitsOfEpoch++;
    }
  }

  /** A commit with this patch became durable. */
  confirm(patch: SecretPatch): void {
    this.#keep(patch);
  }

  #keep(patch: SecretPatch): void {
    applyPatch(this.#durable, patch);
    this.#commitsOfEpoch++;
    this.#mustEnd ||= destroysWords(patch);
  }

  /** What was decided and is not durable never happened. */
  rollBack(): void {
    this.#decided = new Map(this.#durable);
  }

  /** A commit read when the home opens. @throws MeshError `store_damaged` */
  recover(commit: Commit): void {
    const patch = openPatch(this.#vault.document, commit);
    if (!patch) return;
    this.#keep(patch);
    applyPatch(this.#decided, patch);
  }

  get epoch(): {
    readonly number: number;
    readonly since: number;
    readonly commits: number;
    readonly position: number;
    /** What was destroyed in it is gone only when it has ended. */
    readonly mustEnd: boolean;
  } {
    const { epoch, since, position } = this.#vault.document;
    return { number: epoch, since, position, commits: this.#commitsOfEpoch, mustEnd: this.#mustEnd };
  }

  /** Must hold before anything is sealed: which epoch key is on disk is certain. */
  certain(): Promise<void> {
    return this.#vault.settle();
  }

  /** The store key that the vault is surely sealed with. */
  get storeKey(): Uint8Array {
    return this.#vault.key;
  }

  /** Ends the epoch. Must run while no commit is being written (`Journal.exclusive`). @param storeKey another for the vault */
  async turnEpoch(position: number, now: number, storeKey?: Uint8Array): Promise<void> {
    const { epoch } = this.#vault.document;
    const secrets = Object.fromEntries(this.#durable);
    const key = freshEpochKey(this.#random);
    await this.#vault.write({ epoch: epoch + 1, key, position, since: now, secrets }, storeKey);
    this.#commitsOfEpoch = 0;
    this.#mustEnd = false;
  }
}
