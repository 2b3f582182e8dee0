/** The scenarios on stand-ins of the reference relay, registry and clients. */
import { withFiles } from "./files.ts";
import { betweenOurs } from "./ours.ts";
import { STAND_INS } from "./peers.ts";
import { withPlainPeer } from "./plain.ts";
import { openStandIns } from "./stage.ts";

const open = () => openStandIns();

betweenOurs(open);
withFiles(open);
for (const kind of STAND_INS) withPlainPeer(open, kind);
