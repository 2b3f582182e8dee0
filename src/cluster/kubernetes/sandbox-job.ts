import type { Clock } from "../../actors/ports.ts";
import { RUN_LOG_SIZE_MAX } from "../../limits.ts";
import { type Disk, joinPath } from "../../store/disk.ts";
import type { SandboxHooks, SandboxProcess } from "../sandboxes.ts";
import { type Api, ApiError } from "./api.ts";
import { deleted } from "./creation.ts";
import { API_RETRY_MAX_MS, API_RETRY_MIN_MS } from "./limits.ts";
import { CONTAINER, type Placement } from "./manifests.ts";
import { type SeenJob, SeenPod } from "./observed.ts";
import { pause } from "./reflector.ts";
import { hasLog, isOutOfTime, jobVerdict, NO_PULLS, podVerdict, pullsAfter, type Verdict } from "./verdict.ts";

// The life of one sandbox's Job, from the moment that it may run: what is seen of it becomes what its hooks are told, and at its
// end its log is fetched and it is deleted, with all that belongs to it.

export interface Surroundings {
  readonly api: Api;
  readonly placement: Placement;
  readonly clock: Clock;
  readonly disk: Disk;
  /** Calls back once a DID is connected to the relay, maybe at once. Returns what takes that back. */
  readonly onArrival: (did: string, arrived: () => void) => () => void;
  /** Aborts when the cluster closes: from then on nothing is asked for, and nothing told. */
  readonly signal: AbortSignal;
  readonly note: (text: string) => void;
}

export interface SandboxJobOptions {
  readonly name: string;
  readonly did: string;
  /** Where its log is kept. */
  readonly directory: string;
  readonly hooks: SandboxHooks;
}

export class SandboxJob implements SandboxProcess {
  readonly pid = null;
  readonly name: string;
  readonly #around: Surroundings;
  readonly #options: SandboxJobOptions;
  #pod: SeenPod | undefined;
  #pulls = NO_PULLS;
  #words = "";
  #disarm: () => void = () => undefined;
  #hasBegun = false;
  #isReady = false;
  /** How it stands with its end: wanted, accepted by the API server, and seen. */
  #isEnding = false;
  #isDeleted = false;
  #isGone = false;
  #isForced = false;
  #isOver = false;
  #code: number | null = null;

  constructor(around: Surroundings, options: SandboxJobOptions) {
    this.name = options.name;
    this.#around = around;
    this.#options = options;
  }

