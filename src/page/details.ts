import { clock, make, the } from "./dom.ts";
import { STATE_PAUSE_MS } from "./limits.ts";
import type { Shown } from "./protocol.ts";
import { rowOf, type View } from "./view.ts";

const textOf = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

const isNothing = (value: unknown): boolean =>
  value === null || value === "" || (typeof value === "object" && Object.values(value).every(isNothing));

/** What the chosen actor knows at the moment: its context, deadlines, what is pending, and what it would take. */
export class Details {
  readonly #place = the("details", "div");
  readonly #ask: (parameters: Readonly<Record<string, string>>) => Promise<Shown>;
  #wanted = "";
  #timer: number | undefined;

  constructor(ask: (parameters: Readonly<Record<string, string>>) => Promise<Shown>) {
    this.#ask = ask;
  }

  render(view: View): void {
    const { history, live, chosen, isLive } = view;
    if (chosen === undefined) return;
    const row = rowOf(view);
    const now = isLive ? live.get(chosen) : undefined;
    const key = `${chosen} ${row} ${now?.at ?? ""} ${live.has(chosen)}`;
    if (key === this.#wanted) return;
    this.#wanted = key;
    clearTimeout(this.#timer);
    if (row === -1 && !now) {
      const why = live.has(chosen)
        ? "It has no journal: what it was at this moment is not known. Go live to see what it is now."
        : "It is not there yet at this moment.";
      this.#place.replaceChildren(make("p", "none", why));
      return;
    }
    const number = row === -1 ? {} : { number: String(history.get(row, "number")) };
    this.#timer = setTimeout(() => {
      this.#ask({ stream: chosen, ...number }).then(
        (shown) => key === this.#wanted && this.#show(shown),
        (error: unknown) => key === this.#wanted && this.#place.replaceChildren(make("p", "none", String(error))),
      );
    }, STATE_PAUSE_MS);
  }

  #show({ context, timers, accepts, effects }: Shown): void {
    const list = make("dl");
    const add = (name: string, text: string) => {
      if (text !== "") list.append(make("dt", "", name), make("dd", "", text));
    };
    add("pending", effects.join(", "));
    for (const { id, at } of timers) add(`after ${id.split(".")[2] ?? id}`, clock(Date.parse(at)));
    for (const [name, value] of Object.entries(context)) if (!isNothing(value)) add(name, textOf(value));
    add("takes", accepts.join(", "));
    this.#place.replaceChildren(list);
  }
}
