import { clusterTargets } from "./cluster-targets.ts";
import { cryptoTargets } from "./crypto-targets.ts";
import type { Target } from "./fuzz.ts";
import { programTargets } from "./program-targets.ts";
import { storeTargets } from "./store-targets.ts";
import { wireTargets } from "./wire-targets.ts";

/** Every parser of what comes from outside. */
export const targets: readonly Target[] = [
  ...wireTargets,
  ...clusterTargets,
  ...storeTargets,
  ...programTargets,
  ...cryptoTargets,
];
