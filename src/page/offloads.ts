import { idOf, kindOf, make, shortState } from "./dom.ts";
import type { Doing, View } from "./view.ts";

/** How far a note says that it is, from 0 to 1. */
function shareOf(note: string): number | undefined {
  const percent = /^(\d+)%$/.exec(note);
  if (percent) return Number(percent[1]) / 100;
  const bytes = /([\d.]+) of ([\d.]+) [kM]B$/.exec(note);
  return bytes ? Number(bytes[1]) / Math.max(0.1, Number(bytes[2])) : undefined;
}

/** The offloads at the moment, the newest first, and how far they are. */
export class Offloads {
  readonly #place: HTMLElement;
  readonly #doing: Doing;
  #key = "";

  constructor(place: HTMLElement, doing: Doing) {
    this.#place = place;
    this.#doing = doing;
  }

  render({ history }: View): void {
    if (this.#place.hidden) return;
    const rows = [...history.streams()]
      .filter((word) => kindOf(history.words[word] ?? "") === "offload")
      .map((word) => history.lastOf(word))
      .filter((row) => row !== -1)
      .reverse();
    const key = rows.join(" ");
    if (key === this.#key) return;
    this.#key = key;
    const entries = rows.map((row) => {
      const stream = history.text(row, "stream");
      const note = history.text(row, "note");
      const share = shareOf(note);
      const entry = make(
        "button",
        "offload",
        make("span", "id", idOf(stream)),
        make("span", "chip", shortState(history.text(row, "state"))),
      );
      if (share !== undefined) {
        const bar = make("progress");
        bar.value = share;
        entry.append(bar);
      }
      entry.append(make("span", "note", note));
      entry.type = "button";
      entry.addEventListener("click", () => this.#doing.choose(stream));
      return entry;
    });
    this.#place.replaceChildren(...(entries.length > 0 ? entries : [make("p", "none", "No offload at this moment.")]));
  }
}
