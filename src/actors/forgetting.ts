import { join as joinPath } from "node:path";
import { MeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import { counted } from "../machines/conversation/outbox.ts";
import type { OffloadContext } from "../machines/offload/events.ts";
import { conversationOf } from "./core.ts";
import { knownPeer } from "./directory.ts";
import type { MeshNode } from "./node.ts";
import { isOver, offloadOf, phaseOf, statusOf } from "./offload-view.ts";

// Forgetting: the words of a conversation become unreadable in every file; that it was, when and how much, stays.
//
// Words are sealed under a content key. It is destroyed in one commit with what of them is kept elsewhere; then the epoch
// ends, and neither vault nor journal holds it any more. An offload's words went through the conversations with its
// controller and its sandbox, so they go with either; its result files came from the sandbox, and go with it.

export interface Forgotten {
  readonly did: string;
  readonly name: string | null;
  /** Messages in and out whose words are gone. */
  readonly messages: number;
  /** Messages that waited to be sent and now never will be. */
  readonly undelivered: number;
  /** Offloads whose words are gone. */
  readonly offloads: number;
  /** Those of them whose result files are gone too. */
  readonly folders: number;
}

interface OffloadOf {
  readonly id: string;
  readonly over: boolean;
  /** Its result files came from this peer. */
  readonly ownsFiles: boolean;
}

function offloadsOf({ core }: MeshNode, peer: string): OffloadOf[] {
  const found: OffloadOf[] = [];
  for (const [, state] of core.system.streams("offload")) {
    const { id, controller, sandbox }: OffloadContext = state.snapshot.context;
    const ownsFiles = sandbox.did === peer;
    if (ownsFiles || controller === peer) found.push({ id, over: isOver(statusOf(phaseOf(state))), ownsFiles });
  }
  return found;
}

/** What forgetting a peer would destroy. @throws MeshError `peer_unknown`, `peer_ambiguous`, `offload_running` */
export function forgettable(node: MeshNode, text: string): Forgotten {
  const { peer: did, name, sent, received, outbox } = knownPeer(node.core, text);
  const offloads = offloadsOf(node, did);
  const running = offloads.find(({ over }) => !over);
  if (running) throw new MeshError("offload_running", `Offload ${running.id} runs with ${name ?? did}.`);
  return {
    did,
    name,
    messages: sent + received,
    undelivered: counted(outbox),
    offloads: offloads.length,
    folders: offloads.filter(({ ownsFiles }) => ownsFiles).length,
  };
}

/**
 * Destroys the words of the conversation with a peer. After a crash it has happened or not; asking again finishes it.
 * @throws MeshError as `forgettable`; `store_io` when it is not certain that no file holds them: ask again
 */
export async function forget(node: MeshNode, text: string): Promise<Forgotten> {
  const { lanes, ports } = node.core;
  const { did } = forgettable(node, text);
  // Whoever reads words of this peer just now does so in one of these lanes.
  const forgotten = await lanes.run(`work ${did}`, () =>
    lanes.run(`out ${did}`, () => lanes.run(`wire ${did}`, () => destroy(node, did))),
  );
  await node.endEpoch();
  for (const { id, ownsFiles } of offloadsOf(node, did)) {
    if (ownsFiles) await ports.disk.remove(joinPath(node.home, "offloads", id));
  }
  return forgotten;
}

async function destroy(node: MeshNode, did: string): Promise<Forgotten> {
  const { system, keyring } = node.core;
  // From here to the commit nothing is awaited: what is counted is what goes.
  const forgotten = forgettable(node, did);
  const stream = conversationOf(did);
  const context: ConversationContext | undefined = system.decided(stream)?.snapshot.context;
  const ids = context?.outbox.map(({ id }) => id) ?? [];
  const offloads = offloadsOf(node, did).map(({ id }) => offloadOf(id));
  const sessions = node.sessions.known.all(did);
  const { durable } = system.commit(
    [
      ...(ids.length > 0 ? [{ stream, event: { type: "UNDELIVERABLE", ids, code: "conversation_forgotten" } }] : []),
      { stream, event: { type: "FORGOTTEN" } },
      ...offloads.map((offload) => ({ stream: offload, event: { type: "FORGOTTEN" } })),
    ],
    {
      secrets: Object.assign(
        keyring.forgetWordsPatch(did, sessions),
        ...offloads.map((offload) => keyring.forgetWordsPatch(offload)),
      ),
    },
  );
  keyring.forgotWords(did, sessions);
  for (const offload of offloads) keyring.forgotWords(offload);
  await durable;
  return forgotten;
}
