import type { MeshTool } from "./tool.ts";
import { discover } from "./tools/discover.ts";
import { meshAwait, meshInbox, meshSend } from "./tools/messages.ts";
import { cloudOffload, offloadCancel, offloadStatus } from "./tools/offload.ts";
import { meshPair } from "./tools/pair.ts";

/** All tools; openclaw.plugin.json lists the same. */
export const TOOLS: readonly MeshTool[] = [
  meshPair,
  cloudOffload,
  offloadStatus,
  offloadCancel,
  meshSend,
  meshInbox,
  meshAwait,
  discover,
];
