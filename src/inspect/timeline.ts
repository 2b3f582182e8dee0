import { setImmediate as turn } from "node:timers/promises";
import { TIMER_EVENT } from "../actors/state.ts";
import type { Ready, Rows } from "../page/protocol.ts";
import { arrowOf } from "./arrows.ts";
import { partsOf } from "./definitions.ts";
import { type Folded, fold } from "./fold.ts";
import { followCommits } from "./follow.ts";
import { TIMELINE_MESSAGE_ROWS, TIMELINE_PAUSE_MS } from "./limits.ts";
import { REDACTED, redactContext, redactEvent, redactStream } from "./redact.ts";
import { isObject } from "./show.ts";

// The whole history of a home in the form in which pages get it: rows of numbers, made once and kept as the text that is sent.

/** Told of each message as it is made. */
export type Hearer = (message: string) => void;

type Context = Readonly<Record<string, unknown>>;

/** The paths of the active states, separated by spaces. */
export function pathsOf(value: unknown, above = ""): string {
  const under = (key: string) => (above === "" ? key : `${above}.${key}`);
  if (typeof value === "string") return under(value);
  if (!isObject(value)) return above;
  return Object.entries(value)
    .map(([key, inner]) => pathsOf(inner, under(key)))
    .join(" ");
}

/** Machines of whose context something is told with each event. */
const TELLING: ReadonlySet<string> = new Set(["conversation", "offload", "pairing", "session"]);

/** So much of so much, in the unit in which the whole says something. */
function portion(bytes: number, total: number): string {
  const [unit, size] = total < 1e6 ? ["kB", 1e3] : ["MB", 1e6];
  return `${(bytes / size).toFixed(1)} of ${(total / size).toFixed(1)} ${unit}`;
}

/** What a conversation's peer is called; how far an offload is, in few characters. */
function noteOf(kind: string, state: unknown, { name, address, pct, moved }: Context): string {
  if (kind === "conversation") {
    const called = name ?? address;
    return typeof called === "string" && called !== REDACTED ? called : "";
  }
  if (kind !== "offload") return "";
  // The last that it said of itself was before its end.
  if (state === "done") return "100%";
  if (isObject(state) && isObject(moved) && moved.total !== moved.bytes)
    return `${moved.way === "up" ? "↑" : "↓"} ${portion(Number(moved.bytes), Number(moved.total))}`;
  return typeof pct === "number" ? `${pct}%` : "";
}

export class Timeline {
  readonly #home: string;
  readonly #words = new Map<string, number>();
  readonly #messages: string[] = [];
  readonly #hearers = new Set<Hearer>();
  /** DIDs of controllers. */
  readonly #controllers = new Set<string>();
  readonly #shapes = new Map<string, number>();
  #newWords: string[] = [];
  #newShapes: number[] = [];
  #rows: number[] = [];
  #last: { readonly number: number; readonly at: number } = { number: 0, at: 0 };
  #events = 0;
  #isReady = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(home: string) {
    this.#home = home;
  }

  /** All that was made so far; whoever asks hears of the rest. Returns what takes that back. */
  hear(hearer: Hearer): { readonly messages: readonly string[]; readonly stop: () => void } {
    this.#flush();
    this.#hearers.add(hearer);
    return { messages: [...this.#messages], stop: () => this.#hearers.delete(hearer) };
  }

  /** Reads the journal, and then on as it grows, until the signal. @throws MeshError as `followCommits` */
  async run(signal: AbortSignal): Promise<void> {
    const caughtUp = () => {
      this.#flush();
      if (this.#isReady) return;
      this.#isReady = true;
      const ready: Ready = { type: "ready", home: this.#home };
      this.#tell(JSON.stringify(ready));
    };
    try {
      for await (const folded of fold(followCommits(this.#home, signal, caughtUp))) {
        this.#add(folded);
        // Many come without a wait between them: others get their turn.
        if (++this.#events % TIMELINE_MESSAGE_ROWS === 0) {
          this.#flush();
          await turn();
        } else this.#timer ??= setTimeout(() => this.#flush(), TIMELINE_PAUSE_MS);
      }
    } finally {
      clearTimeout(this.#timer);
    }
  }

  /** There will be no more, and why. */
  end(message: string): void {
    this.#flush();
    this.#tell(message);
  }

  #add({ commit, stream, event, before, step }: Folded): void {
    const { kind } = partsOf(stream);
    const name = redactStream(stream);
    const { snapshot } = step?.state ?? before;
    const shown = redactEvent(kind, event);
    const context = TELLING.has(kind) ? redactContext(kind, snapshot.context) : {};
    if (typeof context.controller === "string") this.#controllers.add(context.controller);
    const [from = "", to = ""] = arrowOf(name, shown, context, this.#controllers) ?? [];
    const type = shown.type === TIMER_EVENT ? `after ${String(shown.id).split(".")[2] ?? ""}` : shown.type;
    const parts = [type, pathsOf(snapshot.value), from, to, noteOf(kind, snapshot.value, context)].map((word) =>
      this.#wordOf(word),
    );
    const shape = this.#shapeOf([...parts, step?.accepted ? 1 : 0]);
    this.#rows.push(commit.number - this.#last.number, commit.at - this.#last.at, this.#wordOf(name), shape);
    this.#last = commit;
  }

  #shapeOf(parts: readonly number[]): number {
    const key = parts.join();
    const known = this.#shapes.get(key);
    if (known !== undefined) return known;
    this.#newShapes.push(...parts);
    this.#shapes.set(key, this.#shapes.size);
    return this.#shapes.size - 1;
  }

  #wordOf(word: string): number {
    if (word === "") return 0;
    const known = this.#words.get(word);
    if (known !== undefined) return known;
    this.#newWords.push(word);
    this.#words.set(word, this.#words.size + 1);
    return this.#words.size;
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#rows.length === 0) return;
    const message: Rows = { type: "rows", words: this.#newWords, shapes: this.#newShapes, rows: this.#rows };
    this.#newWords = [];
    this.#newShapes = [];
    this.#rows = [];
    this.#tell(JSON.stringify(message));
  }

  #tell(message: string): void {
    this.#messages.push(message);
    for (const hearer of this.#hearers) hearer(message);
  }
}
