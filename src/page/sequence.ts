import { clock, drawn, idOf, make } from "./dom.ts";
import { LAPTOP } from "./protocol.ts";
import type { Doing, View } from "./view.ts";

/** Words between parties that are drawn: those before the moment, and a few after it. */
const BEFORE = 36;
const AFTER = 6;
/** Rows that are looked through for them. */
const LOOKED_THROUGH = 20_000;
const ROW = 30;
const HEAD = 40;
const LANE_LEAST = 84;
const LEFT = 104;
const RIGHT = 24;

/** Who is there before all others, from left to right. */
const FIRST = [LAPTOP, "relay", "registry", "controller"];

/** Who told whom around the moment. */
export class Sequence {
  readonly #place: HTMLElement;
  readonly #doing: Doing;
  #key = "";

  constructor(place: HTMLElement, doing: Doing) {
    this.#place = place;
    this.#doing = doing;
  }

  render({ history, onlyChosen, chosen }: View): void {
    if (this.#place.hidden) return;
    const stream = onlyChosen && chosen !== undefined ? history.words.indexOf(chosen) : 0;
    const key = `${stream} ${history.moment} ${history.moment === history.length ? "" : history.length}`;
    if (key === this.#key) return;
    this.#key = key;
    const isMeant = (row: number) =>
      history.get(row, "from") !== 0 && (stream === 0 || history.get(row, "stream") === stream);
    const rows: number[] = [];
    const least = Math.max(0, history.moment - LOOKED_THROUGH);
    for (let row = history.moment - 1; row >= least && rows.length < BEFORE; row--) if (isMeant(row)) rows.unshift(row);
    const most = Math.min(history.length, history.moment + LOOKED_THROUGH);
    for (let row = history.moment, more = 0; row < most && more < AFTER; row++)
      if (isMeant(row)) {
        rows.push(row);
        more++;
      }
    if (rows.length === 0) {
      this.#place.replaceChildren(make("p", "none", "Nobody has told anybody anything until this moment."));
      return;
    }
    const parties = new Set(rows.flatMap((row) => [history.text(row, "from"), history.text(row, "to")]));
    const lanes = [...FIRST.filter((party) => parties.delete(party)), ...parties];
    const lane = Math.max(LANE_LEAST, (this.#place.clientWidth - LEFT - RIGHT) / lanes.length);
    const at = (party: string) => LEFT + lanes.indexOf(party) * lane + lane / 2;
    const [width, height] = [LEFT + lanes.length * lane, rows.length * ROW + 16];
    const now = rows.filter((row) => row < history.moment).at(-1);
    const lines = lanes.map((party) =>
      drawn("line", { class: "lane", x1: at(party), x2: at(party), y1: 0, y2: height }),
    );
    const heads = lanes.map((party) =>
      drawn(
        "text",
        { class: "who", x: at(party), y: 20 },
        short(history.nameOf(party) ?? party),
        drawn("title", {}, party),
      ),
    );
    const arrows = rows.map((row, index) => {
      const y = index * ROW + 20;
      const [from, to] = [at(history.text(row, "from")), at(history.text(row, "to"))];
      const arrow = drawn(
        "g",
        { class: row === now ? "arrow now" : "arrow", opacity: row < history.moment ? 1 : 0.45 },
        drawn("path", { d: `M${from},${y}H${to}`, "marker-end": "url(#head)" }),
        drawn("text", { class: "when", x: 8, y: y + 4 }, clock(history.get(row, "at"))),
        drawn("text", { x: (from + to) / 2, y: y - 5 }, history.text(row, "event")),
        drawn("title", {}, `${history.text(row, "stream")}: ${history.text(row, "event")}`),
      );
      arrow.addEventListener("click", () => {
        this.#doing.goTo(row + 1);
        this.#doing.choose(history.text(row, "stream"));
      });
      return arrow;
    });
    const head = drawn(
      "marker",
      {
        id: "head",
        viewBox: "0 0 8 8",
        refX: 8,
        refY: 4,
        markerWidth: 8,
        markerHeight: 8,
        markerUnits: "userSpaceOnUse",
        orient: "auto-start-reverse",
      },
      drawn("path", { class: "tip", d: "M0,0L8,4L0,8z" }),
    );
    this.#place.replaceChildren(
      drawn("svg", { class: "heads", width, height: HEAD - 12 }, ...heads),
      drawn(
        "svg",
        { width, height, role: "img", "aria-label": "sequence diagram" },
        drawn("defs", {}, head),
        ...lines,
        ...arrows,
      ),
    );
    this.#place.querySelector(".now")?.scrollIntoView({ block: "nearest" });
  }
}

const short = (party: string) => {
  const id = party.startsWith("did:") ? idOf(`x/${party}`) : party;
  return id.length > 12 ? `${id.slice(0, 11)}…` : id;
};
