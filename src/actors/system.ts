import { MeshError } from "../errors.ts";
import { LAZY_COMMIT_MS } from "../limits.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import type { Commit, Entry, Journal, StoredEvent } from "../store/journal.ts";
import type { SecretPatch, Secrets } from "../store/secrets.ts";
import { Deadlines } from "./deadlines.ts";
import { Effects, type EffectsOptions, type Performers } from "./effects.ts";
import { type Actor, Population } from "./population.ts";
import type { Clock } from "./ports.ts";
import type { Projection } from "./projection.ts";
import { type ActorState, type Effect, type PersistedState, persist, restore, step, TIMER_EVENT } from "./state.ts";
import { entryOf, eventVersionOf, upcast } from "./upcast.ts";

// The actor system: decide -> commit -> publish -> perform.
//
// Decide is synchronous: the machines say what the events mean, on top of all that was decided before, durable or not. The
// commit is durable when the journal says so. Only then is it published (snapshots, projections, subscribers) and only then
// are its effects performed. If a commit cannot be made durable, it and all that was decided on top of it never happened.

/** What a subscriber is told, once it is durable. */
export interface Change {
  readonly stream: string;
  readonly event: StoredEvent;
  readonly at: number;
  readonly state: ActorState;
  readonly effects: readonly Effect[];
  /** Absent for live actors, which are not journaled. */
  readonly commit?: Commit;
}

export interface CommitOptions {
  readonly secrets?: SecretPatch | undefined;
  /** Names of secrets that are of no more use once the events are durable. The events must say so to whoever recovers. */
  readonly forgotten?: readonly string[] | undefined;
  /** Makes durable what the events refer to outside the journal, before the commit is written. */
  readonly before?: (() => Promise<void>) | undefined;
  /** All or nothing: one refused event refuses them all. */
  readonly atomic?: boolean;
  /** Nobody waits for it: it may become durable with a later commit, within LAZY_COMMIT_MS. */
  readonly lazy?: boolean;
}

export interface Outcome {
  /** For each event, whether its machine had a use for it. Refused events are not committed. */
  readonly accepted: readonly boolean[];
  /** Resolves when it is durable, published, and its effects have begun. @throws MeshError `store_io` */
  readonly durable: Promise<void>;
}

interface Decision {
  readonly at: number;
  readonly steps: readonly {
    readonly actor: Actor;
    readonly event: StoredEvent;
    readonly state: ActorState;
    readonly effects: readonly Effect[];
  }[];
  readonly secrets: SecretPatch | undefined;
  readonly forgotten: readonly string[];
}

export interface SystemOptions extends EffectsOptions {
  readonly definitions: readonly MachineDefinition[];
  readonly projections: readonly Projection[];
  readonly clock: Clock;
}

const RESUMED = { type: "RESUMED" };

export class ActorSystem {
  readonly #projections: readonly Projection[];
  readonly #clock: Clock;
  readonly #onFault: (error: unknown, where: string) => void;
  readonly #actors: Population;
  readonly #effects: Effects;
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #deadlines: Deadlines<Actor>;
  #pending: Decision[] = [];
  #journal: Journal | undefined;
  #secrets: Secrets | undefined;
  #position = 0;
  /** Takes back the end of the time that lazy commits may wait. */
  #flushing: (() => void) | undefined;

