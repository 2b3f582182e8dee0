import { code, count, did, type Fields, flag, hidden, id, list, name, object, oneOf, time } from "./show.ts";

// What of the events and states of a cluster's own machines may leave, as ./redact.ts says it for all.

export interface Allowed {
  readonly context: Fields;
  readonly events: Readonly<Record<string, Fields>>;
}

const stop = oneOf("done", "error", "cancelled", "discovery_timeout", "revoked");
const capabilities = list(name);
const failure = object({ code, detail: hidden });

export const CLUSTER: Readonly<Record<string, Allowed>> = {
  grant: {
    context: {
      name,
      tokenHash: hidden,
      slots: count,
      capabilities,
      expiresAt: time,
      tokenBudget: count,
      issuedAt: time,
      did,
      displayName: name,
      pairedAt: time,
      running: list(id),
      completed: count,
      failed: count,
      tokensUsed: count,
    },
    events: {
      ISSUED: { token_hash: hidden, slots: count, capabilities, expires_at: time, token_budget: count },
      BOUND: { did, name },
      SLOT_TAKEN: { run: id },
      SLOT_FREED: { run: id, ok: flag, tokens: count },
    },
  },
  run: {
    context: {
      id,
      request: id,
      grant: name,
      laptop: did,
      sandbox: name,
      capabilities,
      timeoutMinutes: count,
      did,
      pid: count,
      waits: hidden,
      startedAt: time,
      endedAt: time,
      reason: stop,
      failure,
      settled: flag,
    },
    events: {
      REQUESTED: {
        request: id,
        grant: name,
        laptop: did,
        sandbox: name,
        capabilities,
        timeout_minutes: count,
      },
      SPAWNED: { pid: count },
      STARTING: { phase: oneOf("spawning", "scheduled"), words: hidden },
      READY: { did },
      STOP: { reason: stop },
      EXITED: { code: count, tokens: count },
      FAILED: { code, detail: hidden },
    },
  },
};
