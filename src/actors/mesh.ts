import { MeshError } from "../errors.ts";
import { OWNER_WAIT_MS } from "../limits.ts";
import { attach } from "./caller.ts";
import { MeshNode, type NodeOptions } from "./node.ts";
import { type OperationTable, type ParamsOf, type ResultOf, runOperation } from "./operation.ts";
import { type Operations, operations } from "./operations.ts";
import { claimOwnership, type Ownership, serve } from "./owner.ts";
import { placeOfOwner } from "./owner-socket.ts";
import { environmentRelayToken } from "./relay-token.ts";

// One owner, many callers: the first process owns the state directory's node, any other sends its calls to it. To the caller
// both look the same.

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((news: unknown) => void) | undefined;
}

export interface Mesh<T extends OperationTable = Operations> {
  /** `owner`: the node lives in this process. */
  readonly role: "owner" | "caller";
  /** @throws MeshError */
  call<N extends keyof T & string>(name: N, params: ParamsOf<T, N>, options?: CallOptions): Promise<ResultOf<T, N>>;
  /** Ends the node if it lives here, else only the connection to it. */
  close(): Promise<void>;
  /** Resolves when the connection to the owner, or the node itself, has ended. */
  readonly closed: Promise<void>;
}

const never = new AbortController().signal;

/** A node that this process owns, answering its own calls and those of others. */
export async function serveNode<T extends OperationTable>(
  node: MeshNode,
  ownership: Ownership,
  table: T,
): Promise<Mesh<T>> {
  const server = await serve(node, ownership, table);
  const ended = Promise.withResolvers<void>();
  let closing: Promise<void> | undefined;
  return {
    role: "owner",
    closed: ended.promise,
    async call(name, params, { signal = never, onProgress = () => undefined } = {}) {
      return (await runOperation(table, name, params, { node, signal, progress: onProgress })) as never;
    },
    close() {
      closing ??= (async () => {
        await server.close();
        await node.close();
        ownership.release();
        ended.resolve();
      })();
      return closing;
    },
  };
}

async function own(options: NodeOptions, ownership: Ownership): Promise<Mesh> {
  let node: MeshNode | undefined;
  try {
    node = await MeshNode.open(options);
    const mesh = await serveNode(node, ownership, operations);
    node.start();
    return mesh;
  } catch (error) {
    await node?.close();
    ownership.release();
    throw error;
  }
}

/**
 * Owns a state directory in the given way, or reaches its owner.
 * @param waitMs how long an owner that is just opening or closing is waited for
 * @throws MeshError `store_locked` naming the owner's process
 */
export async function ownOrAttach<T extends OperationTable>(
  home: string,
  own: (ownership: Ownership) => Promise<Mesh<T>>,
  waitMs = OWNER_WAIT_MS,
): Promise<Mesh<T>> {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const ownership = await claimOwnership(home);
    if (ownership) return own(ownership);
    const caller = await attach<T>(home);
    if (caller) return caller;
    // The owner is just opening, or just closing.
    if (Date.now() >= deadline) {
      const { pid } = placeOfOwner(home);
      throw new MeshError("store_locked", pid === undefined ? `${home}.` : `${home} is owned by process ${pid}.`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * Opens a state directory: owns its node, or reaches the one that another process owns.
 * @throws MeshError `store_*`; `store_locked` when the owner does not answer; `input_invalid` when relays would not accept the access
 * token of the environment
 */
export async function openMesh(options: NodeOptions, waitMs?: number): Promise<Mesh> {
  const { relayToken = environmentRelayToken() } = options;
  return ownOrAttach(options.home, (ownership) => own({ ...options, relayToken }, ownership), waitMs);
}
