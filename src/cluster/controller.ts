import { createHash } from "node:crypto";
import type { Core } from "../actors/core.ts";
import { type Draft, entriesOnly, join } from "../actors/drafts.ts";
import { until } from "../actors/inbox.ts";
import type { MeshNode } from "../actors/node.ts";
import type { Work } from "../actors/work.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { SETTLE_MS } from "../limits.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { Outcome, RunContext } from "../machines/run/events.ts";
import type { PayloadInput, PayloadOf, TaskNews } from "../wire/payload.ts";
import { type Grants, grantOf, runOf } from "./grants.ts";
import { type RequestRules, Requests, refusalOf, word } from "./requests.ts";
import type { Sandboxes, SandboxHooks } from "./sandboxes.ts";
import type { StandingSandboxes } from "./standing.ts";

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
  /** Its slot is free again, and what it left is being removed. */
  readonly settled: boolean;
}

type Phase = "spawning" | "scheduled" | "ready";

export interface ControllerOptions {
  readonly grants: Grants;
  readonly sandboxes: Sandboxes;
  readonly standing: StandingSandboxes;
  readonly rules: RequestRules;
  /** Takes a sandbox that is gone out of the registry; one that was killed did not do it. */
  readonly forget: (did: string) => Promise<void>;
}

const phaseOf = (value: unknown): string =>
  typeof value === "string"
    ? value
    : typeof value === "object" && value !== null
      ? String(Object.values(value)[0])
      : "";

export class Controller {
  readonly #node: MeshNode;
  readonly #core: Core;
  readonly #grants: Grants;
  readonly #sandboxes: Sandboxes;
  readonly #requests: Requests;
  readonly #forget: ControllerOptions["forget"];

  constructor(node: MeshNode, { grants, sandboxes, standing, rules, forget }: ControllerOptions) {
    this.#node = node;
    this.#core = node.core;
    this.#requests = new Requests(node, { grants, standing, rules, list: () => this.list() });
    this.#grants = grants;
    this.#sandboxes = sandboxes;
    this.#forget = forget;
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
    if (payload.type === "offload_request") return this.#requests.answer(peer, payload, messageId);
    if (payload.type === "mesh:task_news") return this.#news(peer, payload);
    if (payload.type !== "offload_cleanup") return undefined;
    const context = this.#context(payload.request_id);
    if (context?.laptop !== peer) return undefined;
    const reason =
      (["done", "cancelled", "discovery_timeout"] as const).find((known) => known === payload.reason) ?? "error";
    return entriesOnly({ stream: runOf(payload.request_id), event: { type: "STOP", reason } });
  }

  /** What a sandbox elsewhere tells of its task. Of no other agent, nor of another run, is it believed. */
  #news(sandbox: string, { request_id, news }: PayloadOf<"mesh:task_news">): Draft | undefined {
    if (this.#context(request_id)?.did !== sandbox) return undefined;
    return entriesOnly({ stream: runOf(request_id), event: eventOf(news) });
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

  #word(laptop: string, run: string, saying: string, payload: PayloadInput): Draft {
    return word(this.#core, laptop, run, saying, payload);
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
    const { laptop, grant, sandbox, capabilities, timeoutMinutes, taskHash, standing } = this.#known(run);
    const hooks = this.#hooksOf(run);
    // The grant may have ended, or its last slot gone, between the request's answer and its commit.
    if (!this.#grants.holds(grant, run)) {
      hooks.failed("the grant had no slot for it any more");
      return;
    }
    const wanted = {
      laptop,
      grant,
      name: sandbox,
      capabilities,
      timeoutMinutes,
      taskHash,
      isStanding: standing === true,
    };
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
    await this.#caughtUp();
    // Whoever closes meanwhile leaves it to the next to open.
    if (this.#core.signal.aborted) return;
    const event = { type: "FAILED", code: "cluster_refused", detail: "the cluster was restarted while it ran" };
    await this.#commit(entriesOnly({ stream: runOf(run), event }));
  }

  /** What was said while this cluster was away is taken in, or does not come soon: it may say how a run ended that is gone. */
  async #caughtUp(): Promise<void> {
    const { system, link, signal } = this.#core;
    const conversations = () => [...system.streams("conversation")].map(([, { snapshot }]) => snapshot.context);
    const isTaken = () =>
      link.caughtUp &&
      this.#node.incoming.waiting.frames === 0 &&
      conversations().every(({ handling }: ConversationContext) => handling.length === 0);
    const concerns = (stream: string) => stream.startsWith("conversation/") || stream.startsWith("link/");
    await until(this.#node, isTaken, { timeoutMs: SETTLE_MS, signal, concerns }).catch((error: unknown) => {
      if (asMeshError(error).code !== "closed") throw error;
    });
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
    const { did, standing } = this.#known(run);
    if (did !== null && !standing) await this.#forget(did);
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
    // Nothing waits for it: a task decides how long this takes. What is left then is tried again when the cluster starts.
    await this.#sandboxes
      .remove(run)
      .catch((error: unknown) => this.#core.note(`What is left of run ${run} could not be removed: ${String(error)}`));
  }
}

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
