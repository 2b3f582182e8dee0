import { randomUUID } from "node:crypto";
import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { asMeshError, MeshError } from "../errors.ts";
import { SOCKET_PATH_LENGTH_MAX } from "../limits.ts";
import { realDisk } from "../store/disk.ts";
import { refusedBy } from "../store/disk-errors.ts";
import { connectToOwner } from "./caller.ts";
import type { MeshNode } from "./node.ts";
import { type OperationTable, runOperation } from "./operation.ts";
import { OWNER_FILE, onLines, usualAddress, writeLine } from "./owner-socket.ts";

// Ownership of a state directory. The right to it is a lock of the operating system, which dies with its process: SQLite
// takes it on an empty database file, on every system in the way that is right there. No process of ours may open that file
// in any other way: closing it would end the lock. The owner is reached by a socket beside it.

export const LOCK_FILE = "owner.lock";

export interface Ownership {
  readonly home: string;
  release(): void;
}

/** The right to a state directory, or undefined while another process (or another part of this one) has it. */
export async function claimOwnership(home: string): Promise<Ownership | undefined> {
  await realDisk.makeDirectory(home).catch((cause: unknown) => {
    throw refusedBy(home, cause);
  });
  const ownership = await lockHome(home);
  if (!ownership) return undefined;
  try {
    chmodSync(join(home, LOCK_FILE), 0o600);
    tell(home, usualAddress(home));
  } catch (cause) {
    ownership.release();
    throw refusedBy(join(home, LOCK_FILE), cause);
  }
  return ownership;
}

/** The same without a word to others and without any trace, but for the lock's empty file. */
export async function lockHome(home: string): Promise<Ownership | undefined> {
  const { DatabaseSync } = await import("node:sqlite").catch((cause: unknown) => {
    throw new MeshError("node_unsupported", `This is Node.js ${process.version}.`, { cause });
  });
  let database: InstanceType<typeof DatabaseSync> | undefined;
  try {
    database = new DatabaseSync(join(home, LOCK_FILE));
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
  // A lock file that was deleted while it was held locks nobody out, but its owner still listens.
  const owner = await connectToOwner(home);
  if (owner) {
    owner.destroy();
    held.close();
    return undefined;
  }
  return { home, release: () => held.close() };
}

/** Says in the state directory who owns it and where that process listens; on a full disk only the usual place is known. */
function tell(home: string, address: string): void {
  const path = join(home, OWNER_FILE);
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, `${JSON.stringify({ pid: process.pid, address })}\n`, { mode: 0o600 });
    renameSync(temporary, path);
  } catch {
    rmSync(temporary, { force: true });
    rmSync(path, { force: true });
  }
}

/** Listens in the state directory, or in a folder of the temporary directory where that path is too long or holds no sockets. */
async function listen(server: Server, home: string): Promise<{ address: string; folder?: string }> {
  const at = (address: string) =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(address, () => {
        server.off("error", reject);
        resolve();
      });
    });
  if (process.platform === "win32") {
    const address = `\\\\.\\pipe\\kars-mesh-${randomUUID()}`;
    await at(address);
    return { address };
  }
  const usual = usualAddress(home);
  if (usual.length <= SOCKET_PATH_LENGTH_MAX) {
    rmSync(usual, { force: true });
    const refused = await at(usual).catch(() => true);
    if (!refused) return { address: usual };
  }
  const folder = mkdtempSync(join(tmpdir(), "kars-mesh-"));
  const address = join(folder, "owner.sock");
  await at(address);
  return { address, folder };
}

/** A line from a caller to the owner. */
export const Question = z.union([
  z.object({ id: z.int(), abort: z.literal(true) }),
  z.object({ id: z.int(), call: z.string().max(64), params: z.unknown() }),
]);
/** Answers the calls of other processes. */
export async function serve(
  node: MeshNode,
  { home }: Ownership,
  table: OperationTable,
): Promise<{ close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const calls = new Map<number, AbortController>();
    writeLine(socket, { hello: process.pid });
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
  const { address, folder } = await listen(server, home).catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MeshError("store_io", `${home}: no socket can be had: ${reason}.`, { cause });
  });
  if (process.platform !== "win32") chmodSync(address, 0o600);
  if (address !== usualAddress(home)) tell(home, address);
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}
