import { MeshError } from "../errors.ts";
import type { Effect } from "./state.ts";

export type Performer = (params: never, stream: string) => void | Promise<void>;
export type Performers = Readonly<Record<string, Performer>>;

export interface EffectsOptions {
  /** An effect ended because the disk refused; it is asked for again when its actor is resumed. */
  readonly onRefused?: ((error: MeshError) => void) | undefined;
  /** An effect that threw: a defect, since effects report failures as events. */
  readonly onFault: (error: unknown, where: string) => void;
}

/** Performs what the machines ask for, by whoever offered to; only while it is told to. */
export class Effects {
  readonly #performers = new Map<string, Performers>();
  readonly #options: EffectsOptions;
  /** Nothing is performed while this is false. */
  performing = false;

  constructor(options: EffectsOptions) {
    this.#options = options;
  }

  /** How the effects of one kind of machine are performed. */
  offer(kind: string, performers: Performers): void {
    this.#performers.set(kind, performers);
  }

  perform(kind: string, stream: string, effects: readonly Effect[]): void {
    if (!this.performing || effects.length === 0) return;
    const performers = this.#performers.get(kind);
    for (const { type, params } of effects) {
      const performer = performers?.[type];
      if (!performer) continue;
      const where = `${type} of ${stream}`;
      try {
        const running = performer(params as never, stream);
        if (running) running.catch((error: unknown) => this.#fault(error, where));
      } catch (error) {
        this.#fault(error, where);
      }
    }
  }

  #fault(error: unknown, where: string): void {
    // A node that is closing, or whose disk refuses, says so to its callers; its effects are asked for again later.
    if (error instanceof MeshError && error.code === "closed") return;
    if (error instanceof MeshError && error.code === "store_io") this.#options.onRefused?.(error);
    else this.#options.onFault(error, where);
  }
}
