import { createHash } from "node:crypto";
import type { Core } from "../actors/core.ts";
import { compose, type Draft, entriesOnly, join } from "../actors/drafts.ts";
import { RAISE_THERE } from "../actors/file-size.ts";
import { until } from "../actors/inbox.ts";
import type { MeshNode } from "../actors/node.ts";
import { type ErrorCode, MeshError } from "../errors.ts";
import { OFFLOAD_TIMEOUT_MINUTES } from "../limits.ts";
import type { PayloadInput, PayloadOf } from "../wire/payload.ts";
import { Name } from "../wire/text.ts";
import type { RunView } from "./controller.ts";
import { type Grants, grantOf, REFUSALS, runOf } from "./grants.ts";
import { SLOT_FREEING_WAIT_MS } from "./limits.ts";
import type { StandingSandboxes } from "./standing.ts";

// What laptops ask of a cluster, and whether it is granted: a slot for a fresh sandbox, or for one that stands.

/** What a cluster makes of every request. */
export interface RequestRules {
  /** The longest that a task may take. */
  readonly maxMinutes: number;
  /** Bytes of a file that comes with one. */
  readonly fileSizeMax: number;
  /** The words of a task are recorded, in the open. */
  readonly recordsTasks: boolean;
}

export interface RequestsOptions {
  readonly grants: Grants;
  readonly standing: StandingSandboxes;
  readonly rules: RequestRules;
  readonly list: () => readonly RunView[];
}

/** A message to the laptop. Its id is made of the run and what it says, so that saying it again is the same message. */
export const word = (core: Core, laptop: string, run: string, saying: string, payload: PayloadInput): Draft =>
  compose(core, laptop, payload, `${run}.${saying}`);

export class Requests {
  readonly #node: MeshNode;
  readonly #core: Core;
  readonly #grants: Grants;
  readonly #standing: StandingSandboxes;
  readonly #rules: RequestRules;
  readonly #list: () => readonly RunView[];

  constructor(node: MeshNode, { grants, standing, rules, list }: RequestsOptions) {
    this.#node = node;
    this.#core = node.core;
    this.#grants = grants;
    this.#standing = standing;
    this.#rules = rules;
    this.#list = list;
  }

  /** What follows from a request; undefined when it was answered before. */
  async answer(laptop: string, request: PayloadOf<"offload_request">, messageId: string): Promise<Draft | undefined> {
    await this.#freed(laptop, request.target?.name);
    return this.#decide(laptop, request, messageId);
  }

  /** A slot that is just being given back is waited for: a laptop whose task has ended asks for the next at once. */
  async #freed(laptop: string, name: string | undefined): Promise<void> {
    const isFull = () => {
      const grant = this.#grants.of(laptop);
      const ending = this.#list().filter(({ phase, settled }) => !settled && isEnding(phase));
      const isBusy = ending.some((run) => run.name === name);
      return (
        isBusy ||
        (grant !== undefined && grant.slots_used >= grant.slots && ending.some((run) => run.laptop === laptop))
      );
    };
    const concerns = (stream: string) => stream.startsWith("run/") || stream.startsWith("grant/");
    const { signal } = this.#node;
    if (isFull()) await until(this.#node, () => !isFull(), { timeoutMs: SLOT_FREEING_WAIT_MS, signal, concerns });
  }

  #decide(laptop: string, request: PayloadOf<"offload_request">, messageId: string): Draft | undefined {
    const id = request.request_id;
    if (this.#core.system.decided(runOf(id))) return undefined;
    const grant = this.#grants.of(laptop);
    const refuse = (code: ErrorCode, detail?: string) =>
      join(
        word(this.#core, laptop, id, `refused.${messageId.slice(-64)}`, refusalOf(id, code, detail)),
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
    const { name, capability } = request.target ?? {};
    const standing = name === undefined ? undefined : this.#standing.find(name);
    if (name !== undefined && !standing) return refuse("sandbox_unknown", `${name}: ${this.#whoStands()}`);
    if (standing && capability !== undefined && !standing.capabilities.includes(capability))
      return refuse("capability_missing", `${name} has not ${capability}; ${this.#whoStands()}`);
    const asked = capability === undefined || standing ? [] : [capability];
    const needed = [...new Set(["offload", ...(standing?.capabilities ?? []), ...asked])];
    const missing = needed.filter((capability) => !grant.capabilities.includes(capability));
    if (missing.length > 0)
      return refuse("capability_missing", `${missing.join(", ")} (granted: ${grant.capabilities.join(", ")}).`);
    const largest = request.largest_bytes ?? 0;
    if (largest > this.#rules.fileSizeMax)
      return refuse(
        "file_too_large",
        `The largest has ${largest} bytes, and this cluster allows at most ${this.#rules.fileSizeMax}. ${RAISE_THERE}`,
      );
    if (grant.token_budget !== null && grant.tokens_used >= grant.token_budget) return refuse("budget_exhausted");
    const wanted = Name.safeParse(name ?? `sandbox-${id.slice(0, 8)}`);
    if (!wanted.success) return refuse("input_invalid", "The sandbox's name is not one.");
    const sandbox = wanted.data;
    const isBusy = this.#list().some((run) => run.name === sandbox && !run.settled);
    // One that stands takes one task after the other: who asks for it waits in line, as for a slot.
    if (standing && isBusy) return refuse("no_free_slot", `The sandbox ${sandbox} is busy with another task.`);
    if (standing && standing.state !== "ready") return refuse("no_free_slot", `The sandbox ${sandbox} is not up yet.`);
    if (isBusy || (!standing && this.#standing.find(sandbox)))
      return refuse("cluster_refused", `The name ${sandbox} is taken.`);
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
      word(this.#core, laptop, id, "validating", validating),
      entriesOnly(
        { stream: grantOf(grant.name), event: { type: "SLOT_TAKEN", run: id } },
        {
          stream: runOf(id),
          event: {
            type: "REQUESTED",
            request: id,
            grant: grant.name,
            laptop,
            sandbox,
            ...(standing && { standing: true }),
            capabilities: needed,
            timeout_minutes: minutes,
            ...described(request),
            ...(this.#rules.recordsTasks && { task: request.task }),
          },
        },
      ),
    );
  }

  /** Those that can be asked for by name, in words. */
  #whoStands(): string {
    const all = this.#standing.list().map(({ name, capabilities }) => [name, ...capabilities].join(" with "));
    return all.length === 0 ? "none stands there." : `there stand ${all.join(", ")}.`;
  }
}

const isEnding = (phase: string): boolean => ["stopping", "ended", "failed"].includes(phase);

/** What of a request is written down: how much was asked, and a hash to know it by. */
const described = ({ task, files, total_bytes }: PayloadOf<"offload_request">) => ({
  task_sha256: createHash("sha256").update(task).digest("hex"),
  task_size: Buffer.byteLength(task),
  files: files.length,
  bytes: total_bytes ?? 0,
});

export const refusalOf = (request: string, code: ErrorCode, detail?: string): PayloadInput => ({
  type: "offload_error",
  request_id: request,
  error: new MeshError(code, detail).message,
  phase: "error",
  code,
});
