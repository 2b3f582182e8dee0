/** The scenarios on stand-ins of the reference relay, registry and clients. */
import { betweenOurs } from "./ours.ts";
import { STAND_INS } from "./peers.ts";
import { withPlainPeer } from "./plain.ts";
import { openStandIns } from "./stage.ts";

betweenOurs(openStandIns);
for (const kind of STAND_INS) withPlainPeer(openStandIns, kind);
