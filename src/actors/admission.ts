import { hash } from "node:crypto";
import { base64url, didOf, utf8, verify } from "../crypto/index.ts";
import { MEMBERSHIP_MS, STRANGER_MESSAGES_MAX, STRANGERS_HELD_MAX } from "../limits.ts";
import { type AdmissionContext, KNOCK_POLICIES, KnockPolicy } from "../machines/admission/events.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { OffloadContext } from "../machines/offload/events.ts";
import type { PairingContext } from "../machines/pairing/events.ts";
import type { Entry } from "../store/journal.ts";
import type { Payload } from "../wire/payload.ts";
import { type Membership, memberText, runMarkText, runText } from "../wire/registry.ts";
import { type Core, conversationOf } from "./core.ts";
import { isOver, phaseOf, statusOf } from "./offload-view.ts";
import type { Shown } from "./peer-keys.ts";
import type { ActorSystem } from "./system.ts";

// Who may open a session with us. Whoever was written to, accepted or verified may, and so may the cluster's controller and
// the sandboxes of our offloads. Of all others the policy says it.

export { KNOCK_POLICIES, KnockPolicy };

export const ADMISSION = "admission/knocks";

export const policyOf = (system: ActorSystem): KnockPolicy => {
  const context: AdmissionContext | undefined = system.decided(ADMISSION)?.snapshot.context;
  return context?.policy ?? "circle";
};

/** `later`: so many are held already that this one is put off. */
export type Judgement = "admitted" | "held" | "later" | "refused";

/** Whether the cluster's controller vouches for the agent, with its signature and for now. */
export function isVouchedFor(controller: string, did: string, word: Membership | undefined, now: number): boolean {
  if (!word) return false;
  const key = base64url.decode(word.controller_key);
  const ends = Date.parse(word.expires_at);
  // Nobody gives his word for longer: a clock that is far off must not make it last.
  if (didOf(key) !== controller || !(ends > now && ends <= now + 2 * MEMBERSHIP_MS)) return false;
  return verify(key, utf8.encode(memberText(did, word.expires_at)), base64url.decode(word.signature));
}

/** Whether the controller's word says that the agent is the sandbox of this run. */
export function isVouchedForRun(
  controller: string,
  did: string,
  word: Membership | undefined,
  request: string,
  now: number,
): boolean {
  const { run } = word ?? {};
  if (!word || !run || run.mark !== hash("sha256", runMarkText(request), "hex")) return false;
  const text = utf8.encode(runText(did, run.mark, word.expires_at));
  return (
    isVouchedFor(controller, did, word, now) &&
    verify(base64url.decode(word.controller_key), text, base64url.decode(run.signature))
  );
}

const contextOf = (system: ActorSystem, peer: string): ConversationContext | undefined =>
  system.decided(conversationOf(peer))?.snapshot.context;

/** Whether the person or the agent has turned to this peer before, of its own accord. */
const isFamiliar = ({ admission, address, verified, sent, outbox }: ConversationContext) =>
  admission === "admitted" || address !== null || verified !== null || sent + outbox.length > 0;

/** What waits of a stranger for the person to decide on. */
const waiting = ({ unread, handling }: ConversationContext) => unread + handling.length;

export class Admission {
  readonly #core: Core;
  readonly #current: () => PairingContext | undefined;

  /** @param current the membership of the cluster through which knocks come */
  constructor(core: Core, current: () => PairingContext | undefined) {
    this.#core = core;
    this.#current = current;
  }

