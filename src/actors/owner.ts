import { hash } from "node:crypto";
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { asMeshError, isErrorCode, MeshError } from "../errors.ts";
import { OWNER_MESSAGE_MAX } from "../limits.ts";
import { refusedBy } from "../store/disk-errors.ts";
import type { Mesh } from "./mesh.ts";
import type { MeshNode } from "./node.ts";
import { type OperationTable, runOperation } from "./operations.ts";

// Ownership of a state directory. The right to it is a lock of the operating system, which dies with its process: SQLite
// takes it on an empty database file, on every system in the way that is right there. The owner is reached by a socket
// beside it: one JSON message a line.
//
//   caller -> owner   {"id":1,"call":"send","params":{…}}      {"id":1,"abort":true}
//   owner -> caller   {"id":1,"news":…}  {"id":1,"result":…}  {"id":1,"error":{"code","message"}}

const LOCK_FILE = "owner.lock";
/** What a socket address holds on the systems that hold least. */
const SOCKET_PATH_MAX = 100;

export interface Ownership {
  readonly home: string;
  release(): void;
}

/** The right to a state directory, or undefined while another process (or another part of this one) has it. */
export async function claimOwnership(home: string): Promise<Ownership | undefined> {
  try {
    mkdirSync(home, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw refusedBy(home, cause);
  }
  const { DatabaseSync } = await import("node:sqlite").catch((cause: unknown) => {
    throw new MeshError("node_unsupported", `This is Node.js ${process.version}.`, { cause });
  });
  let database: InstanceType<typeof DatabaseSync> | undefined;
  try {
    database = new DatabaseSync(join(home, LOCK_FILE));
    chmodSync(join(home, LOCK_FILE), 0o600);
    database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
  } catch (cause) {
    database?.close();
    if (cause instanceof Error && /locked|busy/i.test(cause.message)) return undefined;
    throw new MeshError(
      "store_io",
      `${join(home, LOCK_FILE)}: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  }
  const held = database;
  return { home, release: () => held.close() };
}

/** Where the owner listens: in the state directory, or in the temporary directory when that path is too long for a socket. */
function addressOf(home: string): string {
  const path = join(resolve(home), "owner.sock");
  const short = hash("sha256", resolve(home), "hex").slice(0, 16);
  if (process.platform === "win32") return `\\\\.\\pipe\\kars-mesh-${short}`;
  return path.length <= SOCKET_PATH_MAX ? path : join(tmpdir(), `kars-mesh-${process.getuid?.() ?? 0}-${short}.sock`);
}

/** A line from a caller to the owner. */
export const Question = z.union([
  z.object({ id: z.int(), abort: z.literal(true) }),
  z.object({ id: z.int(), call: z.string().max(64), params: z.unknown() }),
]);
/** A line from the owner to a caller. */
export const Answer = z.object({
  id: z.int(),
  news: z.unknown().optional(),
  result: z.unknown().optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
});

function writeLine(socket: Socket, message: object): void {
  if (socket.destroyed) return;
  socket.write(`${JSON.stringify(message)}\n`);
  // Who asks and does not read is let go, not remembered.
  if (socket.writableLength > 2 * OWNER_MESSAGE_MAX) socket.destroy();
}

/** Each line that is JSON; a line that is not, or is too long, ends the connection. */
function onLines(socket: Socket, take: (json: unknown) => void): void {
  socket.setEncoding("utf8");
  let unfinished = 0;
  socket.on("data", (chunk: string) => {
    const newline = chunk.lastIndexOf("\n");
    unfinished = newline === -1 ? unfinished + chunk.length : chunk.length - newline;
    if (unfinished > OWNER_MESSAGE_MAX) socket.destroy();
  });
  createInterface({ input: socket })
    // It passes the socket's own errors on; the socket's close follows and is what counts.
    .on("error", () => socket.destroy())
    .on("line", (line) => {
      try {
        take(JSON.parse(line));
      } catch {
        // Nothing of ours speaks like that.
        socket.destroy();
      }
    });
}

/** Answers the calls of other processes. */
export async function serve(
  node: MeshNode,
  { home }: Ownership,
  table: OperationTable,
): Promise<{ close(): Promise<void> }> {
  const address = addressOf(home);
  if (process.platform !== "win32") rmSync(address, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const calls = new Map<number, AbortController>();
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      sockets.delete(socket);
      for (const call of calls.values()) call.abort();
    });
    onLines(socket, (json) => {
      const question = Question.parse(json);
      if ("abort" in question) {
        calls.get(question.id)?.abort();
        return;
      }
      const { id, call, params } = question;
      const controller = new AbortController();
      calls.set(id, controller);
      runOperation(table, call, params, {
        node,
        signal: controller.signal,
        progress: (news) => writeLine(socket, { id, news }),
      })
        .then(
          (result) => writeLine(socket, { id, result: result ?? null }),
          (error: unknown) => writeLine(socket, { id, ...asMeshError(error).toJSON() }),
        )
        .finally(() => calls.delete(id));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => reject(new MeshError("store_io", `${address}: ${cause.message}.`, { cause })));
    server.listen(address, resolve);
  });
  if (process.platform !== "win32") chmodSync(address, 0o600);
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

interface PendingCall {
  readonly resolve: (result: never) => void;
  readonly reject: (error: MeshError) => void;
  readonly onProgress: ((news: unknown) => void) | undefined;
}

/** The node of another process, or undefined when nobody answers there. */
export async function attach<T extends OperationTable>(home: string): Promise<Mesh<T> | undefined> {
  const socket = connect(addressOf(home));
  const connected = await new Promise<boolean>((resolve) => {
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
  });
  if (!connected) return undefined;
  const pending = new Map<number, PendingCall>();
  const ended = Promise.withResolvers<void>();
  let next = 1;
  // The close follows and tells the callers.
  socket.on("error", () => socket.destroy());
  socket.on("close", () => {
    for (const { reject } of pending.values())
      reject(new MeshError("closed", "The process that owns the state directory has ended."));
    pending.clear();
    ended.resolve();
  });
  onLines(socket, (json) => {
    const answer = Answer.parse(json);
    const call = pending.get(answer.id);
    if (!call) return;
    if (answer.error) {
      pending.delete(answer.id);
      const { code, message } = answer.error;
      const known = new MeshError(isErrorCode(code) ? code : "internal");
      known.message = message;
      call.reject(known);
    } else if (answer.result !== undefined) {
      pending.delete(answer.id);
      call.resolve(answer.result as never);
    } else call.onProgress?.(answer.news);
  });
  return {
    role: "caller",
    closed: ended.promise,
    call(name, params, { signal, onProgress } = {}) {
      return new Promise((resolve, reject) => {
        if (socket.destroyed) return reject(new MeshError("closed"));
        const id = next++;
        const abort = () => writeLine(socket, { id, abort: true });
        const settle = () => signal?.removeEventListener("abort", abort);
        pending.set(id, {
          resolve: (result) => {
            settle();
            resolve(result);
          },
          reject: (error) => {
            settle();
            reject(error);
          },
          onProgress,
        });
        writeLine(socket, { id, call: name, params });
        if (signal?.aborted) abort();
        else signal?.addEventListener("abort", abort, { once: true });
      });
    },
    async close() {
      socket.end();
      await ended.promise;
    },
  };
}
