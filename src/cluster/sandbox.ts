import { join as joinPath } from "node:path";
import { entriesOnly } from "../actors/drafts.ts";
import type { FileTaker, Offer } from "../actors/file-transfers.ts";
import { MeshNode } from "../actors/node.ts";
import type { StoreLimits } from "../actors/opening.ts";
import type { Ports } from "../actors/ports.ts";
import { noLaterThan } from "../actors/settling.ts";
import { SANDBOX_STOP_WAIT_MS } from "../limits.ts";
import { Errand, type Perform } from "./errand.ts";
import type { AgentConfig, SandboxConfig } from "./sandboxes.ts";

// A sandbox: a node of its own, which does what laptops ask of it through the controller. Most serve one laptop, once.

export interface AgentOptions {
  readonly ports: Ports;
  readonly limits?: Partial<StoreLimits> | undefined;
  /** Of the identity that it is to have, 32 bytes; a new one unless given. */
  readonly seed?: Uint8Array | undefined;
  readonly note: (text: string) => void;
}

export interface SandboxOptions extends AgentOptions {
  readonly perform: Perform;
  readonly ready: (did: string) => void;
}

/** The agent that a sandbox is. */
export interface Agent {
  readonly did: string;
  /** Takes a task upon itself. Resolves when its laptop was told so. */
  serve(config: SandboxConfig, perform: Perform): Promise<void>;
  /** Lets go of a task. Resolves when nothing of it runs any more. */
  drop(run: string): Promise<void>;
  close(): Promise<void>;
  /** Resolves when nothing of its tasks runs any more. */
  ended(): Promise<void>;
}

/** Opens a sandbox's node. Resolves when it is on the mesh. */
export async function openAgent(config: AgentConfig, { ports, limits = {}, seed, note }: AgentOptions): Promise<Agent> {
  const errands = new Map<string, Errand>();
  const ending: Promise<void>[] = [];
  const ended = async () => {
    await Promise.all(ending);
  };
  const filesOf = ({ request_id = "" }: Offer) => errands.get(request_id)?.files;
  const files: FileTaker = {
    place: async (peer, offer) => filesOf(offer)?.place(peer, offer),
    wants: (_, offer) => filesOf(offer)?.areWanted === true,
    names: async (_, offer) => filesOf(offer)?.received ?? new Set<string>(),
    progressed: () => entriesOnly(),
    saved: async (peer, offer, file) => filesOf(offer)?.saved(peer, offer, file) ?? entriesOnly(),
    // The laptop is told by the answer to its offer, and decides.
    failed: async () => entriesOnly(),
  };
  const node = await MeshNode.open({
    home: joinPath(config.directory, "home"),
    ports,
    limits,
    async onWork(work) {
      for (const errand of errands.values()) {
        const follow = errand.laptop === work.peer ? await errand.take(work) : undefined;
        if (follow) return follow;
      }
      return undefined;
    },
    files,
    onNote: note,
  });
  node.start();
  await node.membership.join({
    controller: config.controller,
    cluster: config.cluster,
    relayUrl: config.relay_url,
    registryUrl: config.registry_url,
    name: config.name,
    capabilities: config.capabilities.filter((capability) => capability !== "offload").concat("sandbox"),
    seed,
  });
  return {
    did: node.core.keyring.identity.did,
    async serve(served, perform) {
      const errand = new Errand(served, { node, perform, note });
      errands.set(served.run, errand);
      await errand.hello();
    },
    async drop(run) {
      const errand = errands.get(run);
      errands.delete(run);
      await errand?.end();
    },
    async close() {
      const isTold = [...errands.values()].some((errand) => errand.isTold);
      for (const errand of errands.values()) ending.push(errand.end());
      // How its task ended is told as long as the controller waits for its end.
      const { clock } = ports;
      if (isTold) await noLaterThan(clock, clock.now() + SANDBOX_STOP_WAIT_MS, ended());
      // A name that stays in the registry after its bearer is gone would mislead whoever looks for it.
      await node.core
        .registry()
        .remove(node.core.keyring.identity)
        .catch((error: unknown) => note(String(error)));
      await node.close();
    },
    ended,
  };
}

/** Runs a sandbox that serves one laptop, once. Resolves when it has said hello, with what ends it. */
export async function runSandbox(config: SandboxConfig, options: SandboxOptions): Promise<() => Promise<void>> {
  const agent = await openAgent(config, options);
  options.ready(agent.did);
  await agent.serve(config, options.perform);
  return () => agent.close();
}
