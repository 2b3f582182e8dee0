import type { PersistedState } from "../actors/state.ts";
import { partsOf } from "./definitions.ts";
import { redactContext, redactStream } from "./redact.ts";

// Every actor and how it stands, as one page without a script: a browser that shows it within OpenClaw's dashboard lets it run
// none, and it asks nothing of the network. It comes anew every few seconds.

const REFRESH_SECONDS = 3;

export interface ShownActor {
  readonly stream: string;
  readonly kind: string;
  readonly id: string;
  /** The states that it is in, the outer first. */
  readonly state: string;
  readonly context: Readonly<Record<string, unknown>>;
}

const stateOf = (value: unknown): string =>
  typeof value === "string"
    ? value
    : Object.entries(value ?? {})
        .map(([outer, inner]) => `${outer}.${stateOf(inner)}`)
        .join(", ");

/** What may be seen of actors. */
export const showActors = (
  actors: readonly { readonly stream: string; readonly state: Pick<PersistedState, "value" | "context"> }[],
): ShownActor[] =>
  actors.map(({ stream, state }) => {
    const shown = redactStream(stream);
    const { kind } = partsOf(stream);
    return {
      stream: shown,
      ...partsOf(shown),
      state: stateOf(state.value),
      context: redactContext(kind, state.context),
    };
  });

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escaped = (text: string) => text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? "");

const STYLE = `
:root { color-scheme: light dark; font: 14px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid color-mix(in srgb, currentcolor 20%, transparent); padding: .35rem .75rem .35rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; } th:last-child { width: 16rem; } .id, pre { font-family: ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
pre { font-size: 12px; margin: .5rem 0; } a { color: inherit; } .state { background: color-mix(in srgb, currentcolor 10%, transparent); border-radius: .4rem; padding: .1rem .5rem; }
p { opacity: .75; }`;

/** What a response with the page says of what it may do: nothing but its own style. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

const rowOf = ({ stream, id, state }: ShownActor) => `<tr>
<td class="id"><a href="?stream=${escaped(encodeURIComponent(stream))}">${escaped(id)}</a></td>
<td><span class="state">${escaped(state)}</span></td>
</tr>`;

const closeUp = ({ stream, state, context }: ShownActor) => `<p><a href="?">All actors</a></p>
<h2 class="id">${escaped(stream)}</h2>
<p><span class="state">${escaped(state)}</span></p>
<pre>${escaped(JSON.stringify(context, null, 2))}</pre>`;

/**
 * The page, as HTML.
 * @param at when the states were looked at, epoch milliseconds
 * @param chosen the stream of one actor that is shown alone, with its context
 */
export function renderPage(actors: readonly ShownActor[], at: number, chosen: string | null = null): string {
  const one = actors.find(({ stream }) => stream === chosen);
  const kinds = Map.groupBy(actors, ({ kind }) => kind);
  const sections = [...kinds].map(
    ([kind, those]) => `<h2>${escaped(kind)} (${those.length})</h2>
<table><thead><tr><th>id</th><th>state</th></tr></thead><tbody>
${those.map(rowOf).join("\n")}
</tbody></table>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Kars Mesh</title>
<meta http-equiv="refresh" content="${REFRESH_SECONDS}"><meta name="viewport" content="width=device-width">
<style>${STYLE}</style></head><body>
<h1>Kars Mesh: ${actors.length} actors</h1>
<p>As of ${new Date(at).toISOString()}. Words, keys and tokens are held back. On the machine itself, <code>openclaw mesh inspect</code>
shows statecharts, and the whole history with a slider.</p>
${one ? closeUp(one) : sections.join("\n") || "<p>Nothing is here yet: pair with a cluster.</p>"}
</body></html>
`;
}
