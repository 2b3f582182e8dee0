/** What the attacks share: two laptops, and a relay or a registry that does as it likes with what passes. */
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Ports, realPorts } from "../../src/actors/ports.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { Knock, Message } from "../../src/wire/frame.ts";
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

export async function openPair(ports: { readonly alice?: Ports; readonly bob?: Ports } = {}): Promise<Pair> {
  const world = await openWorld();
  const alice = await world.open("alice", ports.alice);
  const bob = await world.open("bob", ports.bob);
  return { world, alice, bob };
}

/** Says something, and waits until the other side has it. */
export async function say(from: MeshNode, to: MeshNode, message: string): Promise<void> {
  await call(from, "send", { to: didOf(to), message });
  await heard(to, from, message);
}

/** Waits until a message of these words has come. */
export async function heard(at: MeshNode, from: MeshNode, words: string): Promise<void> {
  while (!(await inbox(at)).includes(words)) await call(at, "await", { from: [didOf(from)], timeout_ms: 10_000 });
}

/** All that a node has received, in order. */
export async function inbox(node: MeshNode): Promise<string[]> {
  const { messages } = await call(node, "inbox", { all: true, limit: 200 });
  const bodies = new Map(messages.map(({ id, body }) => [id, body]));
  return [...node.core.messages.received()].map(({ id }) => bodies.get(id) ?? "");
}

/** A frame comes from the relay, true or not; resolves when the node has dealt with it. */
export async function comes(node: MeshNode, frame: Parameters<MeshNode["incoming"]["onFrame"]>[0]): Promise<void> {
  node.incoming.onFrame(frame);
  await node.core.lanes.idle();
  await node.journal.drained();
}

export const sessionsOf = (node: MeshNode): SessionContext[] =>
  [...node.core.system.streams("session")].map(([, state]): SessionContext => state.snapshot.context);
