import { createHash } from "node:crypto";
import type { Core } from "../actors/core.ts";
import type { MeshNode } from "../actors/node.ts";
import { compose, type Draft, entriesOnly, join } from "../actors/outgoing.ts";
import type { Work } from "../actors/work.ts";
import { type ErrorCode, MeshError } from "../errors.ts";
import { OFFLOAD_TIMEOUT_MINUTES } from "../limits.ts";
import type { Outcome, RunContext } from "../machines/run/events.ts";
import type { PayloadInput, PayloadOf } from "../wire/payload.ts";
import { Name } from "../wire/text.ts";
import { type Grants, grantOf, REFUSALS, runOf } from "./grants.ts";
import type { Sandboxes, SandboxHooks, TaskNews } from "./sandboxes.ts";

// The controller: takes requests from paired laptops, gives each a sandbox within the limits of its grant, and tells the
// laptop how far it is. What a laptop and its sandbox say to each other it does not see.

export interface RunView {
  readonly run: string;
  readonly name: string;
  readonly did: string | null;
  readonly phase: string;
  readonly grant: string;
  readonly laptop: string;
  readonly pid: number | null;
  readonly started_at: string;
  readonly ended_at: string | null;
  readonly failure: string | null;
  /** Its slot is free again and nothing of it is left. */
  readonly settled: boolean;
}

type Phase = "spawning" | "scheduled" | "ready";

/** What a cluster makes of every request. */
export interface RequestRules {
  /** The longest that a task may take. */
  readonly maxMinutes: number;
  /** The words of a task are recorded, in the open. */
  readonly recordsTasks: boolean;
  /** Takes the name of a sandbox that is gone out of the registry; a sandbox that was killed did not. */
  readonly forget: (did: string) => Promise<void>;
}

const phaseOf = (value: unknown): string =>
  typeof value === "string"
    ? value
    : typeof value === "object" && value !== null
      ? String(Object.values(value)[0])
      : "";

export class Controller {
  readonly #core: Core;
  readonly #grants: Grants;
  readonly #sandboxes: Sandboxes;
  readonly #rules: RequestRules;

  constructor(node: MeshNode, grants: Grants, sandboxes: Sandboxes, rules: RequestRules) {
    this.#core = node.core;
    this.#rules = rules;
    this.#grants = grants;
    this.#sandboxes = sandboxes;
    node.perform("run", {
      spawn: ({ run }: { run: string }) => this.#spawn(run),
      reclaim: ({ run }: { run: string }) => this.#reclaim(run),
      tell: ({ run, phase, words }: { run: string; phase: Phase; words?: string }) => this.#tell(run, phase, words),
      stop: ({ run }: { run: string }) => this.#stop(run),
      settle: ({ run, ok }: { run: string; ok: boolean }) => this.#settle(run, ok),
    });
  }

  /** Work that reached the controller; undefined when it is none of its own. */
  async handle({ peer, payload, id: messageId }: Work): Promise<Draft | undefined> {
    if (payload.type === "offload_request") return this.#request(peer, payload, messageId);
    if (payload.type !== "offload_cleanup") return undefined;
    const context = this.#context(payload.request_id);
    if (context?.laptop !== peer) return undefined;
    const reason =
      (["done", "cancelled", "discovery_timeout"] as const).find((known) => known === payload.reason) ?? "error";
    return entriesOnly({ stream: runOf(payload.request_id), event: { type: "STOP", reason } });
  }

