import { existsSync } from "node:fs";
import { type CallOptions, type Mesh, openMesh } from "../actors/mesh.ts";
import type { ParamsOf, ResultOf } from "../actors/operation.ts";
import type { Operations } from "../actors/operations.ts";
import { MeshError } from "../errors.ts";
import type { PluginConfig } from "./config.ts";
import { failureOf } from "./render.ts";

// The one node of this process. OpenClaw evaluates the plugin's modules several times in one process, so the node is found
// through a registered symbol; a node that another process owns is reached through it in the same way.

interface Slot {
  mesh: Promise<Mesh> | undefined;
  /** The last one that was let go on purpose: calls that end with it are not repeated. */
  released: Promise<Mesh> | undefined;
  /** A service runs: the node stays up whether or not a tool is called. */
  kept: boolean;
  /** Calls that run now. */
  calls: number;
  /** Who waits until a node opens. */
  readonly awaiting: Set<() => void>;
}

/** Counts up when the shape of a slot changes: an older evaluation must not meet a newer one's. */
const SLOTS = Symbol.for("@kars/mesh/nodes/2");

function slotOf(home: string): Slot {
  const shared = globalThis as typeof globalThis & { [SLOTS]?: Map<string, Slot> };
  shared[SLOTS] ??= new Map();
  const slot = shared[SLOTS].get(home) ?? {
    mesh: undefined,
    released: undefined,
    kept: false,
    calls: 0,
    awaiting: new Set(),
  };
  shared[SLOTS].set(home, slot);
  return slot;
}

export interface NodeCallOptions extends CallOptions {
  /** The call changes nothing, or the same call again is the same thing again: it is repeated if the owner ends meanwhile. */
  readonly repeatable?: boolean;
}

export interface PluginNode {
  /** @throws MeshError */
  call<N extends keyof Operations & string>(
    name: N,
    params: ParamsOf<Operations, N>,
    options?: NodeCallOptions,
  ): Promise<ResultOf<Operations, N>>;
  /** Whether there is anything to open. */
  exists(): boolean;
  /** Resolves when there is a node in this process: one to ask without opening it. @throws the signal's reason */
  opened(signal: AbortSignal): Promise<void>;
  /** Runs the calls of one tool; `oneShot`: the process ends soon, so the node is settled and let go when the last one ends. */
  during<T>(work: () => Promise<T>, oneShot: boolean): Promise<T>;
  /** Runs the calls of one who looks in: a node that was opened for them is let go when they have ended. */
  visit<T>(work: () => Promise<T>): Promise<T>;
  /** Opens the node if there is one, and keeps it up from now on. */
  keep(): Promise<void>;
  close(): Promise<void>;
}

/** The node of a state directory, as the configuration wants it. Nothing is opened before the first call. */
export function nodeAt(
  { home, acceptFrom, places, fileSizeMax }: Pick<PluginConfig, "home" | "acceptFrom" | "places" | "fileSizeMax">,
  onNote: (text: string) => void,
): PluginNode {
  function open(): Promise<Mesh> {
    const slot = slotOf(home);
    if (slot.mesh) return slot.mesh;
    const opening = openMesh({ home, places, fileSizeMax, onNote }).then(async (mesh) => {
      if (acceptFrom) await mesh.call("knock_policy", { policy: acceptFrom });
      return mesh;
    });
    slot.mesh = opening;
    for (const tell of slot.awaiting) tell();
    opening.then(
      async (mesh) => {
        await mesh.closed;
        forget(opening);
        // The owner was another process: its place is taken.
        if (slot.kept && slot.mesh === undefined) open().catch((error: unknown) => onNote(failureOf(error).message));
      },
      () => forget(opening),
    );
    return opening;
  }

  /** Once more, if it may be repeated, when the process that owns the node ended meanwhile. */
  async function onMesh<R>(work: (mesh: Mesh) => Promise<R>, repeatable: boolean): Promise<R> {
    const opening = open();
    const mesh = await opening;
    try {
      return await work(mesh);
    } catch (error) {
      const ownerEnded = mesh.role === "caller" && failureOf(error).code === "closed";
      if (!ownerEnded || slotOf(home).released === opening) throw error;
      forget(opening);
      if (!repeatable) throw error;
    }
    return onMesh(work, false);
  }

  function forget(mesh: Promise<Mesh>): void {
    const slot = slotOf(home);
    if (slot.mesh === mesh) slot.mesh = undefined;
  }

  async function close(): Promise<void> {
    const slot = slotOf(home);
    const opening = slot.mesh;
    slot.kept = false;
    slot.mesh = undefined;
    slot.released = opening;
    // A node that could not be opened has told its caller so.
    const mesh = await opening?.catch(() => undefined);
    await mesh?.close();
  }

  async function during<T>(work: () => Promise<T>, oneShot: boolean): Promise<T> {
    const slot = slotOf(home);
    slot.calls++;
    try {
      return await work();
    } finally {
      slot.calls--;
      if (oneShot && slot.calls === 0 && !slot.kept && slot.mesh) {
        const mesh = await slot.mesh.catch(() => undefined);
        if (mesh?.role === "owner") await mesh.call("settle", {}).catch((error: unknown) => onNote(String(error)));
        if (slot.calls === 0) await close();
      }
    }
  }

  return {
    exists: () => slotOf(home).mesh !== undefined || existsSync(home),

    call: (name, params, { repeatable = false, ...options } = {}) =>
      onMesh((mesh) => mesh.call(name, params, options), repeatable),

    async opened(signal) {
      const slot = slotOf(home);
      if (slot.mesh) return;
      signal.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        const end = (settle: () => void) => () => {
          slot.awaiting.delete(opens);
          signal.removeEventListener("abort", aborts);
          settle();
        };
        const opens = end(resolve);
        const aborts = end(() => reject(signal.reason));
        slot.awaiting.add(opens);
        signal.addEventListener("abort", aborts);
      });
    },

    during,
    visit: (work) => during(work, slotOf(home).mesh === undefined),

    async keep() {
      slotOf(home).kept = true;
      if (existsSync(home)) await open();
    },

    close,
  };
}

/** @throws MeshError `not_paired` */
export async function requirePaired(node: PluginNode, signal: AbortSignal | undefined): Promise<void> {
  if (!node.exists()) throw new MeshError("not_paired");
  const { clusters } = await node.call("whoami", {}, { signal, repeatable: true });
  if (!clusters.some(({ registry_url }) => registry_url !== null)) throw new MeshError("not_paired");
}
