/** What the attacks share: two laptops, and a relay or a registry that does as it likes with what passes. */
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Ports, realPorts } from "../../src/actors/ports.ts";
import { serializeRatchet } from "../../src/crypto/index.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { Knock, Message } from "../../src/wire/frame.ts";
import type { FrameText } from "../../src/wire/frame-text.ts";
import { call, filtered, openWorld, type World } from "../actors/world.ts";

export const didOf = ({ core }: MeshNode): string => core.keyring.identity.did;

/** Real ports that write down what is sent, and lose what is not to pass. */
export function tapped(passes: (frame: { readonly type?: unknown }) => boolean = () => true) {
  const knocks: Knock[] = [];
  const messages: Message[] = [];
  const ports = filtered((frame, direction) => {
    if (direction === "in") return true;
    if (frame.type === "knock") knocks.push(Knock.parse(frame));
    if (frame.type === "message") messages.push(Message.parse(frame));
    return passes(frame);
  });
  return { ports, knocks, messages };
}

/** Real ports with a relay that also says what it likes: `says` gives a text to the node as if it had come from there. */
export function bent(base: Ports = realPorts(realNetwork)) {
  let heard: ((text: FrameText) => void) | undefined;
  const ports: Ports = {
    ...base,
    network: {
      ...base.network,
      dial(url, events) {
        heard = events.received;
        return base.network.dial(url, events);
      },
    },
  };
  const says = (said: object | FrameText) =>
    heard?.(typeof said === "string" || Buffer.isBuffer(said) ? said : JSON.stringify(said));
  return { ports, says };
}

/** Real ports with a registry that answers what it likes. */
export const lying = (lie: (path: string, answer: Record<string, unknown>) => Record<string, unknown>): Ports =>
  realPorts({
    ...realNetwork,
    fetch: async (url, init) => {
      const response = await realNetwork.fetch(url, init);
      if (init?.method !== undefined && init.method !== "GET") return response;
      const answer = (await response.json()) as Record<string, unknown>;
      return Response.json(lie(new URL(url).pathname, answer), { status: response.status });
    },
  });

export interface Pair {
  readonly world: World;
  readonly alice: MeshNode;
  readonly bob: MeshNode;
}

export async function openPair(
  ports: { readonly alice?: Ports; readonly bob?: Ports } = {},
  onNote?: (text: string) => void,
): Promise<Pair> {
  const world = await openWorld();
  const alice = await world.open("alice", ports.alice, onNote);
  const bob = await world.open("bob", ports.bob, onNote);
  return { world, alice, bob };
}

/** Says something, and waits until the other side has it. */
export async function say(from: MeshNode, to: MeshNode, message: string): Promise<void> {
  await call(from, "send", { to: didOf(to), message });
  await heard(to, from, message);
}

/** Waits until a message of these words has come. */
export const heard = (at: MeshNode, from: MeshNode, words: string): Promise<void> => hears(at, didOf(from), words);

/** The same, of a peer that need not be a node of ours. */
export async function hears(at: MeshNode, from: string, words: string): Promise<void> {
  while (!(await inbox(at)).includes(words)) await call(at, "await", { from: [from], timeout_ms: 10_000 });
}

/** All that a node has received, in order. */
export async function inbox(node: MeshNode): Promise<string[]> {
  const { messages } = await call(node, "inbox", { all: true, limit: 200 });
  const bodies = new Map(messages.map(({ id, body }) => [id, body]));
  return [...node.core.messages.received()].map(({ id }) => bodies.get(id) ?? "");
}

/** A frame comes from the relay, true or not; resolves when the node has dealt with it. */
export async function comes(node: MeshNode, frame: Parameters<MeshNode["incoming"]["onFrame"]>[0]): Promise<void> {
  node.incoming.onFrame(frame, JSON.stringify(frame).length);
  await dealtWith(node);
}

/** Resolves when the node has dealt with all that came. */
export async function dealtWith(node: MeshNode): Promise<void> {
  await node.core.lanes.idle();
  await node.journal.drained();
}

export const sessionsOf = (node: MeshNode): SessionContext[] =>
  [...node.core.system.streams("session")].map(([, state]): SessionContext => state.snapshot.context);

/** Everything that a frame could have moved: the journal, what every machine shows, every ratchet and the keys that it set aside. */
export function standing(node: MeshNode): unknown {
  const { system, keyring } = node.core;
  const kinds = ["session", "conversation", "offload", "prekeys", "pairing"];
  return structuredClone({
    commits: node.journal.head,
    machines: kinds.flatMap((kind) =>
      [...system.streams(kind)].map(([stream, { snapshot }]) => [stream, snapshot.value, snapshot.context]),
    ),
    ratchets: sessionsOf(node).map(({ id }) =>
      keyring
        .candidates(id)
        .map(({ ratchet }) => ({ state: serializeRatchet(ratchet.state), skipped: [...ratchet.skipped.keys()] })),
    ),
  });
}

/** What `peers` counts of frames that a peer is said to have sent and that were not taken. */
export async function counted(node: MeshNode, peer: MeshNode): Promise<{ duplicates: number; unreadable: number }> {
  const { peers } = await call(node, "peers", {});
  const { duplicates = 0, unreadable = 0 } = peers.find(({ did }) => did === didOf(peer)) ?? {};
  return { duplicates, unreadable };
}
