import type { MeshError } from "../errors.ts";
import { RETRY_MAX_MS, RETRY_MIN_MS, STORE_PROBE_SIZE } from "../limits.ts";
import { type Disk, joinPath } from "../store/disk.ts";
import type { Journal } from "../store/journal.ts";
import type { Clock } from "./ports.ts";

// Whether the state directory takes commits. From the moment it refuses one, nothing is performed and nothing is taken from the
// relay, so that nothing overtakes what was refused; the disk is tried again, ever more seldom, until it shows that a commit
// would be durable.

export type StoreState =
  | { readonly state: "ok" }
  | { readonly state: "failing"; readonly since: number; readonly reason: string };

export interface StoreHealthOptions {
  readonly clock: Clock;
  /** Resolves when a commit would be durable now. */
  readonly probe: () => Promise<void>;
  /** Called at once when the store begins to refuse. */
  readonly onFailing: () => void;
  readonly onRecovered: () => void;
  /** Called a while after an effect met a refusal that the journal did not: it may be asked for again. */
  readonly onRetry: () => void;
  readonly onNote: (text: string) => void;
}

const backoff = (attempts: number) => Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(attempts, 16));

export class StoreHealth {
  readonly #options: StoreHealthOptions;
  #state: StoreState = { state: "ok" };
  #attempts = 0;
  #recoveredAt = Number.NEGATIVE_INFINITY;
  #cancel: (() => void) | undefined;
  #retries = 0;
  #retriedAt = Number.NEGATIVE_INFINITY;
  #cancelRetry: (() => void) | undefined;
  #closed = false;

  constructor(options: StoreHealthOptions) {
    this.#options = options;
  }

  get state(): StoreState {
    return this.#state;
  }

  /** The disk refused something. */
  failed(error: MeshError): void {
    const { clock, onFailing, onNote } = this.#options;
    if (this.#closed || this.#state.state === "failing") return;
    const since = clock.now();
    // A disk that takes the probe and refuses again is not asked as often as one that was well for a while.
    if (since - this.#recoveredAt > RETRY_MAX_MS) this.#attempts = 0;
    this.#state = { state: "failing", since, reason: error.message };
    onNote(`The store is failing: ${error.message}`);
    onFailing();
    this.#later();
  }

  /** An effect ended because the disk refused. While commits are taken nothing stands still for that. */
  refusedEffect(error: MeshError): void {
    const { clock, onRetry, onNote } = this.#options;
    if (this.#closed || this.#state.state === "failing" || this.#cancelRetry) return;
    const now = clock.now();
    if (now - this.#retriedAt > RETRY_MAX_MS) this.#retries = 0;
    if (this.#retries === 0) onNote(error.message);
    const at = now + backoff(this.#retries++);
    this.#retriedAt = at;
    this.#cancelRetry = clock.at(at, () => {
      this.#cancelRetry = undefined;
      onRetry();
    });
  }

  /** Something was made durable: a disk that failed is tried at once. */
  wrote(): void {
    if (this.#state.state === "failing" && this.#cancel) void this.#try();
  }

  close(): void {
    this.#closed = true;
    for (const cancel of [this.#cancel, this.#cancelRetry]) cancel?.();
  }

  #later(): void {
    const { clock } = this.#options;
    this.#cancel = clock.at(clock.now() + backoff(this.#attempts++), () => void this.#try());
  }

  async #try(): Promise<void> {
    const { clock, probe, onRecovered, onNote } = this.#options;
    this.#cancel?.();
    this.#cancel = undefined;
    try {
      await probe();
    } catch {
      // It refuses as before, which is said already.
      if (!this.#closed) this.#later();
      return;
    }
    if (this.#closed) return;
    this.#state = { state: "ok" };
    this.#recoveredAt = clock.now();
    onNote("The store can be written again.");
    onRecovered();
  }
}

/** Writes and syncs as much as most commits take, between two of them, and takes it away again. No line is added. */
export const probeStore = (disk: Disk, home: string, journal: Journal, certain: () => Promise<void>): Promise<void> =>
  journal.exclusive(async () => {
    await certain();
    const path = joinPath(home, "probe.tmp");
    const file = await disk.append(path);
    try {
      await file.write(new Uint8Array(STORE_PROBE_SIZE));
      await file.sync();
    } finally {
      await file.close();
      await disk.remove(path);
    }
  });
