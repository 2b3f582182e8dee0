/** Controllers whose home is in NATS, each as it would stand in a replica of its own, and what runs their sandboxes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { openHousehold } from "../../src/cluster/household.ts";
import { type Bus, connectBus } from "../../src/cluster/jetstream/bus.ts";
import { openJetStreamDisk } from "../../src/cluster/jetstream/home.ts";
import type { SandboxBackend, SandboxHooks } from "../../src/cluster/sandboxes.ts";
import type { GrantContext } from "../../src/machines/grant/events.ts";
import type { RunContext } from "../../src/machines/run/events.ts";
import { OffloadRequest, type Payload } from "../../src/wire/payload.ts";

export const LAPTOP = `did:mesh:${"a".repeat(32)}`;
const URLS = {
  relay_url: "ws://127.0.0.1:1",
  registry_url: "http://127.0.0.1:1",
  pair_url: "http://127.0.0.1:1/v1/pair",
};

/** Where sandboxes run on when their controller is gone: they are on the mesh at once, and end when they are told to. */
export class Pods {
  readonly running = new Map<string, SandboxHooks>();
  /** The most that ran at the same time. */
  most = 0;
  readonly backend: SandboxBackend = {
    spawn: async ({ run }, hooks) => {
      this.#hold(run, hooks);
      return this.#process(run);
    },
    adopt: async ({ run }, hooks) => {
      if (!this.running.has(run)) return undefined;
      this.#hold(run, hooks);
      return this.#process(run);
    },
  };

  #hold(run: string, hooks: SandboxHooks): void {
    this.running.set(run, hooks);
    this.most = Math.max(this.most, this.running.size);
    setImmediate(() => hooks.ready(`did:mesh:${Buffer.from(run).toString("hex").padEnd(32, "0").slice(0, 32)}`));
  }

  #process(run: string) {
    return {
      pid: null,
      end: () =>
        setImmediate(() => {
          const hooks = this.running.get(run);
          this.running.delete(run);
          hooks?.exited(null);
        }),
    };
  }
}

export type ControllerUnderTest = Awaited<ReturnType<typeof openController>>;

/** A replica's controller, which deposes the one before it. */
export async function openController(servers: string, cluster: string, pods = new Pods()) {
  const bus: Bus = await connectBus({ servers, cluster });
  onTestFinished(() => bus.close());
  const directory = await mkdtemp(join(tmpdir(), "kars-replica-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  const deposed = Promise.withResolvers<void>();
  const disk = await openJetStreamDisk(bus, "home", { onDeposed: () => deposed.resolve() });
  const notes: string[] = [];
  const opened = await openHousehold({
    directory,
    home: { disk, directory: "/" },
    ports: realPorts(realNetwork),
    backend: pods.backend,
    cluster: "test",
    runner: null,
    urls: () => URLS,
    online: () => [],
    onNote: (note) => notes.push(note),
  });
  const { node, household, sandboxes } = opened;
  const { system } = node.core;
  let isClosed = false;
  const close = async () => {
    if (isClosed) return;
    isClosed = true;
    await sandboxes.close();
    await node.close();
    await disk.close();
  };
  onTestFinished(close);
  node.start();
  const membership = { cluster: "test", relayUrl: URLS.relay_url, registryUrl: URLS.registry_url };
  // There is no relay: it joins, and nobody answers.
  node.membership
    .join({ controller: null, ...membership, name: "test-controller", capabilities: ["controller"] })
    .catch(() => undefined);
  let count = 0;
  /** A word of the laptop. Resolves when what follows from it is durable. */
  const word = async (payload: Payload) => {
    const draft = await household.controller.handle({ peer: LAPTOP, payload, id: `${node.home}-${count++}` });
    if (draft) await system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  };
  const run = (id: string): RunContext | undefined => system.state(`run/${id}`)?.snapshot.context;
  /** Resolves when the sandbox of a run is on the mesh, or will never be. @throws when the controller is deposed meanwhile */
  const isUp = (id: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        const known = run(id);
        if (!known || (known.did === null && known.failure === null)) return;
        unsubscribe();
        resolve();
      };
      const unsubscribe = system.subscribe(look);
      deposed.promise.then(() => reject(new Error("deposed")));
      look();
    });
  return {
    bus,
    disk,
    directory,
    node,
    household,
    notes,
    deposed: deposed.promise,
    close,
    /** A grant that the laptop holds. */
    grant: async (name: string, slots: number) => {
      await household.grants.issue({ name, slots, capabilities: ["offload"], expiresMs: 600_000, tokenBudget: null });
      await system.commit([{ stream: `grant/${name}`, event: { type: "BOUND", did: LAPTOP, name } }]).durable;
    },
    held: (name: string): GrantContext | undefined => system.state(`grant/${name}`)?.snapshot.context,
    run,
    isUp,
    request: (id: string) => word(OffloadRequest.parse({ type: "offload_request", request_id: id, task: "t" })),
    cleanUp: (id: string) => word({ type: "offload_cleanup", request_id: id, reason: "done" }),
  };
}
