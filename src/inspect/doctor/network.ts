import type { Diagnosis } from "../../actors/diagnosis.ts";
import { clockAhead, clockDifference } from "../../actors/http-request.ts";
import type { Clock, Network } from "../../actors/ports.ts";
import { ProxyError } from "../../actors/proxy.ts";
import { Registry } from "../../actors/registry.ts";
import { asMeshError } from "../../errors.ts";
import { AUTH_SKEW_MAX_MS } from "../../limits.ts";
import { DOCTOR_WAIT_MS } from "../limits.ts";
import { type Finding, note, ok, problem } from "./check.ts";

// What lies across the network, asked once each and not waited for long. Nothing that is asked needs an identity.

export interface Reach {
  readonly network: Network;
  readonly clock: Clock;
}

/** An answer to a plain GET, or why there was none; with how far the answerer's clock is ahead of ours. */
interface Answer {
  readonly status: number | undefined;
  readonly reason: string;
  readonly ahead: number | undefined;
}

/** Where an address leads, without what it may carry for its holder alone. */
const placeOf = (url: string) => (URL.canParse(url) ? new URL(url).host : "an address that is none");

async function get({ network, clock }: Reach, url: string): Promise<Answer> {
  const asked = clock.now();
  try {
    const response = await network.fetch(url, { signal: AbortSignal.timeout(DOCTOR_WAIT_MS), redirect: "manual" });
    await response.body?.cancel();
    return { status: response.status, reason: "", ahead: clockAhead(response, asked, clock.now()) };
  } catch (error) {
    // The platform's fetch says why in its cause, and a proxy's error which proxy it was.
    const known = error instanceof ProxyError || !(error instanceof Error) || !(error.cause instanceof Error);
    const cause = known ? error : error.cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    return { status: undefined, reason: reason || "no answer", ahead: undefined };
  }
}

/** Opens the relay's socket and lets it go. */
function dial({ network, clock }: Reach, url: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const end = (problem: string | undefined) => {
      disarm();
      socket.close();
      resolve(problem);
    };
    const disarm = clock.at(clock.now() + DOCTOR_WAIT_MS, () => end(`no answer in ${DOCTOR_WAIT_MS / 1000} s`));
    const socket = network.dial(url, {
      opened: () => end(undefined),
      received: () => undefined,
      answered: () => undefined,
      closed: (code, reason) => end(reason || `closed with ${code}`),
    });
  });
}

/** Whether the registry has a record of an agent; unknown when it does not say. */
export type RecordThere = "there" | "missing" | "unknown";

async function lookUp({ network, clock }: Reach, registryUrl: string, did: string): Promise<RecordThere> {
  const registry = new Registry({ network, clock, signal: AbortSignal.timeout(DOCTOR_WAIT_MS) }, registryUrl);
  try {
    await registry.agent(did);
    return "there";
  } catch (error) {
    return asMeshError(error).code === "peer_unknown" ? "missing" : "unknown";
  }
}

export interface NetworkFindings {
  readonly record: RecordThere;
  readonly registry: Finding;
  readonly relay: Finding;
  readonly clock: Finding;
}

/** @param owner how the owner's own link stands, where there is an owner */
export async function reach(
  ports: Reach,
  addresses: { readonly relay: string | null; readonly registry: string | null; readonly did: string | null },
  owner?: Pick<Diagnosis, "link" | "link_reason">,
): Promise<NetworkFindings> {
  const nowhere = note("Not paired, so there is none to reach.");
  const base = (url: string) => url.replace(/\/+$/, "");
  const [health, refusal, record] = await Promise.all([
    addresses.registry === null ? undefined : get(ports, `${base(addresses.registry)}/health`),
    addresses.relay === null ? undefined : dial(ports, `${base(addresses.relay)}/ws`),
    addresses.registry === null || addresses.did === null
      ? ("unknown" as const)
      : lookUp(ports, addresses.registry, addresses.did),
  ]);
  const reason = owner?.link_reason ? ` (${owner.link_reason})` : "";
  const link = owner === undefined ? "" : ` The owner's link is ${owner.link}${reason}.`;
  return {
    record,
    registry: health && addresses.registry !== null ? registryFinding(health, placeOf(addresses.registry)) : nowhere,
    relay:
      addresses.relay === null
        ? nowhere
        : refusal === undefined
          ? (owner?.link === "refused" ? problem : ok)(`${placeOf(addresses.relay)} answers.${link}`)
          : problem(
              `${placeOf(addresses.relay)} cannot be reached (${refusal}): check the network. What is queued goes out when it is back.${link}`,
            ),
    clock: clockFinding(health),
  };
}

function registryFinding({ status, reason }: Answer, place: string): Finding {
  if (status === undefined) return problem(`${place} cannot be reached (${reason}): check the network.`);
  if (status >= 500) return problem(`${place} answers ${status}: ask the cluster's operator.`);
  return status === 200
    ? ok(`${place} is healthy.`)
    : note(`${place} answers, but says nothing of its health (${status}).`);
}

function clockFinding(health: Answer | undefined): Finding {
  const ahead = health?.ahead;
  if (ahead === undefined) return note("Nobody answered whose clock this one could be compared with.");
  const seconds = Math.round(Math.abs(ahead) / 1000);
  const difference = clockDifference(ahead);
  if (Math.abs(ahead) > AUTH_SKEW_MAX_MS)
    return problem(`This clock is ${difference}, and what it signs is refused: set it by the network.`);
  return seconds * 1000 > AUTH_SKEW_MAX_MS / 2
    ? note(`This clock is ${difference}; more than ${AUTH_SKEW_MAX_MS / 60_000} minutes are refused.`)
    : ok(seconds <= 1 ? "It goes with the registry's." : `This clock is ${difference}.`);
}
