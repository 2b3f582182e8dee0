import type { IncomingMessage, ServerResponse } from "node:http";
import type { PluginApi } from "./api.ts";
import type { PluginNode } from "./node.ts";
import { failureOf } from "./render.ts";

// The inspector under OpenClaw's gateway, for whoever the gateway lets in: a page for people, the same as JSON for programs. It only
// looks, and opens no node that is not there.

const PAGE = "/kars-mesh/inspect";
const ACTORS = `${PAGE}/actors`;

function answer(response: ServerResponse, status: number, headers: Readonly<Record<string, string>>, body: string) {
  response.writeHead(status, headers);
  response.end(body);
}

export function registerInspector(api: PluginApi, node: PluginNode): void {
  const look = async () =>
    node.exists() ? (await node.visit(() => node.call("actors", {}, { repeatable: true }))).actors : [];
  async function handle({ method, url = "/" }: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const { pathname, searchParams } = new URL(url, "http://gateway");
    if (pathname !== PAGE && pathname !== ACTORS) return false;
    // Who never looks loads nothing of it.
    const { PAGE_HEADERS, renderPage, showActors } = await import("../inspect/page.ts");
    const json = { ...PAGE_HEADERS, "content-type": "application/json" };
    if (method !== "GET" && method !== "HEAD") {
      answer(response, 405, { ...json, allow: "GET, HEAD" }, "{}");
      return true;
    }
    try {
      const actors = showActors(await look());
      if (pathname === ACTORS) answer(response, 200, json, JSON.stringify({ actors }));
      else answer(response, 200, PAGE_HEADERS, renderPage(actors, Date.now(), searchParams.get("stream")));
    } catch (error) {
      answer(response, 503, json, JSON.stringify({ error: failureOf(error) }));
    }
    return true;
  }

  for (const path of [PAGE, ACTORS])
    api.registerHttpRoute?.({ path, auth: "gateway", match: "exact", handler: handle });
  api.session?.controls?.registerControlUiDescriptor?.({
    surface: "tab",
    id: "inspect",
    label: "Mesh",
    description: "Every actor of the mesh, and how it stands",
    path: PAGE,
    group: "agent",
    requiredScopes: ["operator.read"],
  });
}
