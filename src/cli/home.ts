import { attach } from "../actors/caller.ts";
import type { Mesh } from "../actors/mesh.ts";
import type { Unlock } from "../actors/unlock.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { OWNER_WAIT_MS, PASSPHRASE_ATTEMPTS_MAX, SETTLE_MS, VISITS_MAX } from "../limits.ts";
import { askSecretly, someoneIsThere } from "./ask.ts";
import { interruption } from "./interruption.ts";
import { line } from "./output.ts";
import type { Io } from "./program.ts";

// One command at a home: the node opens here, or the process that owns it is asked. A process that is there only for one
// command settles: it fetches what waits at the relay and sends what is queued.

export interface Visit {
  readonly mesh: Mesh;
  readonly signal: AbortSignal;
  /** Whether this home belongs to a cluster. */
  isPaired(): Promise<boolean>;
  /** @throws MeshError `not_paired` */
  requirePaired(): Promise<void>;
  /** Fetches what waits and sends what is queued, within a bound. Another process that owns the home does so by itself. */
  settle(waitMs?: number): Promise<void>;
  /** Why the relay is not to be had, as a sentence; undefined while the link is up. */
  offline(): Promise<string | undefined>;
}

/** Does what needs the store key; a person is asked for the passphrase where that is what is missing. */
export async function unlocking<T>(io: Io, work: (unlock: Unlock) => Promise<T>): Promise<T> {
  const { environmentUnlock } = await import("../actors/unlock.ts");
  let unlock = environmentUnlock;
  for (let asked = 0; ; asked++) {
    try {
      return await work(unlock);
    } catch (error) {
      // Nothing is held while a person types.
      const { code, message } = asMeshError(error);
      const isAsked = code === "passphrase_needed" || (code === "passphrase_wrong" && asked > 0);
      if (!isAsked || asked === PASSPHRASE_ATTEMPTS_MAX || !someoneIsThere()) throw error;
      if (code === "passphrase_wrong") io.note(line(message));
      const passphrase = await askSecretly(`Passphrase of ${line(io.directory)}: `);
      unlock = { ...environmentUnlock, passphrase: async () => passphrase };
    }
  }
}

/** Reaches the process that owns the state directory, or opens its node: only then is there more to load than asking takes. */
export async function openHome(io: Io): Promise<Mesh> {
  const owned = await attach(io.directory);
  if (owned) return owned;
  const { openMesh } = await import("../actors/mesh.ts");
  let latest = "";
  const onNote = (text: string) => {
    // What is tried again and again is told once.
    if (text !== latest) io.note(line(text));
    latest = text;
  };
  return unlocking(io, (unlock) =>
    openMesh({ home: io.directory, places: io.places, fileSizeMax: io.fileSizeMax, onNote, unlock }),
  );
}

/**
 * Does one command's work at the home. When the process that owns the home ends before it has answered, the work is done again
 * from its beginning: what it hands in carries ids of its own choice, so that handing it in twice is handing it in once.
 * @throws MeshError
 */
export async function atHome<T>(io: Io, work: (visit: Visit) => Promise<T>): Promise<T> {
  const signal = interruption();
  for (let attempt = 1; ; attempt++) {
    const mesh = await openHome(io);
    const begun = Date.now();
    try {
      return await work(visit(mesh, signal));
    } catch (error) {
      const ownerEnded = mesh.role === "caller" && error instanceof MeshError && error.code === "closed";
      if (!ownerEnded || signal.aborted || attempt === VISITS_MAX) throw error;
      // A wait may be long and see many owners.
      if (Date.now() - begun > OWNER_WAIT_MS) attempt = 0;
    } finally {
      await mesh.close();
    }
  }
}

function visit(mesh: Mesh, signal: AbortSignal): Visit {
  const isPaired = async () => {
    const { clusters } = await mesh.call("whoami", {});
    return clusters.some(({ registry_url }) => registry_url !== null);
  };
  return {
    mesh,
    signal,
    isPaired,
    async requirePaired() {
      if (!(await isPaired())) throw new MeshError("not_paired");
    },
    async settle(waitMs = SETTLE_MS) {
      if (mesh.role === "owner") await mesh.call("settle", { wait_ms: waitMs }, { signal });
    },
    async offline() {
      const { link } = await mesh.call("whoami", {});
      if (link.state === "online") return undefined;
      const reason = link.closed?.reason ? ` (${line(link.closed.reason)})` : "";
      return link.state === "refused"
        ? `The relay refuses this laptop's connection${reason}.`
        : `The relay cannot be reached now${reason}.`;
    },
  };
}

/** Fetches what waits at the relay before something is read, and says so when that was not possible. */
export async function fetchFirst(io: Io, { settle, isPaired, offline }: Visit): Promise<void> {
  if (!(await isPaired())) {
    io.note(new MeshError("not_paired").message);
    return;
  }
  await settle();
  const problem = await offline();
  if (problem !== undefined) io.note(`${problem} This is what is here already.`);
}
