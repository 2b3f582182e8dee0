import type { ConversationContext } from "../machines/conversation/events.ts";
import type { PreKeysContext } from "../machines/prekeys/events.ts";
import type { SessionContext } from "../machines/session/events.ts";
import type { Epoch } from "./housekeeping.ts";
import { latestPairing } from "./membership.ts";
import type { MeshNode } from "./node.ts";
import { type Forgetting, forgettingOf, problemOf } from "./registry-forgot.ts";
import type { ActorState } from "./state.ts";

// How a home stands, in numbers and names: from a running node, or from states that were folded from its files.

export interface Standing {
  /** The cluster that it belongs to; null when to none. */
  readonly pairing: {
    readonly cluster: string | null;
    readonly did: string | null;
    readonly name: string | null;
    /** `paired`, or the step of pairing at which it stands. */
    readonly state: string;
    /** Why the last step failed, if it did. */
    readonly failure: string | null;
    /** The same failure as a sentence that says what to do. */
    readonly problem: string | null;
    /** Its controller speaks plaintext. */
    readonly plaintext: boolean;
    readonly forgotten: Forgetting | null;
    /** Whether this laptop is registering again. It stays a member meanwhile. */
    readonly rejoining: boolean;
    /** Whether the cluster accepted this laptop, whatever else is under way. */
    readonly isMember: boolean;
    readonly relay_url: string | null;
    readonly registry_url: string | null;
    /** The prekeys that were made; null before that. */
    readonly prekeys: {
      /** When the signed one was made. */
      readonly signed_at: number | null;
      /** What the registry said last that it has of the one-time ones. */
      readonly left: number | null;
      /** Why they could not be seen to, if so. */
      readonly failure: string | null;
    } | null;
  } | null;
  readonly peers: number;
  readonly sessions: number;
  readonly queued: number;
  /** Names of the blobs that are referred to. */
  readonly blobs: readonly string[];
}

/** @param states every stream with its state */
export function standingOf(states: Iterable<readonly [stream: string, state: ActorState]>): Standing {
  const byKind = Map.groupBy([...states], ([stream]) => stream.slice(0, stream.indexOf("/")));
  const contexts = <T>(kind: string): T[] => (byKind.get(kind) ?? []).map(([, { snapshot }]) => snapshot.context);
  const pairings = (byKind.get("pairing") ?? []).map(([, state]) => state);
  const pairing = latestPairing(pairings);
  const state = pairings.find(({ snapshot }) => snapshot.context === pairing);
  const prekeys = contexts<PreKeysContext>("prekeys").find(({ controller }) => controller === pairing?.controller);
  const conversations = contexts<ConversationContext>("conversation");
  const bodies = conversations.flatMap(({ outbox, unconfirmed, handling }) =>
    [...outbox, ...unconfirmed, ...handling].map(({ body }) => body),
  );
  return {
    pairing: pairing
      ? {
          cluster: pairing.cluster,
          did: pairing.did,
          name: pairing.name,
          state: JSON.stringify(state?.snapshot.value).replaceAll(/["{}]/g, "").replaceAll(":", "."),
          failure: pairing.failure?.code ?? null,
          problem: problemOf(pairing),
          plaintext: pairing.plain !== null,
          forgotten: forgettingOf(pairing),
          rejoining: pairing.rejoining,
          isMember: pairing.pairedAt !== null && pairing.asking === null,
          relay_url: pairing.relayUrl,
          registry_url: pairing.registryUrl,
          prekeys: pairing.prekeys && {
            signed_at: prekeys?.signedAt ?? null,
            left: prekeys?.left ?? null,
            failure: prekeys?.failure?.code ?? null,
          },
        }
      : null,
    peers: conversations.length,
    sessions: contexts<SessionContext>("session").filter(({ role, closed }) => role !== null && closed === null).length,
    queued: conversations.reduce((sum, { outbox }) => sum + outbox.length, 0),
    blobs: bodies.flatMap((body) => ("blob" in body ? [body.blob] : [])),
  };
}

/** What only the process that owns a home knows of it. */
export interface Diagnosis extends Standing {
  readonly pid: number;
  /** The last durable commit. */
  readonly head: number;
  readonly epoch: Epoch;
  readonly one_time_prekeys: number;
  readonly link: string;
  /** What the registry knows about the presence of this laptop. */
  readonly presence: {
    /** A state of the presence machine. */
    readonly state: string;
    /** When the registry last answered that it knows this laptop; null when it was not asked yet. */
    readonly known_at: number | null;
    /** Why the last request to the registry failed, as a sentence; null while all is well. */
    readonly problem: string | null;
  };
  /** Why the relay closed the link, while the link is down. */
  readonly link_reason: string | null;
}

export const diagnose = (node: MeshNode): Diagnosis => ({
  ...standingOf(node.core.system.streams()),
  pid: process.pid,
  head: node.journal.head,
  epoch: node.epoch,
  one_time_prekeys: node.core.keyring.oneTimePreKeys,
  link: node.core.link.value,
  presence: {
    state: node.presence.value,
    known_at: node.presence.context?.knownAt ?? null,
    problem: problemOf(node.presence.context ?? { failure: null }),
  },
  link_reason: node.core.link.context?.closed?.reason || null,
});