  constructor(options: SystemOptions) {
    this.#actors = new Population(options.definitions);
    this.#projections = options.projections;
    this.#clock = options.clock;
    this.#onFault = options.onFault;
    this.#effects = new Effects(options);
    this.#deadlines = new Deadlines(options.clock, async ({ stream }, id) => {
      await this.commit([{ stream, event: { type: TIMER_EVENT, id } }]).durable;
    });
  }

  /**
   * Text that changes when snapshots of another program version would mean something else, or would hide events of a form
   * that this version cannot read. A change of one machine refuses them all: folding one kind anew reads the whole journal too.
   */
  get versions(): string {
    const machines = [...this.#actors.definitions].map((definition) => {
      const events = eventVersionOf(definition);
      return `${definition.kind}@${definition.version}${events === 1 ? "" : `.${events}`}`;
    });
    return [...machines, ...this.#projections.map(({ name, version }) => `${name}@${version}`)].join(" ");
  }

  /** Gives the system its store, after `fold` has seen all that is on disk. */
  attach(journal: Journal, secrets: Secrets): void {
    this.#journal = journal;
    this.#secrets = secrets;
  }

  /** How the effects of one kind of machine are performed. */
  perform(kind: string, performers: Performers): void {
    this.#effects.offer(kind, performers);
  }

  // Recovery

  /** Takes the states of a snapshot file. */
  restore(
    position: number,
    state: { actors: Record<string, PersistedState>; projections: Record<string, unknown> },
  ): void {
    for (const [stream, persisted] of Object.entries(state.actors)) {
      const actor = this.#actors.orNew(stream);
      this.#settle(actor, restore(actor.definition, persisted));
    }
    for (const projection of this.#projections) projection.restore(state.projections[projection.name]);
    this.#position = position;
  }

  /** A commit from disk with its events in the forms of today. @throws MeshError `store_newer` */
  current(stored: Commit): Commit {
    return upcast(stored, (stream) => this.#actors.definitionOf(stream));
  }

  /** Folds one commit that is on disk. Nothing is performed. @throws MeshError `store_newer` */
  fold(stored: Commit): void {
    if (stored.number <= this.#position) return;
    const commit = this.current(stored);
    for (const { stream, event } of commit.entries) {
      const actor = this.#actors.orNew(stream);
      this.#settle(actor, step(actor.definition, actor.durable, event, commit.at).state);
    }
    for (const projection of this.#projections) projection.apply(commit);
    this.#position = commit.number;
  }

  /** All states, for a snapshot file. Live actors are left out. */
  capture(): {
    position: number;
    state: { actors: Record<string, PersistedState>; projections: Record<string, unknown> };
  } {
    const actors: Record<string, PersistedState> = {};
    for (const { stream, definition, durable } of this.#actors.existing()) {
      if (!definition.live) actors[stream] = persist(durable);
    }
    const projections = Object.fromEntries(
      this.#projections.map((projection) => [projection.name, projection.capture()]),
    );
    return { position: this.#position, state: { actors, projections } };
  }

  /** Begins to perform, anew after `stop`: deadlines are armed, and every actor asks again for what is pending. */
  start(): void {
    this.#effects.performing = true;
    // In the order of the definitions, so that sessions go before the conversations that need them.
    for (const { kind } of this.#actors.definitions) this.resume(kind);
    this.#deadlines.start();
  }

  /** Every actor of a kind asks again for what is pending. */
  resume(kind: string): void {
    const at = this.#clock.now();
    for (const actor of this.#actors.existing()) {
      if (actor.definition.kind !== kind) continue;
      const { state, effects } = step(actor.definition, actor.durable, RESUMED, at);
      if (state.snapshot !== actor.durable.snapshot) throw new Error(`RESUMED changed the state of ${actor.stream}`);
      this.#effects.perform(actor.definition.kind, actor.stream, effects);
    }
  }

  /** Ends performing. What is being made durable still becomes so. */
  stop(): void {
    this.#effects.performing = false;
    this.#deadlines.stop();
    this.#flushing?.();
    this.#flushing = undefined;
    this.#journal?.flush().catch(() => undefined);
  }

  // Decide and commit

  /** Sends events to actors. All that is accepted becomes durable together. */
  commit(entries: readonly Entry[], options: CommitOptions = {}): Outcome {
    const at = this.#clock.now();
    const accepted: boolean[] = [];
    const steps: Decision["steps"][number][] = [];
    const reached = new Map<Actor, ActorState>();
    for (const { stream, event } of entries) {
      const actor = this.#actors.orNew(stream);
      const parsed = event.type === TIMER_EVENT ? event : Population.parse(actor, event);
      const result = step(actor.definition, reached.get(actor) ?? actor.decided, parsed, at);
      accepted.push(result.accepted);
      if (!result.accepted) {
        if (!reached.has(actor)) this.#actors.dropIfFresh(actor);
        continue;
      }
      reached.set(actor, result.state);
      steps.push({ actor, event: parsed, state: result.state, effects: result.effects });
    }
    if (steps.length === 0 || (options.atomic && accepted.includes(false))) {
      for (const actor of reached.keys()) this.#actors.dropIfFresh(actor);
      return { accepted: options.atomic ? accepted.map(() => false) : accepted, durable: Promise.resolve() };
    }
    for (const [actor, state] of reached) actor.decided = state;
    const { secrets = {}, forgotten = [] } = options;
    const decision = { at, steps, secrets: Object.keys(secrets).length > 0 ? secrets : undefined, forgotten };
    return { accepted, durable: this.#keep(decision, options) };
  }

  async #keep(decision: Decision, { before, lazy = false }: CommitOptions): Promise<void> {
    const entries = decision.steps
      .filter(({ actor }) => !actor.definition.live)
      .map(({ actor, event }) => entryOf(actor.definition, actor.stream, event));
    if (entries.length === 0) {
      this.#publish(decision, undefined);
      return;
    }
    if (!this.#journal || !this.#secrets) throw new MeshError("closed");
    const sealing = decision.secrets && this.#secrets.decide(decision.secrets);
    this.#secrets.decideForgotten(decision.forgotten);
    this.#pending.push(decision);
    if (lazy) this.#flushSoon(this.#journal);
    await this.#journal.append({ at: decision.at, entries, ...sealing, ...(before && { before }), lazy });
  }

  #flushSoon(journal: Journal): void {
    this.#flushing ??= this.#clock.at(this.#clock.now() + LAZY_COMMIT_MS, () => {
      this.#flushing = undefined;
      // Who waits for it is told by the commit itself.
      journal.flush().catch(() => undefined);
    });
  }

  /** The journal has these on disk. */
  onDurable(commits: readonly Commit[]): void {
    for (const commit of commits) {
      const decision = this.#pending.shift();
      if (!decision) throw new Error("a commit became durable that nobody decided");
      if (decision.secrets) this.#secrets?.confirm(decision.secrets);
      this.#secrets?.forget(decision.forgotten);
      this.#publish(decision, commit);
    }
  }

  /** What was decided could not be made durable. */
  onFailure(): void {
    this.#pending = [];
    this.#secrets?.rollBack();
    this.#actors.rollBack();
    for (const actor of this.#actors.existing()) this.#deadlines.note(actor);
    this.#deadlines.arm();
  }

  #publish(decision: Decision, commit: Commit | undefined): void {
    for (const { actor, state } of decision.steps) {
      actor.durable = state;
      actor.exists = true;
      this.#deadlines.note(actor);
    }
    if (commit) {
      this.#position = commit.number;
      for (const projection of this.#projections) projection.apply(commit);
    }
    for (const { actor, event, state, effects } of decision.steps) {
      const change: Change = {
        stream: actor.stream,
        event,
        at: decision.at,
        state,
        effects,
        ...(commit && { commit }),
      };
      for (const listener of this.#listeners) {
        try {
          listener(change);
        } catch (error) {
          this.#onFault(error, `a subscriber of ${actor.stream}`);
        }
      }
    }
    for (const { actor, effects } of decision.steps)
      this.#effects.perform(actor.definition.kind, actor.stream, effects);
    this.#deadlines.arm();
  }

  // Read

  /** The durable state of an actor, or undefined when it has none yet. */
  state(stream: string): ActorState | undefined {
    const actor = this.#actors.get(stream);
    return actor?.exists ? actor.durable : undefined;
  }

  /** What is decided, durable or not: what the next event will meet. Never to be shown outside. */
  decided(stream: string): ActorState | undefined {
    return this.#actors.get(stream)?.decided;
  }

  *streams(kind?: string): Generator<readonly [stream: string, state: ActorState]> {
    for (const { stream, definition, durable } of this.#actors.existing()) {
      if (kind === undefined || definition.kind === kind) yield [stream, durable];
    }
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The number of the last commit that is published. */
  get position(): number {
    return this.#position;
  }

  /** The number of the last commit that is decided, durable or not: what a change has to reach to be news to who asks now. */
  get decidedPosition(): number {
    return this.#position + this.#pending.length;
  }

  #settle(actor: Actor, state: ActorState): void {
    actor.decided = state;
    actor.durable = state;
    actor.exists = true;
    this.#deadlines.note(actor);
  }
}
