import { DiscardPolicy } from "@nats-io/jetstream";
import { MeshError } from "../../errors.ts";
import type { AppendFile, Disk, Pieces } from "../../store/disk.ts";
import { type Bus, unavailable } from "./bus.ts";
import { HomeLog } from "./home-log.ts";
import { HOME_PATH_LENGTH_MAX } from "./limits.ts";

// A disk in NATS, for a home that whichever replica is the active one can open: a stream holds the operations on its files,
// and whoever opens it makes the files of them. There is one writer, the one that opened it last: every other is refused
// from then on, and so has made nothing durable that anybody will see.
//
// What is read comes from memory. What is appended to a file is published when it is synced, as one message if it is not
// too long for one; longer ones and whole files count with their last message, so that nothing is there by half.

export interface JetStreamDisk extends Disk {
  /** Begins the log anew, so that the next to open it reads no more than the files. */
  compact(): Promise<void>;
  /** Resolves when what was asked for is durable or has failed; later calls are refused. */
  close(): Promise<void>;
}

export interface JetStreamDiskOptions {
  /** Called once when another has opened it. */
  readonly onDeposed?: (() => void) | undefined;
}

const failure = (code: string, path: string, what: string) => Object.assign(new Error(`${path}: ${what}`), { code });
const missing = (path: string) => failure("ENOENT", path, "there is no such file");

/** How a path is named in NATS, on every system. */
function keyOf(path: string): string {
  if (path.length > HOME_PATH_LENGTH_MAX) throw failure("ENAMETOOLONG", path.slice(0, 100), "the name is too long");
  return path.length > 1 ? path.replaceAll("\\", "/").replace(/\/+$/, "") : path;
}

/**
 * Opens the home of that name in a cluster's NATS, begun when there is none, and deposes whoever has it open.
 * @throws MeshError `nats_unavailable`, `store_damaged`
 */