  /** From now on its hooks are told. @param job what is known of it by now; undefined when it went already */
  begin(job: SeenJob | undefined, pod: SeenPod | undefined): void {
    if (this.#around.signal.aborted) return;
    this.#hasBegun = true;
    if (!this.#isEnding) this.#disarm = this.#around.onArrival(this.#options.did, () => this.#arrived());
    if (pod) this.seePod(pod, false);
    if (job) this.seeJob(job);
    else this.missJob();
  }

  seePod(pod: SeenPod, isGone: boolean): void {
    if (!this.#hasBegun || this.#around.signal.aborted) return;
    this.#pulls = pullsAfter(this.#pulls, pod);
    this.#pod = isGone ? undefined : pod;
    this.#take(podVerdict(pod, this.#pulls, this.#around.placement));
  }

  /** Its Job is gone. */
  missJob(): void {
    if (!this.#hasBegun || this.#around.signal.aborted) return;
    this.#isGone = true;
    this.#take({ kind: "failed", detail: "its Job was deleted from outside" });
    this.#settle();
  }

  seeJob(job: SeenJob): void {
    if (!this.#hasBegun || this.#isEnding || this.#around.signal.aborted) return;
    const verdict = jobVerdict(job);
    if (!verdict) return;
    if (isOutOfTime(job)) this.#take(verdict);
    else void this.#askPod(verdict);
  }

  /** A Job may be seen to have ended before its pod is: the pod knows why. */
  async #askPod(otherwise: Verdict): Promise<void> {
    const { api, placement } = this.#around;
    let verdict = otherwise;
    try {
      for (const item of (await api.pods(this.name)).items) {
        const { data: pod } = SeenPod.safeParse(item);
        const found = pod && podVerdict(pod, this.#pulls, placement);
        if (pod) this.#pod = pod;
        if (found && found.kind !== "going") verdict = found;
      }
    } catch {
      // What the Job itself says is true too.
    }
    this.#take(verdict);
  }

  #take(verdict: Verdict): void {
    if (this.#isEnding || this.#around.signal.aborted) return;
    const { hooks } = this.#options;
    switch (verdict.kind) {
      case "going":
        if (this.#isReady || verdict.words === this.#words) return;
        this.#words = verdict.words;
        hooks.starting(verdict.phase, verdict.words);
        return;
      case "failed":
        hooks.failed(verdict.detail);
        void this.#finish(true);
        return;
      case "exited":
        this.#code = verdict.code;
        void this.#finish(true);
    }
  }

  /** It is on the mesh: what it was told by is of no more use. */
  #arrived(): void {
    if (this.#isReady || this.#isEnding || this.#around.signal.aborted) return;
    this.#isReady = true;
    this.#options.hooks.ready(this.#options.did);
    void this.#insist("delete the Secret", () => this.#around.api.deleteSecret(this.name));
  }

  end(force: boolean): void {
    this.#isForced ||= force;
    void this.#finish(false);
    this.#settle();
  }

  /** @param isDead nothing of it runs any more */
  async #finish(isDead: boolean): Promise<void> {
    this.#isForced ||= isDead;
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#disarm();
    await this.#keepLog();
    this.#isDeleted = await this.#insist("delete the Job", () => this.#around.api.deleteJob(this.name));
    this.#settle();
  }

  /** It is over when the API server has taken it upon itself to remove it, and it is gone or nobody waits for that. */
  #settle(): void {
    if (this.#isOver || !this.#isDeleted || !(this.#isGone || this.#isForced) || this.#around.signal.aborted) return;
    this.#isOver = true;
    this.#options.hooks.exited(this.#code);
  }

  async #keepLog(): Promise<void> {
    const { api, disk, note } = this.#around;
    if (!this.#pod || !hasLog(this.#pod)) return;
    try {
      const log = Buffer.from(await api.log(this.#pod.metadata.name, CONTAINER, RUN_LOG_SIZE_MAX));
      await disk.replace(joinPath(this.#options.directory, "log"), log.subarray(0, RUN_LOG_SIZE_MAX));
    } catch (error) {
      // A log that cannot be had is no reason to keep a run.
      note(`The log of ${this.name} could not be kept: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Deletes, as often as it takes. False when the cluster closes first: then the next start goes on with it. */
  async #insist(what: string, deletion: () => Promise<void>): Promise<boolean> {
    return insistOn(what, this.name, deletion, this.#around);
  }
}

/**
 * Deletes, as often as it takes: what cannot be deleted now would be left behind. False when the cluster closes first.
 * @param untilRefused a refusal is an end too: the next start of the cluster sweeps what is left
 */
export async function insistOn(
  what: string,
  name: string,
  deletion: () => Promise<void>,
  { clock, signal, note }: Pick<Surroundings, "clock" | "signal" | "note">,
  untilRefused = false,
): Promise<boolean> {
  for (let delay = API_RETRY_MIN_MS; !signal.aborted; delay = Math.min(delay * 2, API_RETRY_MAX_MS)) {
    try {
      await deleted(deletion());
      return !signal.aborted;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (untilRefused && !error.isPassing) return false;
      if (delay === API_RETRY_MIN_MS)
        note(
          `The Kubernetes API did not ${what} ${name} (${error.status ?? "no answer"}): ${error.message}. It is asked again.`,
        );
      await pause(clock, delay, signal);
    }
  }
  return false;
}
