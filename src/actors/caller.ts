import { connect, type Socket } from "node:net";
import { isErrorCode, MeshError } from "../errors.ts";
import { OWNER_ABORT_MS, OWNER_GREETING_MS } from "../limits.ts";
import type { Mesh } from "./mesh.ts";
import type { OperationTable } from "./operation.ts";
import { onLines, placeOfOwner, writeLine } from "./owner-socket.ts";

// A process that does not own the state directory, and asks the one that does. It loads no machine, no crypto and no schema:
// the owner is a process of the same user, reached through a socket that only that user can open.

interface Answer {
  readonly id: number;
  readonly news?: unknown;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
}
const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;
const isAnswer = (value: unknown): value is Answer =>
  isObject(value) &&
  "id" in value &&
  typeof value.id === "number" &&
  (!("error" in value) ||
    (isObject(value.error) &&
      "code" in value.error &&
      typeof value.error.code === "string" &&
      "message" in value.error &&
      typeof value.error.message === "string"));
const isGreeting = (value: unknown): boolean => isObject(value) && "hello" in value;

interface PendingCall {
  readonly resolve: (result: never) => void;
  readonly reject: (error: MeshError) => void;
  readonly onProgress: ((news: unknown) => void) | undefined;
}

/** A connection to whoever listens as the owner; undefined when nobody does. */
export async function connectToOwner(home: string): Promise<Socket | undefined> {
  const socket = connect(placeOfOwner(home).address);
  return new Promise((resolve) => {
    socket.once("connect", () => resolve(socket));
    socket.once("error", () => resolve(undefined));
  });
}

/** The node of another process, or undefined when nobody answers there within OWNER_GREETING_MS. */
export async function attach<T extends OperationTable>(home: string): Promise<Mesh<T> | undefined> {
  const socket = await connectToOwner(home);
  if (!socket) return undefined;
  const greeted = Promise.withResolvers<boolean>();
  const impatient = setTimeout(() => greeted.resolve(false), OWNER_GREETING_MS);
  const pending = new Map<number, PendingCall>();
  const ended = Promise.withResolvers<void>();
  let next = 1;
  // The close follows and tells the callers.
  socket.on("error", () => socket.destroy());
  socket.on("close", () => {
    for (const { reject } of [...pending.values()])
      reject(new MeshError("closed", "The process that owns the state directory has ended."));
    greeted.resolve(false);
    ended.resolve();
  });
  onLines(socket, (answer) => {
    if (isGreeting(answer)) return greeted.resolve(true);
    if (!isAnswer(answer)) throw new MeshError("internal", "The owner answered in a form that is not understood.");
    const call = pending.get(answer.id);
    if (!call) return;
    if (answer.error) {
      const { code, message } = answer.error;
      const known = new MeshError(isErrorCode(code) ? code : "internal");
      known.message = message;
      call.reject(known);
    } else if (answer.result !== undefined) {
      call.resolve(answer.result as never);
    } else call.onProgress?.(answer.news);
  });
  const isThere = await greeted.promise;
  clearTimeout(impatient);
  if (!isThere) {
    socket.destroy();
    return undefined;
  }
  return {
    role: "caller",
    closed: ended.promise,
    call(name, params, { signal, onProgress } = {}) {
      return new Promise((resolve, reject) => {
        if (socket.destroyed) return reject(new MeshError("closed"));
        const id = next++;
        let impatient: NodeJS.Timeout | undefined;
        const abort = () => {
          writeLine(socket, { id, abort: true });
          // The owner says how it ended, unless it stands still.
          impatient = setTimeout(() => pending.get(id)?.reject(new MeshError("aborted")), OWNER_ABORT_MS);
        };
        const settle = () => {
          clearTimeout(impatient);
          pending.delete(id);
          signal?.removeEventListener("abort", abort);
        };
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
      socket.destroySoon();
      await ended.promise;
    },
  };
}
