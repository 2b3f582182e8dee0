import type { Clock } from "../../actors/ports.ts";
import { identityFromSeed } from "../../crypto/index.ts";
import { MeshError } from "../../errors.ts";
import type { Random } from "../../store/seal.ts";
import type { SandboxConfig } from "../sandboxes.ts";
import { type Api, ApiError } from "./api.ts";
import { API_RETRY_MAX_MS, API_RETRY_MIN_MS, CREATE_WAIT_MS } from "./limits.ts";
import { ANNOTATION, jobOf, nameOf, networkPolicyOf, type Placement, resumptionOf, secretOf } from "./manifests.ts";
import type { SeenJob } from "./observed.ts";
import { pause } from "./reflector.ts";

// A sandbox is made: a Job that is suspended, then what belongs to it, and only then the Job may run. Whatever was done when a
// controller dies, or an answer is lost, doing it again makes the same, once.

export interface Making {
  readonly api: Api;
  readonly placement: Placement;
  readonly clock: Clock;
  readonly random: Random;
  /** Aborts when the cluster closes. */
  readonly signal: AbortSignal;
  /** What it waits for. */
  readonly told: (words: string) => void;
}

const isConflict = (error: unknown) => error instanceof ApiError && error.status === 409;
const isGone = (error: unknown) => error instanceof ApiError && error.status === 404;

/** Resolves also when there is nothing to delete. @throws ApiError */
export async function deleted(deletion: Promise<void>): Promise<void> {
  try {
    await deletion;
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** Creates, or takes what is there. @throws ApiError */
async function createOr<T>(create: () => Promise<T>, existing: () => Promise<T>): Promise<T> {
  try {
    return await create();
  } catch (error) {
    if (!isConflict(error)) throw error;
    return existing();
  }
}

export interface Made {
  /** As it stood before it may have been let run. */
  readonly job: SeenJob;
  /** Under which it will come to the mesh. */
  readonly did: string;
}

/**
 * Lets a sandbox run.
 * @throws Error with words for the laptop; MeshError `closed`
 */
export async function makeSandbox(config: SandboxConfig, making: Making): Promise<Made> {
  const { api, placement, clock, random, signal, told } = making;
  const name = nameOf(config);
  const deadline = clock.now() + CREATE_WAIT_MS;

  /** Does one step, again and again while the server does not answer. */
  const insist = async <T>(what: string, step: () => Promise<T>): Promise<T> => {
    for (let delay = API_RETRY_MIN_MS; ; delay = Math.min(delay * 2, API_RETRY_MAX_MS)) {
      if (signal.aborted) throw new MeshError("closed");
      try {
        return await step();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        const { status, message, isPassing } = error;
        if (!isPassing) throw new Error(`the Kubernetes API refused to ${what} (${status}): ${message}`);
        const away = status === undefined ? "does not answer" : `answers with ${status}`;
        if (clock.now() + delay > deadline) throw new Error(`the Kubernetes API ${away}, asked to ${what}: ${message}`);
        told(`the Kubernetes API ${away}, and is asked again`);
        await pause(clock, delay, signal);
      }
    }
  };

  const standing = async (): Promise<SeenJob> => {
    const job = await api.readJob(name);
    if (job.metadata.deletionTimestamp) throw new ApiError(undefined, "an earlier Job of this run is being removed");
    return job;
  };
  const job = await insist("create a Job", () => createOr(() => api.createJob(jobOf(config, placement)), standing));
  const known = job.metadata.annotations[ANNOTATION.did];
  if (known !== undefined && job.spec.suspend !== true) return { job, did: known };

  const { uid } = job.metadata;
  const seed = random(32);
  const { did } = identityFromSeed(seed);
  const policy = networkPolicyOf(config, placement, uid);
  await insist("create a NetworkPolicy", () =>
    createOr(
      () => api.createNetworkPolicy(policy),
      async () => undefined,
    ),
  );
  const secret = secretOf(config, placement, seed, uid);
  // One that is there has the identity of an attempt that came to nothing.
  const replace = async () => {
    await deleted(api.deleteSecret(name));
    await api.createSecret(secret);
  };
  await insist("create a Secret", () => createOr(() => api.createSecret(secret), replace));
  await insist("start the Job", () => api.patchJob(name, resumptionOf(did)));
  return { job, did };
}
