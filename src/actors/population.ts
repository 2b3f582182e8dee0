import type { MachineDefinition } from "../machines/definition.ts";
import type { StoredEvent } from "../store/journal.ts";
import { type ActorState, begin } from "./state.ts";

// The actors of a system, by the names of their streams. One comes to be with its first event.

export interface Actor {
  readonly stream: string;
  readonly definition: MachineDefinition;
  /** What the next event will meet. */
  decided: ActorState;
  /** What is on disk, and all that is shown outside. */
  durable: ActorState;
  /** Whether any event of it is durable: before that it does not exist for anyone outside. */
  exists: boolean;
}

/** Nobody has told it anything yet, not even what is still being written. */
const isFresh = ({ exists, decided, durable }: Actor) => !exists && decided === durable;

export class Population {
  readonly #definitions: ReadonlyMap<string, MachineDefinition>;
  readonly #actors = new Map<string, Actor>();

  constructor(definitions: readonly MachineDefinition[]) {
    this.#definitions = new Map(definitions.map((definition) => [definition.kind, definition]));
  }

  get definitions(): Iterable<MachineDefinition> {
    return this.#definitions.values();
  }

  /** The machine behind a stream. */
  definitionOf(stream: string): MachineDefinition | undefined {
    const slash = stream.indexOf("/");
    return this.#definitions.get(slash === -1 ? stream : stream.slice(0, slash));
  }

  /** @throws Error when no machine runs streams of that kind */
  orNew(stream: string): Actor {
    const known = this.#actors.get(stream);
    if (known) return known;
    const definition = this.definitionOf(stream);
    if (!definition) throw new Error(`no machine for the stream ${stream}`);
    const state = begin(definition, stream.slice(stream.indexOf("/") + 1));
    const actor: Actor = { stream, definition, decided: state, durable: state, exists: false };
    this.#actors.set(stream, actor);
    return actor;
  }

  get(stream: string): Actor | undefined {
    return this.#actors.get(stream);
  }

  /** Those that exist for others. */
  *existing(): Generator<Actor> {
    for (const actor of this.#actors.values()) if (actor.exists) yield actor;
  }

  /** An actor that came to nothing is none. */
  dropIfFresh(actor: Actor): void {
    if (isFresh(actor)) this.#actors.delete(actor.stream);
  }

  /** What was decided and is not durable never happened. */
  rollBack(): void {
    for (const actor of this.#actors.values()) {
      actor.decided = actor.durable;
      this.dropIfFresh(actor);
    }
  }

  /** The event as its machine's schema reads it. @throws ZodError */
  static parse({ definition }: Actor, event: StoredEvent): StoredEvent {
    const events: { parse(event: unknown): StoredEvent } = definition.events;
    return events.parse(event);
  }
}