  list(): RunView[] {
    return [...this.#core.system.streams("run")].map(([, state]) => {
      const context: RunContext = state.snapshot.context;
      return {
        run: context.id,
        name: context.sandbox,
        did: context.did,
        phase: phaseOf(state.snapshot.value),
        grant: context.grant,
        laptop: context.laptop,
        pid: context.pid,
        started_at: new Date(context.startedAt).toISOString(),
        ended_at: context.endedAt === null ? null : new Date(context.endedAt).toISOString(),
        failure: context.failure?.detail ?? null,
        settled: context.settled,
      };
    });
  }

  #context(run: string): RunContext | undefined {
    return this.#core.system.decided(runOf(run))?.snapshot.context;
  }
  #known(run: string): RunContext {
    const context = this.#context(run);
    if (!context) throw new Error(`no run ${run}`);
    return context;
  }

  // Requests

  #request(laptop: string, request: PayloadOf<"offload_request">, messageId: string): Draft | undefined {
    const id = request.request_id;
    if (this.#context(id)) return undefined;
    const grant = this.#grants.of(laptop);
    const refuse = (code: ErrorCode, detail?: string) =>
      join(
        this.#word(laptop, id, `refused.${messageId.slice(-64)}`, refusalOf(id, code, detail)),
        entriesOnly({
          stream: REFUSALS,
          event: {
            type: "REFUSED",
            what: "offload",
            code,
            grant: grant?.name ?? null,
            laptop,
            request: id,
            ...described(request),
          },
        }),
      );
    if (!grant) return refuse("not_paired");
    if (grant.phase === "Revoked") return refuse("token_revoked");
    if (grant.phase !== "Active") return refuse("token_expired");
    const needed = ["offload", ...(request.target?.capability === undefined ? [] : [request.target.capability])];
    const missing = needed.filter((capability) => !grant.capabilities.includes(capability));
    if (missing.length > 0)
      return refuse("capability_missing", `${missing.join(", ")} (granted: ${grant.capabilities.join(", ")}).`);
    if (grant.token_budget !== null && grant.tokens_used >= grant.token_budget) return refuse("budget_exhausted");
    const wanted = Name.safeParse(request.target?.name ?? `sandbox-${id.slice(0, 8)}`);
    if (!wanted.success) return refuse("input_invalid", "The sandbox's name is not one.");
    const busy = this.list().some(({ name, ended_at }) => name === wanted.data && ended_at === null);
    if (busy) return refuse("cluster_refused", `The sandbox ${wanted.data} is busy with another run.`);
    if (grant.slots_used >= grant.slots)
      return refuse("no_free_slot", `${grant.slots_used} of ${grant.slots} are running.`);
    const minutes = Math.min(request.preferences.timeout_minutes ?? OFFLOAD_TIMEOUT_MINUTES, this.#rules.maxMinutes);
    const validating: PayloadInput = {
      type: "offload_status",
      request_id: id,
      phase: "validating",
      message: `grant ${grant.name} allows it`,
    };
    return join(
      this.#word(laptop, id, "validating", validating),
      entriesOnly(
        { stream: grantOf(grant.name), event: { type: "SLOT_TAKEN", run: id } },
        {
          stream: runOf(id),
          event: {
            type: "REQUESTED",
            request: id,
            grant: grant.name,
            laptop,
            sandbox: wanted.data,
            capabilities: needed,
            timeout_minutes: minutes,
            ...described(request),
            ...(this.#rules.recordsTasks && { task: request.task }),
          },
        },
      ),
    );
  }

  /** A message to the laptop. Its id is made of the run and what it says, so that saying it again is the same message. */
  #word(laptop: string, run: string, saying: string, payload: PayloadInput): Draft {
    return compose(this.#core, laptop, payload, `${run}.${saying}`);
  }

  #commit(draft: Draft): Promise<void> {
    return this.#core.system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  }

  // Effects

  /** What a sandbox tells becomes an event of its run. */
  #hooksOf(run: string): SandboxHooks {
    const report = (event: { readonly type: string; readonly [field: string]: unknown }) => {
      this.#commit(entriesOnly({ stream: runOf(run), event })).catch((error: unknown) =>
        this.#core.note(`Run ${run} could not be noted: ${String(error)}`),
      );
    };
    return {
      starting: (phase, words) => report({ type: "STARTING", phase, words: words.slice(0, 1000) }),
      ready: (did) => report({ type: "READY", did }),
      told: (news) => report(eventOf(news)),
      failed: (detail) => report({ type: "FAILED", code: "cluster_refused", detail: detail.slice(0, 1000) }),
      exited: (code) => report({ type: "EXITED", code, tokens: 0 }),
    };
  }

  async #spawn(run: string): Promise<void> {
    const { laptop, grant, sandbox, capabilities, timeoutMinutes, taskHash } = this.#known(run);
    const hooks = this.#hooksOf(run);
    // The grant may have ended, or its last slot gone, between the request's answer and its commit.
    if (!this.#grants.holds(grant, run)) {
      hooks.failed("the grant had no slot for it any more");
      return;
    }
    const wanted = { laptop, grant, name: sandbox, capabilities, timeoutMinutes, taskHash };
    try {
      const pid = await this.#sandboxes.spawn(run, wanted, hooks);
      await this.#commit(entriesOnly({ stream: runOf(run), event: { type: "SPAWNED", pid } }));
    } catch (error) {
      if (error instanceof MeshError && error.code !== "internal") throw error;
      hooks.failed(`the sandbox could not be started: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async #reclaim(run: string): Promise<void> {
    if (await this.#sandboxes.reclaim(run, this.#hooksOf(run))) return;
    const event = { type: "FAILED", code: "cluster_refused", detail: "the cluster was restarted while it ran" };
    await this.#commit(entriesOnly({ stream: runOf(run), event }));
  }

  async #tell(run: string, phase: Phase, words?: string): Promise<void> {
    const { laptop, sandbox, did } = this.#known(run);
    const status: PayloadInput = {
      type: "offload_status",
      request_id: run,
      phase,
      message: phase === "ready" ? `${sandbox} is up` : `starting ${sandbox}${words === undefined ? "" : `: ${words}`}`,
      ...(phase === "ready" && { sandbox_name: sandbox, ...(did !== null && { sandbox_did: did }) }),
    };
    // The same words are said once.
    const saying =
      words === undefined ? phase : `${phase}.${createHash("sha256").update(words).digest("hex").slice(0, 16)}`;
    await this.#commit(this.#word(laptop, run, saying, status));
  }

  async #stop(run: string): Promise<void> {
    if (await this.#end(run)) return;
    await this.#commit(entriesOnly({ stream: runOf(run), event: { type: "EXITED", code: null, tokens: 0 } }));
  }

  /** Ends a sandbox, also one that an earlier process of this cluster left running. False when there is none. */
  async #end(run: string): Promise<boolean> {
    await this.#sandboxes.reclaim(run, this.#hooksOf(run));
    return this.#sandboxes.stop(run);
  }

  async #settle(run: string, ok: boolean): Promise<void> {
    await this.#end(run);
    await this.#sandboxes.remove(run);
    const { did } = this.#known(run);
    if (did !== null) await this.#rules.forget(did);
    // What it told until its end counts.
    const context = this.#known(run);
    const { laptop, grant, reason, failure, tokens } = context;
    const settled = entriesOnly(
      { stream: grantOf(grant), event: { type: "SLOT_FREED", run, ok, tokens } },
      { stream: runOf(run), event: { type: "SETTLED", ...accountOf(context) } },
    );
    if (failure)
      await this.#commit(
        join(this.#word(laptop, run, "failed", refusalOf(run, failure.code, `${failure.detail}.`)), settled),
      );
    else if (reason === "cancelled") {
      const confirmation: PayloadInput = {
        type: "offload_error",
        request_id: run,
        error: "cancelled",
        phase: "cancelled",
      };
      await this.#commit(join(this.#word(laptop, run, "cancelled", confirmation), settled));
    } else if (reason === "revoked")
      await this.#commit(join(this.#word(laptop, run, "revoked", refusalOf(run, "token_revoked")), settled));
    else await this.#commit(settled);
  }
}

/** What of a request is written down: how much was asked, and a hash to know it by. */
const described = ({ task, files, total_bytes }: PayloadOf<"offload_request">) => ({
  task_sha256: createHash("sha256").update(task).digest("hex"),
  task_size: Buffer.byteLength(task),
  files: files.length,
  bytes: total_bytes ?? 0,
});

/** What a sandbox tells of its task, as an event of its run. */
const eventOf = ({ type, ...news }: TaskNews) => ({ type: EVENT_OF[type], ...news });
const EVENT_OF = { begun: "BEGUN", used: "USED", ended: "FINISHED" } as const;

/** What a run came to. */
function accountOf({ reason, failure, result, tokens, startedAt, endedAt }: RunContext) {
  const outcome: Outcome = failure ? "failed" : (reason ?? "failed");
  return {
    outcome,
    code: failure?.code ?? result?.code ?? (outcome === "revoked" ? "token_revoked" : null),
    reason: failure?.detail ?? result?.reason ?? null,
    exit: result?.exit ?? null,
    tokens,
    duration_ms: Math.max(0, (endedAt ?? startedAt) - startedAt),
  };
}

const refusalOf = (request: string, code: ErrorCode, detail?: string): PayloadInput => ({
  type: "offload_error",
  request_id: request,
  error: new MeshError(code, detail).message,
  phase: "error",
  code,
});
