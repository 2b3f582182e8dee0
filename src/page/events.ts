import { clock, idOf, kindOf, make, shortState } from "./dom.ts";
import type { Doing, View } from "./view.ts";

const HEIGHT = 24;
/** Rows above and below what is seen. */
const MORE = 10;

/** The list of events. Only those that are seen are in the document. */
export class Events {
  readonly #place: HTMLElement;
  readonly #doing: Doing;
  readonly #inner = make("div");
  /** The rows that are wanted; undefined when all are. */
  #wanted: Int32Array<ArrayBuffer> | undefined;
  #key = "";
  #judged = 0;
  #count = 0;
  #moment = -1;
  #view: View | undefined;

  constructor(place: HTMLElement, doing: Doing) {
    this.#place = place;
    this.#doing = doing;
    this.#inner.className = "all";
    place.append(this.#inner);
    place.addEventListener("scroll", () => this.#paint(), { passive: true });
    new ResizeObserver(() => this.#paint()).observe(place);
  }

  render(view: View): void {
    this.#view = view;
    this.#select(view);
    const length = this.#wanted ? this.#count : view.history.length;
    this.#inner.style.height = `${length * HEIGHT}px`;
    if (view.history.moment !== this.#moment) {
      this.#moment = view.history.moment;
      this.#reveal();
    }
    this.#paint();
  }

  /** Which rows are wanted. What was judged before is not judged again while the wish is the same. */
  #select({ history, query, onlyChosen, chosen }: View): void {
    const wish = query.toLowerCase();
    const stream = onlyChosen && chosen !== undefined ? history.words.indexOf(chosen) : 0;
    const key = `${stream} ${wish}`;
    if (key !== this.#key) [this.#key, this.#judged, this.#count, this.#wanted] = [key, 0, 0, undefined];
    if (stream === 0 && wish === "") return;
    let wanted = this.#wanted ?? new Int32Array(Math.max(1024, history.length));
    const matches = history.words.map((word) => word.toLowerCase().includes(wish));
    for (; this.#judged < history.length; this.#judged++) {
      const row = this.#judged;
      if (stream !== 0 && history.get(row, "stream") !== stream) continue;
      const isMeant =
        wish === "" ||
        matches[history.get(row, "stream")] ||
        matches[history.get(row, "event")] ||
        matches[history.get(row, "state")];
      if (!isMeant) continue;
      if (this.#count === wanted.length) {
        const larger: Int32Array<ArrayBuffer> = new Int32Array(wanted.length * 2);
        larger.set(wanted);
        wanted = larger;
      }
      wanted[this.#count++] = row;
    }
    this.#wanted = wanted;
  }

  #rowAt(index: number): number {
    return this.#wanted?.[index] ?? index;
  }

  /** The place in the list of the last event at the moment. */
  #indexOf(moment: number): number {
    if (!this.#wanted) return moment - 1;
    let [low, high] = [0, this.#count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#wanted[middle] ?? 0) < moment) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #reveal(): void {
    const top = this.#indexOf(this.#moment) * HEIGHT;
    const { scrollTop, clientHeight } = this.#place;
    if (top < scrollTop || top + HEIGHT > scrollTop + clientHeight)
      this.#place.scrollTop = Math.max(0, top - clientHeight + 4 * HEIGHT);
  }

  #paint(): void {
    const view = this.#view;
    if (!view || this.#place.hidden) return;
    const { history } = view;
    const length = this.#wanted ? this.#count : history.length;
    const first = Math.max(0, Math.floor(this.#place.scrollTop / HEIGHT) - MORE);
    const end = Math.min(length, Math.ceil((this.#place.scrollTop + this.#place.clientHeight) / HEIGHT) + MORE);
    const rows: HTMLElement[] = [];
    for (let index = first; index < end; index++) {
      const row = this.#rowAt(index);
      const stream = history.text(row, "stream");
      const before = history.before(row);
      const [from, to] = [before === -1 ? "" : history.text(before, "state"), history.text(row, "state")];
      const line = make(
        "div",
        "event",
        make("span", "", clock(history.get(row, "at"))),
        make("span", "", `${kindOf(stream)}/${history.nameOf(stream) ?? idOf(stream)}`),
        make("span", "", history.text(row, "event")),
        make("span", "", from === to ? "" : `→ ${shortState(to)}`),
      );
      line.classList.toggle("now", row === history.moment - 1);
      line.classList.toggle("later", row >= history.moment);
      line.classList.toggle("refused", history.get(row, "accepted") === 0);
      line.style.top = `${index * HEIGHT}px`;
      line.title = `${stream}\n${history.text(row, "event")}: ${from || "(new)"} → ${to}\ncommit ${history.get(row, "number")}`;
      line.addEventListener("click", () => {
        this.#doing.goTo(row + 1);
        this.#doing.choose(stream);
      });
      rows.push(line);
    }
    this.#inner.replaceChildren(...rows);
  }
}
