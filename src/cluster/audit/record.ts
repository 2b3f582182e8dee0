import { createHash } from "node:crypto";
import { z } from "zod";
import { TIMER_EVENT } from "../../actors/state.ts";
import type { GrantEvent } from "../../machines/grant/events.ts";
import type { RefusalEvent } from "../../machines/refusal/events.ts";
import type { RunContext, RunEvent } from "../../machines/run/events.ts";
import type { StandingEvent } from "../../machines/standing/events.ts";
import type { Entry } from "../../store/journal.ts";

// What the audit record says of an event of the controller's journal. It follows from the journal alone, so that it can be
// made again and compared: what a version of this program wrote, every later one must write alike.

/** Who asked for what, or was allowed to, and how it ended. Sizes are bytes. */
export interface AuditFact {
  readonly what:
    | "grant.issued"
    | "grant.bound"
    | "grant.revoked"
    | "grant.expired"
    | "pairing.refused"
    | "sandbox.opened"
    | "sandbox.closed"
    | "task.allowed"
    | "task.refused"
    | "task.begun"
    | "task.ended";
  readonly [field: string]: unknown;
}

/** One line of the record. */
export const AuditLine = z.looseObject({
  /** From 1, without gaps. */
  seq: z.int().min(1),
  /** ISO 8601. */
  at: z.string(),
  /** The commit of the controller's journal that it follows from. */
  commit: z.int().min(1),
  what: z.string(),
  grant: z.string().nullish(),
  laptop: z.string().nullish(),
  request: z.string().nullish(),
  /** SHA-256 of the line before, hex; zeros in the first. */
  prev: z.string().length(64),
});
export type AuditLine = z.infer<typeof AuditLine>;

export const GENESIS = "0".repeat(64);
export const hashOf = (line: string): string => createHash("sha256").update(line).digest("hex");

/** The events as the journal holds them, which were parsed when they were written. */
type Stored<E> = E extends { readonly at: number } ? Omit<E, "at"> : never;

const iso = (at: number) => new Date(at).toISOString();

function ofGrant(grant: string, event: Stored<GrantEvent>): AuditFact | undefined {
  switch (event.type) {
    case "ISSUED": {
      const { slots, capabilities, expires_at, token_budget } = event;
      return { what: "grant.issued", grant, slots, capabilities, expires_at: iso(expires_at), token_budget };
    }
    case "BOUND":
      return { what: "grant.bound", grant, laptop: event.did, name: event.name };
    case "REVOKED":
      return { what: "grant.revoked", grant };
    default:
      return undefined;
  }
}

function ofRun(request: string, event: Stored<RunEvent>, context: RunContext | undefined): AuditFact | undefined {
  // Whose it is was said when it was allowed, and does not change.
  const whose = { grant: context?.grant ?? null, laptop: context?.laptop ?? null, request };
  switch (event.type) {
    case "REQUESTED": {
      const { grant, laptop, sandbox, timeout_minutes, task_sha256, task_size, files, bytes, task } = event;
      return {
        ...{ what: "task.allowed", grant, laptop, request, sandbox, timeout_minutes },
        ...{ task_sha256, task_size, files, bytes, task },
      };
    }
    case "BEGUN":
      return { what: "task.begun", ...whose, files: event.files, bytes: event.bytes };
    case "SETTLED": {
      const { outcome, code, reason, exit, tokens, duration_ms } = event;
      return {
        what: "task.ended",
        ...whose,
        sandbox: context?.sandbox,
        outcome,
        code,
        reason,
        exit,
        tokens,
        duration_ms,
      };
    }
    default:
      return undefined;
  }
}

function ofRefusal(event: Stored<RefusalEvent>): AuditFact | undefined {
  if (event.type !== "REFUSED") return undefined;
  const { what, code, grant, laptop, request, task_sha256, task_size, files, bytes } = event;
  return what === "pairing"
    ? { what: "pairing.refused", grant, laptop, code }
    : { what: "task.refused", grant, laptop, request, code, task_sha256, task_size, files, bytes };
}

function ofStanding(sandbox: string, event: Stored<StandingEvent>): AuditFact | undefined {
  if (event.type === "OPENED") return { what: "sandbox.opened", sandbox, capabilities: event.capabilities };
  return event.type === "CLOSED" ? { what: "sandbox.closed", sandbox } : undefined;
}

/** @param contextOf the present context of a run, of which only what never changes is taken */
export function factOf(
  { stream, event }: Entry,
  contextOf: (stream: string) => RunContext | undefined,
): AuditFact | undefined {
  const slash = stream.indexOf("/");
  const id = stream.slice(slash + 1);
  switch (stream.slice(0, slash)) {
    case "grant":
      if (event.type === TIMER_EVENT) return { what: "grant.expired", grant: id };
      return ofGrant(id, event as unknown as Stored<GrantEvent>);
    case "run":
      return ofRun(id, event as unknown as Stored<RunEvent>, contextOf(stream));
    case "standing":
      return ofStanding(id, event as unknown as Stored<StandingEvent>);
    case "refusal":
      return ofRefusal(event as unknown as Stored<RefusalEvent>);
    default:
      return undefined;
  }
}

/** A line of the record, without its line break. */
export const formatLine = (seq: number, at: number, commit: number, fact: AuditFact, prev: string): string =>
  JSON.stringify({ seq, at: iso(at), commit, ...fact, prev });
