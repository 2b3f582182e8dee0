import { idOf, kindOf, make, shortState, write } from "./dom.ts";
import type { Doing, View } from "./view.ts";

interface Entry {
  readonly name: HTMLElement;
  readonly kind: string;
  readonly button: HTMLButtonElement;
  readonly state: HTMLElement;
  readonly text: string;
}

/** Every actor that is there at the moment, and its state. */
export class Actors {
  readonly #place: HTMLElement;
  readonly #entries = new Map<string, Entry>();
  readonly #kinds = new Map<string, { readonly head: HTMLElement; readonly list: HTMLElement }>();
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
    const counts = new Map<string, number>();
    const show = (stream: string, state: string | undefined) => {
      const entry = this.#entries.get(stream) ?? this.#make(stream);
      const isThere =
        state !== undefined &&
        (wanted === "" || `${entry.text} ${history.nameOf(stream)?.toLowerCase() ?? ""} ${state}`.includes(wanted));
      if (entry.button.hidden === isThere) entry.button.hidden = !isThere;
      if (!isThere) return;
      counts.set(entry.kind, (counts.get(entry.kind) ?? 0) + 1);
      write(entry.name, history.nameOf(stream) ?? idOf(stream));
      write(entry.state, shortState(state));
      const current = String(stream === chosen);
      if (entry.button.getAttribute("aria-current") !== current) entry.button.setAttribute("aria-current", current);
    };
    for (const stream of history.streams()) {
      const row = history.lastOf(stream);
      show(history.words[stream] ?? "", row === -1 ? undefined : history.text(row, "state"));
    }
    for (const { stream, state } of live.values()) show(stream, isLive ? state : undefined);
    for (const [kind, { head, list }] of this.#kinds) {
      const count = counts.get(kind) ?? 0;
      head.hidden = list.hidden = count === 0;
      write(head, `${kind} ${count}`);
    }
    this.#none.hidden = counts.size > 0;
    this.#onlyNow.hidden = isLive || live.size === 0;
    write(this.#onlyNow, `Without a journal, and so shown only live: ${[...live.keys()].join(", ")}`);
    this.#seen = [...counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** How many are shown. */
  get count(): number {
    return this.#seen;
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
    const kind = kindOf(stream);
    const state = make("span", "chip");
    const name = make("span", "", idOf(stream));
    const button = make("button", "actor", name, state);
    button.type = "button";
    button.dataset.stream = stream;
    button.title = stream;
    const entry = { name, kind, button, state, text: stream.toLowerCase() };
    this.#entries.set(stream, entry);
    this.#listOf(kind).append(button);
    return entry;
  }

  #listOf(kind: string): HTMLElement {
    const known = this.#kinds.get(kind);
    if (known) return known.list;
    const [head, list] = [make("h3"), make("div")];
    this.#kinds.set(kind, { head, list });
    this.#onlyNow.before(head, list);
    return list;
  }
}
