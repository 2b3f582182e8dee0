import { once } from "node:events";
import { createServer } from "node:http";
import { expect, it, onTestFinished } from "vitest";
import { openPluginAt, type Plugin, pairTwo, temporaryFolder } from "./world.ts";

// The page under the gateway. The gateway's own authentication stands before it, and is proved with the real one.

async function serve({ routes }: Plugin): Promise<string> {
  const server = createServer(async (request, response) => {
    for (const { handler } of routes) if (await handler(request, response)) return;
    response.writeHead(404).end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}/kars-mesh/inspect`;
}

it("shows every actor and how it stands, and none of what was said", async () => {
  const { alice, bob, bobDid } = await pairTwo();
  await alice.call(
    "mesh_send",
    { to: "bob", message: "the canary sings" },
    { context: { sessionKey: "canary:session" } },
  );
  await bob.call("mesh_await", { from: "alice", timeout_seconds: 20 });
  const url = await serve(alice);
  const page = await fetch(url);
  expect(page.headers.get("content-security-policy")).toContain("default-src 'none'");
  const html = await page.text();
  const [, link = ""] = new RegExp(`<a href="([^"]*)">${bobDid}</a>`).exec(html) ?? [];
  const one = await (await fetch(url + link)).text();
  expect(one).toContain(`conversation/${bobDid}</h2>`);
  expect(one).toMatch(/&quot;received&quot;: 0/);
  expect(one).not.toMatch(/canary|<script/);
  expect(html).toMatch(/<span class="state">paired<\/span>/);
  expect(html).not.toMatch(/canary|<script/);
  const { actors } = (await (await fetch(`${url}/actors`)).json()) as { actors: { stream: string; state: string }[] };
  expect(actors).toContainEqual(expect.objectContaining({ stream: `conversation/${bobDid}`, state: "open" }));
  expect(JSON.stringify(actors)).not.toContain("canary");
});

it("only looks: it takes nothing but GET, opens no home that is not there, and answers no other path", async () => {
  const plugin = openPluginAt(`${await temporaryFolder()}/none`);
  const url = await serve(plugin);
  expect(plugin.routes.map(({ auth }) => auth)).toEqual(["gateway", "gateway"]);
  expect((await fetch(url, { method: "POST" })).status).toBe(405);
  expect((await fetch(`${url}/other`)).status).toBe(404);
  expect(await (await fetch(url)).text()).toContain("pair with a cluster");
  expect(await (await fetch(`${url}/actors`)).json()).toEqual({ actors: [] });
});
