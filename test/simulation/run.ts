import { SIGNED_PREKEY_MS } from "../../src/limits.ts";
import { Errands } from "./errands.ts";
import { checkStores } from "./invariants.ts";
import { PlainErrands } from "./plain-errands.ts";
import { StrangerErrands } from "./stranger.ts";
import { World, type WorldOptions } from "./world.ts";

// One run: the world comes up, things are asked for while things go wrong, everything calms down, and then all must be well.

export interface RunResult {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly digest: string;
  readonly faults: ReadonlyMap<string, number>;
  readonly accepted: number;
  readonly offloads: number;
  readonly frames: number;
  readonly virtualMs: number;
  readonly steps: number;
}

const UP_MS = 5 * 60_000;
const QUIET_MS = 3 * 60 * 60_000;
const FRESH_MS = 20 * 60_000;
/** Until when a line that broke is noticed on both sides. */
const BROKEN_MS = 3 * 60_000;
const REST_MS = 20 * 60_000;
/** A message to one that is away goes again after 5, 10, 20, 40, 80, 160 s, and then every 5 min. */
const MESSAGES_AT_REST_MAX = 12;
const SLEEP_MS = SIGNED_PREKEY_MS + 60_000;

export async function run(options: WorldOptions): Promise<RunResult> {
  const world = new World(options);
  const { clock, plan, laptops, cluster, violations } = world;
  const errands = new Errands(world);
  const strangers = new StrangerErrands(world);
  const plainly = new PlainErrands(world);
  const isQuiet = () => errands.isQuiet() && (strangers.restless() ?? plainly.restless()) === undefined;
  const onRejection = (error: unknown) => world.violated(`nobody caught: ${String(error)}`);
  process.on("unhandledRejection", onRejection);
  try {
    // In every second world the way up is as dangerous as the rest.
    const isBornInTrouble = world.dice.of("birth").chance(0.5);
    if (isBornInTrouble) world.breakLoose();
    world.plainRelay?.start();
    cluster.start();
    for (const laptop of laptops) laptop.start();
    errands.handOutTokens();
    if (!isBornInTrouble) {
      await clock.run(UP_MS, () => laptops.every(({ isMember }) => isMember));
      if (!laptops.every(({ isMember }) => isMember)) world.violated("the laptops are not paired");
      world.breakLoose();
    }
    errands.plan();
    strangers.plan();
    plainly.plan();
    await clock.run(plan.durationMs, () => violations.length > 0);
    world.calmDown();
    await clock.run(QUIET_MS, () => violations.length > 0 || isQuiet());
    errands.checkQuiet(strangers.restless() ?? plainly.restless());
    const talk = async () => {
      errands.sendFresh();
      await clock.run(FRESH_MS, () => violations.length > 0 || (errands.hasFresh() && isQuiet()));
      errands.checkFresh();
      if (violations.length === 0) await plainly.talk();
    };
    if (violations.length === 0) await talk();
    // In some worlds everyone sleeps for longer than a signed prekey is published, and all deadlines are late.
    if (violations.length === 0 && world.dice.of("sleep").chance(0.2)) {
      world.trace("everyone sleeps");
      clock.leap(SLEEP_MS);
      await clock.run(QUIET_MS, () => violations.length > 0 || (errands.isQuiet() && errands.hasNewPreKeys()));
      errands.checkQuiet();
      errands.checkPreKeys();
      if (violations.length === 0) await talk();
    }
    await clock.run(1_000);
    if (violations.length === 0 && world.plainRelay) {
      await clock.run(BROKEN_MS, () => violations.length > 0);
      world.witness.rest();
      await clock.run(REST_MS, () => violations.length > 0);
      world.witness.rested(MESSAGES_AT_REST_MAX);
    }
    if (violations.length === 0) await errands.check();
    if (violations.length === 0) strangers.check();
    if (violations.length === 0) plainly.check();
    for (const [name, journal] of world.witness.nodes) {
      const forged = world.around.meddler.takenBy(journal);
      if (forged !== undefined) world.violated(`${name} took the knock ${forged}`);
    }
    if (violations.length === 0) world.witness.conclude();
    if (violations.length === 0) await checkStores(world);
  } finally {
    process.off("unhandledRejection", onRejection);
  }
  return {
    seed: options.seed,
    violations,
    digest: world.digest,
    faults: world.faults,
    accepted: errands.accepted,
    offloads: errands.offloads,
    frames: world.witness.frames,
    virtualMs: clock.elapsedMs,
    steps: clock.steps,
  };
}
