/**
 * One part of a cluster in a process of its own: `node test/crash/part.ts relay|controller <directory> <port>`.
 * `relay` is relay and registry, `controller` is controller and sandboxes; relay and registry ask the controller over its socket.
 * `kars-local up` is both in one process.
 */
import { join } from "node:path";
import { z } from "zod";
import { attach } from "../../src/actors/caller.ts";
import { serveNode } from "../../src/actors/mesh.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { operation } from "../../src/actors/operation.ts";
import { claimOwnership } from "../../src/actors/owner.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { controllerHome } from "../../src/cluster/directory.ts";
import { openHousehold } from "../../src/cluster/household.ts";
import { processBackend } from "../../src/cluster/sandbox-process.ts";
import { startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import { PairRequest } from "../../src/wire/pair.ts";
import type { Membership } from "../../src/wire/registry.ts";

type Household = Awaited<ReturnType<typeof openHousehold>>["household"];

const [part = "", directory = "", port = ""] = process.argv.slice(2);
const url = `http://127.0.0.1:${port}`;
const urls = { relay_url: url.replace(/^http/, "ws"), registry_url: url, pair_url: `${url}/v1/pair` };
const note = (text: string) => console.error(text);

/** What the controller is asked, by the other part and by the test: of that `kars-local` knows what goes by the same names. */
function table({ grants, controller, vouch }: Household) {
  const name = z.object({ name: z.string() });
  const issued = z.object({
    name: z.string(),
    slots: z.number(),
    capabilities: z.array(z.string()),
    expires_ms: z.number(),
  });
  return {
    pair: operation(z.object({ request: PairRequest }), ({ request }) => grants.pair(request)),
    vouch: operation(z.object({ did: z.string() }), async ({ did }) => ({ membership: vouch(did) ?? null })),
    grant_issue: operation(issued, ({ expires_ms, ...grant }) =>
      grants.issue({ ...grant, expiresMs: expires_ms, tokenBudget: null }),
    ),
    grant: operation(name, async ({ name: wanted }) => grants.view(wanted)),
    sandboxes: operation(z.object({}), async () => ({ sandboxes: controller.list() })),
  };
}

async function relay(): Promise<() => Promise<void>> {
  const reach = async () => {
    const controller = await attach<ReturnType<typeof table>>(controllerHome(directory));
    if (!controller) throw new MeshError("cluster_unreachable");
    return controller;
  };
  const words = new Map<string, Membership>();
  const ask = async (did: string) => {
    const controller = await reach();
    const { membership } = await controller.call("vouch", { did }).finally(controller.close);
    if (membership) words.set(did, membership);
  };
  const learn = (did: string) => {
    ask(did).catch((error: unknown) => note(String(error)));
  };
  const server = await startServer({
    host: "127.0.0.1",
    port: Number(port),
    directory: join(directory, "server"),
    pair: async (request) => {
      const controller = await reach();
      return controller.call("pair", { request }).finally(controller.close);
    },
    // The word is fetched when an agent comes; who asks before it is there comes again.
    onSign: learn,
    vouch: (did) => {
      const known = words.get(did);
      if (known) return known;
      learn(did);
      throw new MeshError("closed");
    },
    log: note,
  });
  return () => server.close();
}

async function controller(): Promise<() => Promise<void>> {
  const ownership = await claimOwnership(controllerHome(directory));
  if (!ownership) throw new MeshError("store_locked");
  const { node, household, sandboxes } = await openHousehold({
    directory,
    ports: realPorts(realNetwork),
    backend: processBackend(),
    cluster: "apart",
    runner: null,
    urls: () => urls,
    online: () => [],
    onNote: note,
  });
  const mesh = await serveNode(node, ownership, table(household));
  node.start();
  await node.membership.join({
    controller: null,
    cluster: "apart",
    relayUrl: urls.relay_url,
    registryUrl: urls.registry_url,
    name: "apart-controller",
    capabilities: ["controller"],
  });
  sandboxes.prepare();
  return async () => {
    await sandboxes.close();
    await mesh.close();
  };
}

const close = await (part === "relay" ? relay() : controller());
console.log(JSON.stringify(urls));
process.once("SIGTERM", () => close().finally(() => process.exit()));
