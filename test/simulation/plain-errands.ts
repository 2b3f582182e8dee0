import { uuidFrom } from "../../src/actors/uuid.ts";
import { asMeshError } from "../../src/errors.ts";
import type { ConversationContext } from "../../src/machines/conversation/events.ts";
import type { Dice } from "./dice.ts";
import type { Laptop } from "./laptop.ts";
import type { PlainPeer } from "./plain-peer.ts";
import type { World } from "./world.ts";

// The laptops and a plain peer write to each other. What it loses is lost, and nobody can know; but what arrives on either side
// arrives in order, and it is what was said. It arrives once, except for a message that had left when the laptop's process died, and
// of which the journal does not say so: nobody can know whether the peer has it, and the peer does not know message ids.

const PAUSE_MAX_MS = 5 * 60_000;

const LOOK_MS = 2_000;
/** Longer than a peer may be silent before it is knocked at anew. */
const SILENCE_MS = 61 * 60_000;
const EXCHANGE_MS = PAUSE_MAX_MS + 60_000;
const ATTEMPTS = 3;

interface Said {
  readonly words: string;
  /** Of the message, as its recipient knows it. */
  id: string | undefined;
}

export class PlainErrands {
  readonly #world: World;
  readonly #dice: Dice;
  /** What each way was said, in that order. */
  readonly #toPeer = new Map<Laptop, Said[]>();
  readonly #toLaptop = new Map<Laptop, Said[]>();
  /** Ids of messages that may come to the peer twice. */
  readonly #mayRepeat = new Set<string>();

  constructor(world: World) {
    this.#world = world;
    this.#dice = world.dice.of("plain errands");
  }

  plan(): void {
    const { clock, plan, plainPeer: peer, laptops } = this.#world;
    if (!peer) return;
    peer.start();
    for (const laptop of laptops) laptop.onDeath = () => this.#died(laptop, peer);
    const often = (what: (laptop: Laptop) => void) => {
      for (let count = 0; count < plan.peerMessages; count++)
        clock.in(this.#dice.fraction() * plan.durationMs, () => what(this.#dice.pick(laptops)));
    };
    often((laptop) => this.#ask(laptop, peer));
    often((laptop) => this.#hear(laptop, peer));
    for (let at = LOOK_MS; at < plan.durationMs; at += LOOK_MS) clock.in(at, () => this.#acceptAll(peer));
  }

  /** A laptop writes to the peer. */
  #ask(laptop: Laptop, peer: PlainPeer): Said | undefined {
    if (!laptop.isMember) return undefined;
    const list = this.#listOf(this.#toPeer, laptop);
    const id = uuidFrom((length) => this.#dice.bytes(length));
    const said: Said = { words: `${laptop.name} to ${peer.name}, ${list.length}`, id };
    list.push(said);
    this.#world.trace(`${said.words}: ${id}`);
    laptop.call("send", { to: peer.did, message: said.words, id }).catch((error: unknown) => {
      if (!this.#isUnknown(error)) this.#refused(laptop, error);
    });
    return said;
  }

  /** The peer writes to a laptop. */
  #hear(laptop: Laptop, peer: PlainPeer): Said | undefined {
    if (laptop.did === undefined) return undefined;
    const list = this.#listOf(this.#toLaptop, laptop);
    const said: Said = { words: `${peer.name} to ${laptop.name}, ${list.length}`, id: undefined };
    list.push(said);
    this.#world.trace(said.words);
    peer.say(laptop.did, said.words).then((id) => {
      said.id = id;
    });
    return said;
  }

  #listOf(lists: Map<Laptop, Said[]>, laptop: Laptop): Said[] {
    const list = lists.get(laptop) ?? [];
    lists.set(laptop, list);
    return list;
  }

  /** The person at each laptop lets the peer in when it knocks. */
  #acceptAll({ did }: PlainPeer): void {
    for (const laptop of this.#world.laptops)
      if (this.#context(laptop, did)?.admission === "held")
        laptop.call("accept", { peer: did }).catch((error: unknown) => this.#refused(laptop, error));
  }

  /** It may not have registered yet. */
  #isUnknown(error: unknown): boolean {
    return ["peer_unknown", "peer_without_prekeys"].includes(asMeshError(error).code);
  }

  #refused({ name, machine }: Laptop, error: unknown): void {
    const { code, message } = asMeshError(error);
    const isExcused = machine.hadFault || code === "closed" || code === "registry_unreachable";
    if (!isExcused) this.#world.violated(`${name}: ${message}`);
  }

  /** Called when a laptop's process dies. A message may be on the wire without a word about it on the disk. */
  #died(laptop: Laptop, peer: PlainPeer): void {
    for (const { id, sealed } of this.#context(laptop, peer.did)?.outbox ?? []) if (sealed) this.#mayRepeat.add(id);
  }

  #context({ node }: Laptop, peer: string): ConversationContext | undefined {
    return node?.core.system.state(`conversation/${peer}`)?.snapshot.context;
  }

  /** Why it is not quiet yet. */
  restless(): string | undefined {
    const { plainPeer: peer, laptops } = this.#world;
    if (!peer) return undefined;
    if (!peer.isOnline) return `${peer.name} is not online`;
    this.#acceptAll(peer);
    for (const laptop of laptops) {
      const context = this.#context(laptop, peer.did);
      if (context?.admission === "held") return `${laptop.name} has not let ${peer.name} in`;
      if (context && context.outbox.length > 0) return `${laptop.name} has mail for ${peer.name}`;
    }
    return undefined;
  }

  /**
   * After a silence, which makes a session doubtful, each laptop writes to the peer, and the peer answers. A knock may be in vain, when
   * an old one has used up the one-time prekey that it names; so they try a few times.
   */
  async talk(): Promise<void> {
    const { clock, plainPeer: peer, laptops, violations } = this.#world;
    if (!peer) return;
    let silent: readonly Laptop[] = laptops;
    for (let attempt = 0; attempt < ATTEMPTS && silent.length > 0; attempt++) {
      await clock.run(SILENCE_MS, () => violations.length > 0);
      const exchanges = silent.map((laptop) => this.#exchange(laptop, peer));
      await clock.run(EXCHANGE_MS, () => violations.length > 0 || exchanges.every((isOver) => isOver()));
      silent = silent.filter((_, index) => !exchanges[index]?.());
    }
    for (const { name } of silent) this.#world.violated(`${name} and ${peer.name} did not come to talk again`);
  }

  /** Asks the peer, which answers as soon as it hears of it or in its own time. Gives whether the answer has come. */
  #exchange(laptop: Laptop, peer: PlainPeer): () => boolean {
    const asked = this.#ask(laptop, peer);
    const pause = this.#dice.skewed(0, PAUSE_MAX_MS);
    let isHeard = false;
    let answer: Said | undefined;
    return () => {
      if (!isHeard && peer.heard.some(({ words }) => words === asked?.words)) {
        isHeard = true;
        this.#world.clock.in(pause, () => {
          answer = this.#hear(laptop, peer);
        });
      }
      const id = answer?.id;
      return id !== undefined && laptop.node?.core.messages.incoming(peer.did, id) !== undefined;
    };
  }

