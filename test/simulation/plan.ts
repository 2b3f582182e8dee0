import type { StoreLimits } from "../../src/actors/opening.ts";
import type { Dice } from "./dice.ts";
import { CALM, type NetworkFaults } from "./faults.ts";

// What a run is about, drawn from its seed: how large, how long, what goes wrong and how often.

/** Our relay, which forgets nothing, or a plain one in its place. */
export type RelayKind = "ours" | "plain";

export interface Plan {
  readonly relay: RelayKind;
  readonly laptops: readonly string[];
  readonly limits: StoreLimits;
  /** Bytes below which the relay's journals are never rewritten. */
  readonly rewriteSizeMin: number;
  /** The time in which things are asked for and go wrong. */
  readonly durationMs: number;
  readonly messages: number;
  readonly offloads: number;
  readonly slots: number;
  readonly network: NetworkFaults;
  /** That a process dies at any one call of its ports. */
  readonly killChance: number;
  /** How often each of these happens. */
  readonly kills: number;
  readonly powerCuts: number;
  readonly clusterDeaths: number;
  /** Of a plain relay; ours is a part of the cluster. */
  readonly relayDeaths: number;
  readonly partitions: number;
  readonly socketCuts: number;
  readonly diskFaults: number;
  readonly restarts: number;
  readonly isCalm: boolean;
  /** Messages of an agent that only registered, and of which nobody vouches for; none without it. */
  readonly strangerMessages: number;
  /** Messages with an agent that keeps nothing and confirms nothing, each way; none without it. */
  readonly peerMessages: number;
  readonly peerDeaths: number;
}

/** How often a world has such an agent. */
const PLAIN_PEERS: Readonly<Record<RelayKind, number>> = { ours: 0.1, plain: 0.4 };

const NAMES = ["alice", "bob", "carol"];

/** @param relay the relay that the world has, whichever its dice say */
export function planOf(dice: Dice, relay?: RelayKind): Plan {
  const isCalm = dice.chance(0.08);
  const meddling = dice.of("meddling");
  const relaying = dice.of("relay");
  const drawn = relaying.chance(1 / 3) ? "plain" : "ours";
  const kind = relay ?? drawn;
  const peering = dice.of("plain peer");
  const some = (most: number, chance = 0.6) => (!isCalm && dice.chance(chance) ? dice.between(1, most) : 0);
  return {
    isCalm,
    relay: kind,
    relayDeaths: !isCalm && relaying.chance(0.5) ? relaying.between(1, 3) : 0,
    laptops: NAMES.slice(0, dice.chance(0.7) ? 2 : 3),
    limits: {
      segmentSize: Math.round(dice.skewed(1_500, 60_000)),
      epochCommits: Math.round(dice.skewed(3, 200)),
      epochTimeMs: Math.round(dice.skewed(2_000, 600_000)),
      snapshotCommits: Math.round(dice.skewed(2, 100)),
    },
    rewriteSizeMin: Math.round(dice.skewed(2_000, 100_000)),
    durationMs: dice.between(5_000, 90_000),
    messages: dice.between(4, 30),
    offloads: dice.chance(0.3) ? dice.between(1, 2) : 0,
    slots: dice.between(1, 2),
    network: isCalm
      ? { ...CALM, latencyMs: dice.between(1, 200) }
      : {
          repeat: dice.chance(0.5) ? dice.fraction() * 0.1 : 0,
          cut: dice.chance(0.5) ? dice.fraction() * 0.03 : 0,
          loss: dice.chance(0.4) ? dice.fraction() * 0.2 : 0,
          drop: relaying.chance(0.4) ? relaying.fraction() * 0.3 : 0,
          refuse: meddling.chance(0.5) ? meddling.fraction() * 0.8 : 0,
          forge: meddling.chance(0.5) ? meddling.fraction() : 0,
          latencyMs: dice.skewed(2, 3_000),
        },
    killChance: !isCalm && dice.chance(0.6) ? dice.skewed(0.0001, 0.01) : 0,
    kills: some(4),
    powerCuts: some(4),
    clusterDeaths: some(2, 0.4),
    partitions: some(3, 0.4),
    socketCuts: some(4, 0.4),
    diskFaults: some(2, 0.3),
    restarts: some(2, 0.4),
    peerMessages: peering.chance(PLAIN_PEERS[kind]) ? peering.between(2, 20) : 0,
    peerDeaths: !isCalm && peering.chance(0.5) ? peering.between(1, 3) : 0,
    strangerMessages: meddling.chance(0.3) ? meddling.between(1, 8) : 0,
  };
}
