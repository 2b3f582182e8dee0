import type { Clock } from "../../actors/ports.ts";
import { type Api, ApiError, type Kind } from "./api.ts";
import { API_RETRY_MAX_MS, API_RETRY_MIN_MS } from "./limits.ts";

// One kind of object as the API server has it: listed once, then watched from there. A watch that is cut goes on where it was;
// when the server does not remember that far back (410 Gone), it is listed again, and what went unseen is told as a difference.
//
// The client's own informer is not used: it stops at the first error, and drops what its callbacks throw.

export interface ReflectorOptions<T> {
  readonly api: Api;
  readonly kind: Kind;
  readonly selector: string;
  readonly clock: Clock;
  /** Reads an object; undefined when it cannot be read. */
  readonly parse: (object: unknown) => T | undefined;
  readonly nameOf: (object: T) => string;
  /** An object came, changed, or went: then `isGone`, with what it was last. Must not throw. */
  readonly changed: (object: T, isGone: boolean) => void;
  readonly note: (text: string) => void;
}

export class Reflector<T> {
  readonly #options: ReflectorOptions<T>;
  readonly #objects = new Map<string, T>();
  readonly #stopped = new AbortController();
  readonly #synced = Promise.withResolvers<void>();
  #version: string | undefined;
  /** How the server failed last time: the same is told once. */
  #failure: string | undefined;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#synced.promise.catch(() => undefined);
  }

  /** Resolves when all that is there was seen once. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  values(): IterableIterator<T> {
    return this.#objects.values();
  }

  get(name: string): T | undefined {
    return this.#objects.get(name);
  }

  /** Takes an object for there that was made just now, so that it is missed should it go before it was seen. */
  expect(object: T): void {
    const name = this.#options.nameOf(object);
    if (!this.#objects.has(name)) this.#objects.set(name, object);
  }

  /** Lists for the first time, and watches from then on. @throws ApiError when the server refuses; not when it is away */
  async start(): Promise<void> {
    try {
      await this.#list();
    } catch (error) {
      if (!(error instanceof ApiError && error.isPassing)) throw error;
      this.#failed(error);
    }
    void this.#run();
  }

  stop(): void {
    this.#stopped.abort();
  }

  /** Lists and watches until it is stopped. Never rejects. */
  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    let delay = API_RETRY_MIN_MS;
    while (!signal.aborted) {
      try {
        if (this.#version === undefined) await this.#list();
        if (signal.aborted) return;
        const told = await this.#watch(this.#version ?? "");
        delay = API_RETRY_MIN_MS;
        // A server that ends its watches at once is not asked in a loop.
        if (told === 0) await this.#pause(delay);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.status === 410) this.#version = undefined;
        else this.#failed(error);
        await this.#pause(delay);
        delay = Math.min(delay * 2, API_RETRY_MAX_MS);
      }
    }
  }

  async #list(): Promise<void> {
    const { api, kind, selector } = this.#options;
    // What is made while the server lists is none that went.
    const before = [...this.#objects];
    const { items, resourceVersion } = await api.list(kind, selector);
    if (this.#stopped.signal.aborted) return;
    this.#well();
    const seen = new Set<string>();
    for (const item of items) seen.add(this.#put(item) ?? "");
    for (const [name, object] of before) if (!seen.has(name)) this.#drop(name, object);
    this.#version = resourceVersion;
    this.#synced.resolve();
  }

  /** Resolves when the server has ended the watch, with how much it told. */
  async #watch(resourceVersion: string): Promise<number> {
    const { api, kind, selector, parse, nameOf } = this.#options;
    const { signal } = this.#stopped;
    let told = 0;
    await api.watch(kind, { selector, resourceVersion, signal }, (type, object) => {
      if (signal.aborted) return;
      this.#well();
      told++;
      const version = versionOf(object);
      if (version !== undefined) this.#version = version;
      if (type === "BOOKMARK") return;
      if (type !== "DELETED") return void this.#put(object);
      const gone = parse(object);
      if (gone !== undefined) this.#drop(nameOf(gone), gone);
    });
    this.#well();
    return told;
  }

  #put(item: unknown): string | undefined {
    const { parse, nameOf, changed, kind, note } = this.#options;
    const object = parse(item);
    if (object === undefined) {
      note(`Kubernetes told of ${kind} in a form that cannot be read; passed over.`);
      return undefined;
    }
    this.#objects.set(nameOf(object), object);
    changed(object, false);
    return nameOf(object);
  }

  #drop(name: string, object: T): void {
    this.#objects.delete(name);
    this.#options.changed(object, true);
  }

  #failed(error: unknown): void {
    const status = error instanceof ApiError && error.status !== undefined ? ` (${error.status})` : "";
    if (this.#failure === status) return;
    this.#failure = status;
    const { api, kind, note } = this.#options;
    const reason = error instanceof Error ? error.message : String(error);
    note(`The Kubernetes API at ${api.server} cannot be watched for ${kind}${status}: ${reason}. It is asked again.`);
  }

  #well(): void {
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#options.note(`The Kubernetes API tells of ${this.#options.kind} again.`);
  }

  #pause(duration: number): Promise<void> {
    return pause(this.#options.clock, duration, this.#stopped.signal);
  }
}

/** Waits for so long, or until the signal aborts. */
export function pause(clock: Clock, duration: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const disarm = clock.at(clock.now() + duration, resolve);
  const stop = () => {
    disarm();
    resolve();
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  return promise.finally(() => signal.removeEventListener("abort", stop));
}

const versionOf = (object: unknown): string | undefined => {
  if (typeof object !== "object" || object === null || !("metadata" in object)) return undefined;
  const { metadata } = object;
  return typeof metadata === "object" &&
    metadata !== null &&
    "resourceVersion" in metadata &&
    typeof metadata.resourceVersion === "string"
    ? metadata.resourceVersion
    : undefined;
};
