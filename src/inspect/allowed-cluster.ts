import { type Allowed, code, count, did, flag, hidden, id, list, name, object, oneOf, time } from "./show.ts";

// What of a controller's own machines may leave, as redact.ts has it for the rest.

const capabilities = list(name);
const failure = object({ code, detail: hidden });
const stop = oneOf("done", "error", "cancelled", "discovery_timeout", "revoked");
const outcome = oneOf("done", "error", "cancelled", "discovery_timeout", "revoked", "failed");

export const CLUSTER_ALLOWED: Readonly<Record<string, Allowed>> = {
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
      begun: flag,
      tokens: count,
      result: object({ ok: flag, exit: count, code, reason: hidden }),
      failure,
      settled: flag,
      taskHash: hidden,
      standing: flag,
    },
    events: {
      REQUESTED: {
        request: id,
        grant: name,
        laptop: did,
        sandbox: name,
        capabilities,
        timeout_minutes: count,
        task_sha256: hidden,
        task_size: count,
        files: count,
        bytes: count,
        standing: flag,
        task: hidden,
      },
      BEGUN: { files: count, bytes: count },
      USED: { tokens: count },
      FINISHED: { ok: flag, exit: count, code, reason: hidden },
      SPAWNED: { pid: count },
      STARTING: { phase: oneOf("spawning", "scheduled"), words: hidden },
      READY: { did },
      STOP: { reason: stop },
      EXITED: { code: count, tokens: count },
      FAILED: { code, detail: hidden },
      SETTLED: { outcome, code, reason: hidden, exit: count, tokens: count, duration_ms: count },
    },
  },
  standing: {
    context: { name, capabilities, openedAt: time, did, pid: count, failures: count, detail: hidden },
    events: {
      OPENED: { capabilities },
      SPAWNED: { pid: count },
      READY: { did },
      EXITED: { detail: hidden },
      CLOSED: {},
      REMOVED: {},
    },
  },
  refusal: {
    context: { count, recent: hidden },
    events: {
      REFUSED: {
        what: oneOf("offload", "pairing"),
        code,
        grant: name,
        laptop: did,
        request: id,
        task_sha256: hidden,
        task_size: count,
        files: count,
        bytes: count,
      },
    },
  },
};
