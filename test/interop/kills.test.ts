/** Kills of real processes take long: not in `npm test`. */
import { describe } from "vitest";
import { withKills, withKillsBesidePlainPeer } from "../scenarios/kills.ts";
import { STAND_INS } from "../scenarios/peers.ts";
import { openStandIns } from "../scenarios/stage.ts";

describe("at stand-ins of the reference relay and registry", () => {
  withKills(() => openStandIns());
  for (const kind of STAND_INS) withKillsBesidePlainPeer(() => openStandIns(), kind);
});