export async function openJetStreamDisk(
  bus: Bus,
  name: string,
  { onDeposed = () => undefined }: JetStreamDiskOptions = {},
): Promise<JetStreamDisk> {
  const subject = bus.subject(name);
  const stream = await bus.stream(name, { subjects: [subject], discard: DiscardPolicy.New }).catch((error: unknown) => {
    throw unavailable(error);
  });
  const log = new HomeLog(bus, `nats:${name}`, stream, subject, onDeposed);
  await log.open();
  const { files } = log;

  let last: Promise<unknown> = Promise.resolve();
  /** One after the other, in the order of the calls. */
  function queued<T>(work: () => Promise<T>): Promise<T> {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  }

  const seeing = (error: unknown) => bus.log(`nats: a home could not be tidied: ${unavailable(error).message}`);
  let isTidying = false;
  /** Makes room behind what waits already. */
  function tidyLater(): void {
    if (isTidying || !files.isLong || log.isEnded) return;
    isTidying = true;
    void queued(() => log.checkpoint())
      .catch(seeing)
      .finally(() => {
        isTidying = false;
      });
  }

  async function write(path: string, at: number, bytes: Uint8Array): Promise<void> {
    if (files.size(path) === undefined && files.isDirectory(path))
      throw failure("EISDIR", path, "a directory stands there");
    await log.append({ op: "write", path, at, parts: 0 }, bytes);
    await erase();
    tidyLater();
  }
  /** What was replaced may be what must be forgotten. */
  const erase = () => (files.superseded.length > 0 ? log.erase().catch(seeing) : Promise.resolve());

  /** Who looks is told what is durable, also after a refusal that may have been none. */
  async function looked<T>(look: () => T): Promise<T> {
    if (!log.isCertain) await queued(() => log.certain());
    return look();
  }

  async function collect(pieces: Pieces): Promise<Uint8Array> {
    const all: Uint8Array[] = [];
    for await (const piece of pieces) all.push(Uint8Array.from(piece));
    return Buffer.concat(all);
  }

  async function remove(path: string): Promise<void> {
    if (files.size(path) === undefined && !files.isDirectory(path)) return log.certain();
    await log.append({ op: "remove", path });
    await erase();
    tidyLater();
  }

  function appendTo(path: string): AppendFile {
    /** Where that begins which is not durable yet. */
    let at = files.size(path) ?? 0;
    let unsynced: Uint8Array[] = [];
    const lengthOf = (pieces: readonly Uint8Array[]) => pieces.reduce((sum, { length }) => sum + length, 0);
    /** What is behind the end is there no more, and what was written is. */
    const sync = async () => {
      const pieces = [...unsynced];
      const size = files.size(path);
      if (size === undefined) throw missing(path);
      if (pieces.length === 0 && size === at) return log.certain();
      const bytes = pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
      await write(path, at, bytes);
      // What was written meanwhile goes with the next.
      unsynced = unsynced.slice(pieces.length);
      at += bytes.length;
    };
    return {
      get size() {
        return at + lengthOf(unsynced);
      },
      async write(bytes) {
        if (bytes.length > 0) unsynced.push(Uint8Array.from(bytes));
      },
      sync: () => queued(sync),
      truncate: (size) =>
        queued(async () => {
          const kept = Buffer.concat(unsynced).subarray(0, Math.max(0, size - at));
          unsynced = kept.length > 0 ? [kept] : [];
          at = Math.min(at, size);
          await sync();
        }),
      // What was not synced was promised to nobody.
      close: () =>
        queued(async () => (log.isEnded || unsynced.length === 0 ? undefined : sync())).catch(() => undefined),
    };
  }

  // What an earlier writer could not tidy any more.
  void queued(async () => {
    await log.purge();
    await log.erase();
  }).catch(seeing);

  return {
    // A directory is there as long as something is in it.
    makeDirectory: () => looked(() => undefined),
    read: (path) => looked(() => files.read(keyOf(path))),
    async *pieces(path) {
      const bytes = await looked(() => files.read(keyOf(path)));
      if (bytes) yield bytes;
    },
    readRange: (path, offset, length) =>
      looked(() => {
        const bytes = files.read(keyOf(path), offset, offset + length);
        if (!bytes) throw missing(path);
        if (bytes.length < length) throw new Error(`${path} ends before byte ${offset + length}`);
        return bytes;
      }),
    size: (path) =>
      looked(() => {
        const size = files.size(keyOf(path));
        if (size === undefined && !files.isDirectory(keyOf(path))) throw missing(path);
        return size;
      }),
    async replace(path, bytes) {
      const own = Uint8Array.from(bytes);
      await queued(() => write(keyOf(path), 0, own));
    },
    async create(path, bytes) {
      const own = Uint8Array.from(bytes);
      return queued(async () => {
        await log.certain();
        if (files.size(keyOf(path)) !== undefined || files.isDirectory(keyOf(path))) return false;
        await write(keyOf(path), 0, own);
        return true;
      });
    },
    // There are no links in NATS.
    realPath: async (path) => path,
    async gather(path, pieces) {
      let bytes: Uint8Array;
      try {
        bytes = await collect(pieces);
      } catch (error) {
        await queued(() => remove(keyOf(path)));
        throw error;
      }
      await queued(() => write(keyOf(path), 0, bytes));
    },
    name: (from, to) =>
      queued(async () => {
        await log.certain();
        if (files.size(keyOf(from)) === undefined) throw missing(from);
        if (files.size(keyOf(to)) !== undefined || files.isDirectory(keyOf(to))) return false;
        await log.append({ op: "name", from: keyOf(from), to: keyOf(to) });
        return true;
      }),
    append: (path) =>
      queued(async () => {
        await log.certain();
        if (files.size(keyOf(path)) === undefined) await write(keyOf(path), 0, new Uint8Array());
        return appendTo(keyOf(path));
      }),
    list: (directory) => looked(() => files.list(keyOf(directory))),
    settle: () => looked(() => undefined),
    remove: (path) => queued(() => remove(keyOf(path))),
    compact: () => queued(() => log.checkpoint()),
    async close() {
      await last;
      log.end(new MeshError("closed"));
    },
  };
}
