import { withKills, withKillsBesidePlainPeer } from "./kills.ts";
import { STAND_INS } from "./peers.ts";
import { openStandIns } from "./stage.ts";

withKills(openStandIns);
for (const kind of STAND_INS) withKillsBesidePlainPeer(openStandIns, kind);
