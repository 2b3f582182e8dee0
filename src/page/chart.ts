import { idOf, kindOf, shortState, the, write } from "./dom.ts";
import { rowOf, type View } from "./view.ts";

/** Around a drawing, in pixels. */
const MARGIN = 28;
const SCALE_LEAST = 0.7;

/** The statechart of the chosen actor: where it is, and how it came there. */
export class Chart {
  readonly #place = the("chart", "div");
  readonly #charts: Promise<Readonly<Record<string, string>>>;
  #kind: string | undefined;
  #shown = "";
  #row = -1;
  /** Of the place, in pixels. Whoever asks the document for it has all of it laid out at once. */
  #room = { width: 0, height: 0 };
  /** Whether all of the drawing is seen. */
  #isWhole = false;

  constructor() {
    this.#charts = fetch("charts.json").then((response) => response.json());
    new ResizeObserver(() => {
      const isFirst = this.#room.width === 0;
      this.#room = { width: this.#place.clientWidth - MARGIN, height: this.#place.clientHeight - MARGIN };
      this.#fit();
      // Later it stays where the person has scrolled it.
      if (isFirst) this.#center();
    }).observe(this.#place);
  }

  render(view: View): void {
    const { history, live, chosen, isLive } = view;
    const row = rowOf(view);
    const now = chosen === undefined ? undefined : live.get(chosen);
    // What has no journal is known only as it is now.
    const known = isLive ? now : undefined;
    const state = row === -1 ? (known?.state ?? "") : history.text(row, "state");
    write(
      the("actor-name", "span"),
      chosen === undefined ? "" : `${kindOf(chosen)}/${history.nameOf(chosen) ?? idOf(chosen)}`,
    );
    write(the("actor-state", "span"), shortState(state));
    const event = row === -1 ? (known?.event ?? "") : history.text(row, "event");
    write(the("last-event", "span"), event);
    if (chosen === undefined) return;
    const kind = kindOf(chosen);
    if (kind !== this.#kind) {
      this.#kind = kind;
      this.#shown = "";
      this.#charts.then((charts) => {
        if (this.#kind !== kind) return;
        // Drawn by our own build, of our own machines.
        this.#place.innerHTML = charts[kind] ?? "";
        this.#fit();
        this.#light(view, row, state, event);
        this.#center();
      });
    } else this.#light(view, row, state, event);
  }

  #light({ history, chosen, isLive }: View, row: number, state: string, event: string): void {
    const key = `${chosen} ${row} ${state} ${event}`;
    if (key === this.#shown) return;
    const isNext = this.#shown.startsWith(`${chosen} `) && row > this.#row && isLive;
    this.#shown = key;
    this.#row = row;
    const active = state.split(" ").filter(Boolean);
    const isActive = (path: string) =>
      active.some((each) => path === "" || each === path || each.startsWith(`${path}.`));
    for (const box of this.#place.querySelectorAll<SVGElement>(".state"))
      box.classList.toggle("active", isActive(box.dataset.path ?? ""));
    const before = row === -1 ? -1 : history.before(row);
    const from = before === -1 ? "" : history.text(before, "state");
    const came = (path: string) =>
      path === "" || from.split(" ").some((each) => each === path || each.startsWith(`${path}.`));
    for (const edge of this.#place.querySelectorAll<SVGElement>(".edge")) {
      const { events = "", from: source = "", to = "" } = edge.dataset;
      const names = events.split(" ").concat(events);
      const isMeant = names.includes(event) || (event.startsWith("after ") && events.includes(event));
      const isLast = isMeant && isActive(to) && (before === -1 || came(source)) && (from !== state || source === to);
      edge.classList.toggle("last", isLast);
      edge.classList.remove("flash");
      if (isLast && isNext) {
        // Read, so that the flash begins anew.
        void edge.getBoundingClientRect();
        edge.classList.add("flash");
      }
    }
    if (!isNext) this.#center();
  }

  /** As large as there is room for, and never so small that it cannot be read. */
  #fit(): void {
    const drawing = this.#place.querySelector("svg");
    if (!drawing) return;
    const { width, height } = drawing.viewBox.baseVal;
    const room = Math.min(this.#room.width / width, this.#room.height / height);
    const scale = Math.max(SCALE_LEAST, Math.min(1, room));
    this.#isWhole = scale <= room;
    drawing.setAttribute("width", String(width * scale));
    drawing.setAttribute("height", String(height * scale));
  }

  /** Brings the innermost active state into sight. */
  #center(): void {
    if (this.#isWhole) return;
    const box = [...this.#place.querySelectorAll<SVGElement>(".state.active")].at(-1)?.getBoundingClientRect();
    if (!box) return;
    const place = this.#place.getBoundingClientRect();
    const isSeen =
      box.left >= place.left && box.right <= place.right && box.top >= place.top && box.bottom <= place.bottom;
    if (isSeen) return;
    this.#place.scrollBy(
      box.left + box.width / 2 - place.left - place.width / 2,
      box.top + box.height / 2 - place.top - place.height / 2,
    );
  }
}
