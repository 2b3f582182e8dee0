import { idOf, kindOf, make, shortState, write } from "./dom.ts";
import type { Doing, View } from "./view.ts";

/** Buttons that are laid out together, or not at all while none of them is seen. */
interface Shelf {
  readonly box: HTMLElement;
  room: number;
  /** How many of them are shown. */
  shown: number;
}

interface Kind {
  readonly head: HTMLElement;
  readonly list: HTMLElement;
  readonly shelves: Shelf[];
}

interface Entry {
  readonly name: HTMLElement;
  readonly shelf: Shelf;
  readonly button: HTMLButtonElement;
  readonly state: HTMLElement;
  readonly text: string;
  /** What it was called, and the paths of its states, when that was written. */
  written: readonly [name: string, paths: string];
}

const SHELF_BUTTONS = 50;
/** Of a button, in pixels, as the style has it. */
const HEIGHT = 25;

/** What is copied for each actor. */
const BUTTON = make("button", "actor", make("span"), make("span", "chip"));
BUTTON.type = "button";

/** Every actor that is there at the moment, and its state. */
export class Actors {
  readonly #place: HTMLElement;
  readonly #entries = new Map<string, Entry>();
  readonly #kinds = new Map<string, Kind>();
  readonly #none = make("p", "none", "Nothing is here at this moment.");
  readonly #onlyNow = make("p", "none");
  #seen = 0;

  constructor(place: HTMLElement, doing: Doing) {
    this.#place = place;
    this.#onlyNow.id = "only-now";
    place.append(this.#none, this.#onlyNow);
    place.addEventListener("click", ({ target }) => {
      const button = target instanceof Element ? target.closest<HTMLElement>("button.actor") : undefined;
      if (button?.dataset.stream !== undefined) doing.choose(button.dataset.stream);
    });
  }

  render({ history, live, chosen, query, isLive }: View): void {
    const wanted = query.toLowerCase();
    for (const { shelves } of this.#kinds.values()) for (const shelf of shelves) shelf.shown = 0;
    const show = (stream: string, state: string | undefined) => {
      const entry = this.#entries.get(stream) ?? this.#make(stream);
      const isThere =
        state !== undefined &&
        (wanted === "" || `${entry.text} ${history.nameOf(stream)?.toLowerCase() ?? ""} ${state}`.includes(wanted));
      if (entry.button.hidden === isThere) entry.button.hidden = !isThere;
      if (!isThere) return;
      entry.shelf.shown++;
      const name = history.nameOf(stream) ?? idOf(stream);
      // To ask the document costs more than to remember.
      if (entry.written[0] !== name) entry.name.textContent = name;
      if (entry.written[1] !== state) entry.state.textContent = shortState(state);
      entry.written = [name, state];
      const current = String(stream === chosen);
      if (entry.button.getAttribute("aria-current") !== current) entry.button.setAttribute("aria-current", current);
    };
    for (const stream of history.streams()) {
      const row = history.lastOf(stream);
      show(history.words[stream] ?? "", row === -1 ? undefined : history.text(row, "state"));
    }
    for (const { stream, state } of live.values()) show(stream, isLive ? state : undefined);
    this.#seen = 0;
    for (const [kind, { head, list, shelves }] of this.#kinds) {
      const count = shelves.reduce((sum, { shown }) => sum + shown, 0);
      head.hidden = list.hidden = count === 0;
      write(head, `${kind} ${count}`);
      for (const { box, shown } of shelves) box.style.containIntrinsicBlockSize = `${shown * HEIGHT}px`;
      this.#seen += count;
    }
    this.#none.hidden = this.#seen > 0;
    this.#onlyNow.hidden = isLive || live.size === 0;
    write(this.#onlyNow, `Without a journal, and so shown only live: ${[...live.keys()].join(", ")}`);
  }

  /** How many are shown. */
  get count(): number {
    return this.#seen;
  }

  /** The first on the page. */
  get first(): string | undefined {
    return this.#place.querySelector<HTMLButtonElement>("button.actor:not([hidden])")?.dataset.stream;
  }

  /** The actor above or below one, as they stand on the page. */
  beside(stream: string | undefined, way: 1 | -1): string | undefined {
    const shown = [...this.#place.querySelectorAll<HTMLButtonElement>("button.actor:not([hidden])")];
    const at = shown.findIndex((button) => button.dataset.stream === stream);
    const next = shown[at === -1 ? 0 : Math.max(0, Math.min(shown.length - 1, at + way))];
    next?.scrollIntoView({ block: "nearest" });
    return next?.dataset.stream;
  }

  #make(stream: string): Entry {
    const kind = this.#kindOf(stream);
    const shelf = shelfOf(kind);
    const button = BUTTON.cloneNode(true) as HTMLButtonElement;
    const [name, state] = [button.firstChild as HTMLElement, button.lastChild as HTMLElement];
    button.dataset.stream = stream;
    button.title = stream;
    shelf.room--;
    shelf.box.append(button);
    const entry: Entry = { name, shelf, button, state, text: stream.toLowerCase(), written: ["", ""] };
    this.#entries.set(stream, entry);
    return entry;
  }

  #kindOf(stream: string): Kind {
    const name = kindOf(stream);
    const known = this.#kinds.get(name);
    if (known) return known;
    const kind = { head: make("h3"), list: make("div"), shelves: [] };
    this.#kinds.set(name, kind);
    this.#onlyNow.before(kind.head, kind.list);
    return kind;
  }
}

/** A shelf of a kind with room for one more. */
function shelfOf({ list, shelves }: Kind): Shelf {
  const last = shelves.at(-1);
  if (last && last.room > 0) return last;
  const shelf = { box: make("div", "shelf"), room: SHELF_BUTTONS, shown: 0 };
  list.append(shelf.box);
  shelves.push(shelf);
  return shelf;
}