  /** Whether an agent that knocks may, by what is known of it and what the registry shows. */
  judge(did: string, agent: Shown): Judgement {
    const { system } = this.#core;
    const context = contextOf(system, did);
    if (this.#isOfOurs(did, agent)) return "admitted";
    if (context?.admission === "declined") return "refused";
    if (context && isFamiliar(context)) return "admitted";
    const policy = policyOf(system);
    if (policy === "everyone" || (policy === "circle" && this.#isOfCircle(did, agent))) return "admitted";
    // It may be a sandbox that its controller has not named yet: then it may later.
    if (policy === "nobody" && !this.#isNamed(agent)) return this.#awaitsSandbox() ? "later" : "refused";
    return context?.admission === "held" || this.strangers < STRANGERS_HELD_MAX ? "held" : "later";
  }

  /** The event that lets a sandbox in which knocked before its controller said that it is the one. */
  expected(did: string | undefined): Entry[] {
    return did !== undefined && this.isHeld(did) ? [{ stream: conversationOf(did), event: { type: "ADMITTED" } }] : [];
  }

  /**
   * The event that lets a sandbox in whose controller only says names: it says hello with the id of the offload, which was told
   * to no other agent.
   */
  greeted(did: string, payload: Payload | undefined): Entry[] {
    if (payload?.type !== "offload_hello") return [];
    for (const { id, sandbox } of this.#running())
      if (id === payload.request_id && sandbox.did === null) return this.expected(did);
    return [];
  }

  /** All contexts of a kind as they are decided: what is on its way to the disk must not be missed. */
  *#all<Context>(kind: string): Generator<Context> {
    for (const [stream] of this.#core.system.streams(kind)) {
      const state = this.#core.system.decided(stream);
      if (state) yield state.snapshot.context;
    }
  }

  /** Offloads that are not over. */
  *#running(): Generator<OffloadContext> {
    for (const [stream] of this.#core.system.streams("offload")) {
      const state = this.#core.system.decided(stream);
      if (state && !isOver(statusOf(phaseOf(state)))) yield state.snapshot.context;
    }
  }

  /** Whether an offload waits for a sandbox of which nobody has said yet which it is. */
  #awaitsSandbox(): boolean {
    for (const { sandbox } of this.#running()) if (sandbox.did === null) return true;
    return false;
  }

  /** Whether what a peer says is kept out of sight. */
  isHeld(peer: string): boolean {
    return contextOf(this.#core.system, peer)?.admission === "held";
  }

  isDeclined(peer: string): boolean {
    return contextOf(this.#core.system, peer)?.admission === "declined";
  }

  /** Whether so much of a stranger waits that the rest is left at the relay. */
  isFull(peer: string): boolean {
    const context = contextOf(this.#core.system, peer);
    return context?.admission === "held" && waiting(context) >= STRANGER_MESSAGES_MAX;
  }

  /** How many wait for the person to decide on. */
  get strangers(): number {
    let count = 0;
    for (const { admission } of this.#all<ConversationContext>("conversation")) count += Number(admission === "held");
    return count;
  }

  /** Where a cluster vouches for nobody, its registry's word is all there is: whoever is registered there is of the circle. */
  #isOfCircle(did: string, { membership }: Shown): boolean {
    const pairing = this.#current();
    return !pairing?.vouches || isVouchedFor(pairing.controller, did, membership, this.#core.ports.clock.now());
  }

  /** Whether an offload waits for a sandbox of this name. Deployed controllers say no more of it; it must say hello to be let in. */
  #isNamed({ name, capabilities }: Shown): boolean {
    for (const { sandbox } of this.#running())
      if (
        sandbox.did === null &&
        sandbox.name !== null &&
        (sandbox.name === name || capabilities.includes(sandbox.name))
      )
        return true;
    return false;
  }

  /**
   * A controller of ours, or the sandbox of an offload: the one that its controller has named, or that the controller's word for it names
   * the run of, since a sandbox may knock before the controller has said which it is. Older controllers name no run there.
   */
  #isOfOurs(did: string, { membership }: Shown): boolean {
    // What is left of a token that was refused, or of one that is still asked about, lets nobody in.
    for (const { controller, plain, asking, registryUrl } of this.#all<PairingContext>("pairing"))
      if (controller === did && registryUrl !== null && (plain !== null || asking === null)) return true;
    const now = this.#core.ports.clock.now();
    // One whose offload has just ended may still have something to say.
    for (const { sandbox, endedAt } of this.#all<OffloadContext>("offload"))
      if (sandbox.did === did && (endedAt === null || now < endedAt + MEMBERSHIP_MS)) return true;
    for (const { id, controller, sandbox } of this.#running())
      if (sandbox.did === null && isVouchedForRun(controller, did, membership, id, now)) return true;
    return false;
  }
}
