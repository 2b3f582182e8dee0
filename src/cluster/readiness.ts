import { TROUBLE_MS } from "./limits.ts";

// Whether a server can serve, which whoever sends it clients asks.

export interface Readiness {
  /** The store took something, or refused it with this code. */
  stored(failure: string | undefined): void;
  /** From now on nobody new is to come. */
  drain(): void;
  /** Why it cannot serve, in a few words; undefined when it can. */
  readonly reason: string | undefined;
}

/** @param trouble what the state itself says; see ClusterState */
export function openReadiness(now: () => number, trouble: () => string | undefined): Readiness {
  let isDraining = false;
  let failed: { readonly code: string; readonly at: number } | undefined;
  return {
    stored(failure) {
      failed = failure === undefined ? undefined : { code: failure, at: now() };
    },
    drain() {
      isDraining = true;
    },
    get reason() {
      if (isDraining) return "draining";
      const told = trouble();
      if (told !== undefined) return told;
      // Without clients nothing would show that it is well again: after a while it is given another try.
      return failed && now() - failed.at < TROUBLE_MS ? `the store fails: ${failed.code}` : undefined;
    },
  };
}