  check(): void {
    const { plainPeer: peer, laptops } = this.#world;
    if (!peer) return;
    for (const laptop of laptops) {
      const entries = [...(laptop.node?.core.messages.received() ?? [])].filter((entry) => entry.peer === peer.did);
      const said = this.#listOf(this.#toLaptop, laptop);
      this.#checkOrder(
        `${peer.name} to ${laptop.name}`,
        entries.map(({ id }) => said.findIndex((each) => each.id === id)),
      );
      const asked = this.#listOf(this.#toPeer, laptop);
      const places = peer.heard
        .filter(({ from }) => from === laptop.did)
        .map((heard) => asked.findIndex(({ words }) => words === heard.words));
      const mayRepeat = (place: number) => laptop.machine.hadFault || this.#mayRepeat.has(asked[place]?.id ?? "");
      this.#checkOrder(
        `${laptop.name} to ${peer.name}`,
        places.filter((place, index) => places.indexOf(place) === index || !mayRepeat(place)),
      );
    }
  }

  /** Whether a relay may lose a frame that the network then brings a second time, behind others. A plain client cannot tell. */
  get #mayOvertake(): boolean {
    const { relay, network } = this.#world.plan;
    return relay === "plain" && network.drop > 0 && network.repeat > 0;
  }

  /** @param places where what arrived stands in what was said */
  #checkOrder(way: string, places: readonly number[]): void {
    for (const [index, place] of places.entries()) {
      const before = places[index - 1] ?? -1;
      if (place === -1) this.#world.violated(`${way}: something came that was not said`);
      else if (place === before) this.#world.violated(`${way}: number ${place} came twice`);
      else if (place < before && !this.#mayOvertake)
        this.#world.violated(`${way}: number ${place} came after number ${before}`);
    }
  }
}
