import { isDeepStrictEqual } from "node:util";
import type { MeshNode } from "../../src/actors/node.ts";
import { MessagesProjection } from "../../src/actors/projections/messages.ts";
import { type ActorState, begin, persist, step, TIMER_EVENT } from "../../src/actors/state.ts";
import { DEFINITIONS } from "../../src/inspect/definitions.ts";
import { diskOn } from "../../src/store/disk.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { fileSystemOf, type SimulatedFiles } from "./disk.ts";
import type { World } from "./world.ts";

// What must be true of every store when all is calm: the journal from its first line gives the state that the node has, its
// deadlines rang once each and none is overdue, and no one-time prekey opened two sessions.

/** How late a deadline may be told when nothing holds it up. */
const LATE_MS = 5_000;

/** The disk without time or faults. */
const plainly = (files: SimulatedFiles) => diskOn(fileSystemOf(files, async (_, work) => work()));

export async function checkStores(world: World): Promise<void> {
  const agents = world.plan.strangerMessages > 0 ? [...world.laptops, world.stranger] : world.laptops;
  const nodes = agents.map(({ name, machine, home, node }) => ({ name, machine, home, node }));
  const { machine, home, node } = world.cluster;
  for (const each of [...nodes, { name: "controller", machine, home, node }]) {
    if (!each.node) throw new Error(`${each.name} is down`);
    await checkStore(world, each.name, each.machine.files, each.home, each.node);
  }
}

async function checkStore(
  world: World,
  name: string,
  files: SimulatedFiles,
  home: string,
  node: MeshNode,
): Promise<void> {
  const states = new Map<string, ActorState>();
  const messages = new MessagesProjection();
  const oneTime = new Set<number>();
  for await (const commit of readJournal(plainly(files), `${home}/journal`)) {
    for (const { stream, event } of commit.entries) {
      const definition = DEFINITIONS.get(stream.slice(0, stream.indexOf("/")));
      if (!definition) throw new Error(`no machine for ${stream}`);
      const before = states.get(stream) ?? begin(definition, stream.slice(stream.indexOf("/") + 1));
      const timer = event.type === TIMER_EVENT ? before.timers[String(event.id)] : undefined;
      if (event.type === TIMER_EVENT && !timer)
        world.violated(`${name}: a deadline of ${stream} rang that was not set`);
      if (timer && timer.at > commit.at) world.violated(`${name}: a deadline of ${stream} rang before its time`);
      const { state, accepted } = step(definition, before, event, commit.at);
      if (!accepted) world.violated(`${name}: the journal holds ${event.type}, which ${stream} refuses`);
      states.set(stream, state);
      if (event.type === "ACCEPTED" && typeof event.otk === "number") {
        if (oneTime.has(event.otk)) world.violated(`${name}: one-time prekey ${event.otk} opened two sessions`);
        oneTime.add(event.otk);
      }
    }
    messages.apply(commit);
  }
  const captured = node.core.system.capture().state;
  const replayed = Object.fromEntries([...states].map(([stream, state]) => [stream, persist(state)]));
  for (const stream of new Set([...Object.keys(captured.actors), ...Object.keys(replayed)])) {
    const [live, again] = [captured.actors[stream], replayed[stream]].map((state) =>
      JSON.parse(JSON.stringify(state ?? null)),
    );
    if (!isDeepStrictEqual(live, again))
      world.violated(`${name}: ${stream} is ${JSON.stringify(live)} and replays to ${JSON.stringify(again)}`);
  }
  const shown = (state: unknown) => JSON.parse(JSON.stringify(state));
  if (!isDeepStrictEqual(shown(captured.projections.messages), shown(messages.capture())))
    world.violated(`${name}: the list of messages is not what the journal says`);
  const now = world.clock.now();
  for (const [stream, { timers }] of node.core.system.streams())
    for (const [id, { at }] of Object.entries(timers))
      if (at < now - LATE_MS) world.violated(`${name}: the deadline ${id} of ${stream} was never told`);
}
