import { createHash, randomBytes, randomUUID } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Draft, entriesOnly } from "../src/actors/drafts.ts";
import { offer, pieces } from "../src/actors/file-offers.ts";
import type { FileTaker } from "../src/actors/file-transfers.ts";
import { type FileToSend, inspectFiles } from "../src/actors/files.ts";
import { MeshNode, type NodeOptions } from "../src/actors/node.ts";
import { FILE_CHUNK_SIZE } from "../src/limits.ts";
import { type Contender, compare, type Subject, withDirectory } from "./harness.ts";
import { joinMesh, PATIENCE_MS, ports, type Servers } from "./laptop.ts";
import { bareClient } from "./pairs.ts";
import { withServers } from "./servers.ts";

// A file from one disk to another, through a relay in a process of its own.

const SIZE = 30_000_000;
const ROUNDS = 5;

interface Courier {
  /** Brings the file to the other side. Resolves with its SHA-256 there when it lies whole on the disk. */
  carry(file: FileToSend): Promise<string>;
  close(): Promise<void>;
}

/** Two nodes of ours, as a laptop and its sandbox are. */
async function ours(servers: Servers, directory: string): Promise<Courier> {
  let [transfers, arrived]: [number, (sha256: string) => void] = [0, () => undefined];
  const offered = new Map<string, FileToSend>();
  const nodeOf = async (name: string, more: Partial<NodeOptions>): Promise<MeshNode> => {
    const node = await MeshNode.open({ home: join(directory, name), ports, ...more });
    node.start();
    await joinMesh(node, servers, name);
    return node;
  };
  const taker: FileTaker = {
    place: async () => ({ directory: join(directory, "arrived") }),
    wants: () => true,
    names: async () => new Set(),
    progressed: () => entriesOnly(),
    saved: async (_peer, _offer, { sha256 }) => ({ ...entriesOnly(), begin: () => arrived(sha256) }),
    failed: async (_peer, _offer, problem) => Promise.reject(problem),
  };
  const bob = await nodeOf("bob", { files: taker });
  const to = bob.core.keyring.identity.did;
  const alice = await nodeOf("alice", {
    onWork: async ({ payload }) => {
      const file = payload.type === "mesh:file_pull" ? offered.get(payload.transfer_id) : undefined;
      return file && payload.type === "mesh:file_pull" ? pieces(alice.core, to, file, payload) : undefined;
    },
  });
  const commit = ({ entries, secrets, before }: Draft) =>
    alice.core.system.commit(entries, { secrets, before }).durable;
  return {
    async carry(file) {
      const transfer = `file.${transfers++}`;
      const { promise, resolve } = Promise.withResolvers<string>();
      arrived = resolve;
      offered.set(transfer, { ...file, name: transfer });
      await commit(offer(alice.core, to, "bench", transfer, { ...file, name: transfer }));
      return promise;
    },
    async close() {
      await alice.close();
      await bob.close();
    },
  };
}

/** The same pieces in frames that are not sealed and of which nothing is kept; the file is synced once, at the end. */
async function plain(servers: Servers, directory: string): Promise<Courier> {
  const [alice, bob] = [await bareClient(servers), await bareClient(servers)];
  return {
    async carry({ path, size }) {
      const to = await open(join(directory, "copied"), "w");
      const digest = createHash("sha256");
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      let here = 0;
      let writing = Promise.resolve();
      const take = (data: Buffer) => {
        const { id, ciphertext } = JSON.parse(data.toString());
        bob.send({ type: "ack", id });
        const piece = Buffer.from(ciphertext, "base64");
        digest.update(piece);
        here += piece.length;
        writing = writing.then(async () => void (await to.write(piece)));
        if (here === size) writing.then(resolve, reject);
      };
      bob.socket.on("message", take);
      const from = await open(path, "r");
      for (let at = 0; at < size; at += FILE_CHUNK_SIZE) {
        const piece = Buffer.alloc(Math.min(FILE_CHUNK_SIZE, size - at));
        await from.read(piece, 0, piece.length, at);
        alice.send({ type: "message", to: bob.did, id: randomUUID(), ciphertext: piece.toString("base64") });
      }
      await promise;
      await to.sync();
      bob.socket.off("message", take);
      await from.close();
      await to.close();
      return digest.digest("hex");
    },
    async close() {
      await alice.close();
      await bob.close();
    },
  };
}

/** Milliseconds for the file to arrive. */
function contender(name: string, courier: Courier, file: FileToSend): Contender {
  return {
    name,
    async round() {
      const begin = performance.now();
      const { promise, reject } = Promise.withResolvers<never>();
      const late = setTimeout(() => reject(new Error(`${name}: the file did not come.`)), PATIENCE_MS);
      const sha256 = await Promise.race([courier.carry(file), promise]).finally(() => clearTimeout(late));
      if (sha256 !== file.sha256) throw new Error(`${name}: another file came.`);
      return performance.now() - begin;
    },
  };
}

export const files: Subject = {
  name: "files",
  about: "a file of 30 MB from disk to disk, ours sealed, in pieces with their hashes, durable at every step",
  measure: (tell) =>
    withDirectory((directory) =>
      withServers(join(directory, "server"), async (servers) => {
        const path = join(directory, "file");
        await writeFile(path, randomBytes(SIZE));
        const couriers = [await ours(servers, directory), await plain(servers, directory)] as const;
        try {
          const [file] = await inspectFiles(ports.disk, [path]);
          if (!file) throw new Error("the file is gone");
          tell("files: 30 MB");
          return await compare(
            { work: "a file of 30 MB", unit: "ms", rounds: ROUNDS },
            contender("ours", couriers[0], file),
            [{ ...contender("plain copy", couriers[1], file), goal: { atMost: 3 } }],
          );
        } finally {
          for (const courier of couriers) await courier.close();
        }
      }),
    ),
};
