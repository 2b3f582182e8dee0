import { Actors } from "./actors.ts";
import { Chart } from "./chart.ts";
import { Details } from "./details.ts";
import { clock, day, the, write } from "./dom.ts";
import { Events } from "./events.ts";
import { listen, token } from "./feed.ts";
import { History } from "./history.ts";
import { LINK_PAUSE_MS, LOADING_PAUSE_MS } from "./limits.ts";
import { Offloads } from "./offloads.ts";
import type { Live, Shown, Told } from "./protocol.ts";
import { Sequence } from "./sequence.ts";
import { showElsewhere } from "./stately.ts";
import type { Doing, View } from "./view.ts";

// The inspector: everything on it shows one moment of the history. `#stream=…&at=…` is a link to an actor and a commit.

const history = new History();
const live = new Map<string, Live>();
let chosen: string | undefined;
let query = "";
let onlyChosen = false;
let isLive = true;
/** A commit that a link leads to, until it has come. */
let sought: number | undefined;

const doing: Doing = {
  choose(stream) {
    chosen = stream;
    changed();
  },
  goTo(moment) {
    sought = undefined;
    isLive = moment >= history.length;
    history.go(Math.max(0, Math.min(history.length, moment)));
    changed();
  },
};

async function ask(parameters: Readonly<Record<string, string>>): Promise<Shown> {
  const response = await fetch(`state?${new URLSearchParams({ token, ...parameters })}`);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

const actors = new Actors(the("actors", "nav"), doing);
const panels = {
  events: new Events(the("events", "div"), doing),
  sequence: new Sequence(the("sequence", "div"), doing),
  offloads: new Offloads(the("offloads", "div"), doing),
};
type Tab = keyof typeof panels;
const TABS: readonly Tab[] = ["events", "sequence", "offloads"];
const [chart, details] = [new Chart(), new Details(ask)];
const slider = the("slider", "input");

// Showing

let isChanged = false;
let isReady = false;

/** Something is another: the page is made anew with the next frame. */
function changed(): void {
  if (isChanged) return;
  isChanged = true;
  const show = () =>
    requestAnimationFrame(() => {
      isChanged = false;
      render();
    });
  // What is recorded comes faster than it can be shown.
  if (isReady) show();
  else setTimeout(show, LOADING_PAUSE_MS);
}

function render(): void {
  if (isLive) history.go(history.length);
  const view: View = { history, live, chosen, query, onlyChosen, isLive };
  actors.render(view);
  if (chosen === undefined && actors.first !== undefined) {
    chosen = actors.first;
    render();
    return;
  }
  chart.render(view);
  details.render(view);
  for (const tab of TABS) panels[tab].render(view);
  slider.max = String(history.length);
  slider.value = String(history.moment);
  the("live", "button").setAttribute("aria-pressed", String(isLive));
  const row = history.moment - 1;
  const [at, number] = row < 0 ? [undefined, 0] : [history.get(row, "at"), history.get(row, "number")];
  const when = at === undefined ? "before the first event" : `${day(at)} ${clock(at)}`;
  write(the("moment", "output"), `${when}   ${history.moment} of ${history.length}`);
  slider.setAttribute("aria-valuetext", `${when}, event ${history.moment} of ${history.length}`);
  linkTo(number);
  document.documentElement.dataset.events = String(history.length);
}

// Links

let linking: number | undefined;

/** Writes the address of what is shown; a browser lets that be done only so often. */
function linkTo(number: number): void {
  const parts = new URLSearchParams({
    ...(chosen !== undefined && { stream: chosen }),
    ...(!isLive && sought === undefined && { at: String(number) }),
    ...(sought !== undefined && { at: String(sought) }),
  });
  clearTimeout(linking);
  linking = setTimeout(() => {
    if (location.hash !== `#${parts}`) window.history.replaceState(null, "", `#${parts}`);
  }, LINK_PAUSE_MS);
}

/** Goes where the address leads. */
function followLink(): void {
  const parts = new URLSearchParams(location.hash.slice(1));
  chosen = parts.get("stream") ?? chosen;
  const at = parts.get("at");
  sought = at === null ? undefined : Number(at);
  isLive = at === null;
  seek(false);
  changed();
}

/** @param isAll whether all that is recorded has come */
function seek(isAll: boolean): void {
  if (sought === undefined) return;
  const newest = history.length === 0 ? -1 : history.get(history.length - 1, "number");
  history.go(history.after(sought));
  if (newest > sought || isAll) sought = undefined;
}

// What the server tells

function hear(told: Told): void {
  if (told.type === "rows") {
    history.add(told);
    seek(false);
  } else if (told.type === "live") live.set(told.stream, told);
  else if (told.type === "ready") {
    seek(true);
    write(the("home", "span"), told.home);
    isReady = true;
    requestAnimationFrame(() => {
      render();
      document.documentElement.dataset.ready = "true";
    });
  } else say("down", told.reason);
  changed();
}

function say(state: "up" | "down", text: string): void {
  const place = the("connection", "span");
  place.className = state;
  write(place, text);
}

listen(
  (text) => hear(JSON.parse(text)),
  () => say("up", "connected"),
  (reason) => say("down", reason || "the inspector has ended: this is what was seen"),
);

// What a person does

function showTab(wanted: Tab): void {
  for (const tab of TABS) {
    the(`tab-${tab}`, "button").setAttribute("aria-selected", String(tab === wanted));
    the(tab, "div").hidden = tab !== wanted;
  }
  changed();
}
for (const tab of TABS) the(`tab-${tab}`, "button").addEventListener("click", () => showTab(tab));

const search = the("search", "input");
search.addEventListener("input", () => {
  query = search.value;
  changed();
});
const only = the("only", "input");
only.addEventListener("change", () => {
  onlyChosen = only.checked;
  changed();
});
slider.addEventListener("input", () => doing.goTo(slider.valueAsNumber));
const goLive = () => doing.goTo(history.length);
the("live", "button").addEventListener("click", goLive);
the("back", "button").addEventListener("click", () => doing.goTo(history.moment - 1));
the("forth", "button").addEventListener("click", () => doing.goTo(history.moment + 1));
const keys = the("keys", "dialog");
the("help", "button").addEventListener("click", () => keys.showModal());

const elsewhere = the("elsewhere", "dialog");
the("stately", "button").addEventListener("click", () => elsewhere.showModal());
elsewhere.addEventListener("close", () => {
  const page = URL.parse(the("receiver", "input").value);
  if (elsewhere.returnValue === "open" && page)
    showElsewhere(page, `ws://${location.host}/?${new URLSearchParams({ token })}`);
});

function changeTheme(): void {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
}
the("theme", "button").addEventListener("click", changeTheme);

/** One event of the chosen actor on or back. */
function stepActor(way: 1 | -1): void {
  const row = chosen === undefined ? undefined : history.step(history.words.indexOf(chosen), way);
  if (row !== undefined) doing.goTo(way === 1 ? row + 1 : row);
}

function chooseBeside(way: 1 | -1): void {
  const stream = actors.beside(chosen, way);
  if (stream !== undefined) doing.choose(stream);
}

const FAR = 100;
const KEYS: Readonly<Record<string, (shift: boolean) => void>> = {
  ArrowLeft: (shift) => (shift ? stepActor(-1) : doing.goTo(history.moment - 1)),
  ArrowRight: (shift) => (shift ? stepActor(1) : doing.goTo(history.moment + 1)),
  PageUp: () => doing.goTo(history.moment - FAR),
  PageDown: () => doing.goTo(history.moment + FAR),
  Home: () => doing.goTo(0),
  End: goLive,
  ArrowUp: () => chooseBeside(-1),
  ArrowDown: () => chooseBeside(1),
  k: () => chooseBeside(-1),
  j: () => chooseBeside(1),
  l: goLive,
  t: changeTheme,
  o: () => only.click(),
  "1": () => showTab("events"),
  "2": () => showTab("sequence"),
  "3": () => showTab("offloads"),
  "/": () => search.focus(),
  "?": () => keys.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open || elsewhere.open) return;
  if (event.target === search) {
    if (event.key !== "Escape") return;
    search.value = query = "";
    search.blur();
    changed();
    return;
  }
  const key = KEYS[event.key];
  if (!key) return;
  event.preventDefault();
  key(event.shiftKey);
});

addEventListener("hashchange", followLink);
followLink();
