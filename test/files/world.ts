/** Two nodes, one of which offers files and one of which takes them. */
import { hash } from "node:crypto";
import { once } from "node:events";
import { watch } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { type Draft, entriesOnly, sending } from "../../src/actors/drafts.ts";
import { offer, type Pull, pieces } from "../../src/actors/file-offers.ts";
import type { FileTaker } from "../../src/actors/file-transfers.ts";
import { type FileToSend, inspectFiles, type SavedFile } from "../../src/actors/files.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { type Clock, realClock, realPorts } from "../../src/actors/ports.ts";
import type { MeshError } from "../../src/errors.ts";
import { type Disk, realDisk } from "../../src/store/disk.ts";
import { encodeFileChunk, type FileChunk } from "../../src/wire/file-chunk.ts";
import type { PayloadOf } from "../../src/wire/payload.ts";
import { openWorld } from "../actors/world.ts";
import { temporaryDirectory } from "../store/disks.ts";

export type Ack = PayloadOf<"file_transfer_ack">;

/** What becomes of a file that was offered: it is saved, or it fails. */
export type Outcome = { readonly saved: SavedFile } | { readonly failed: MeshError };

/** What may be told once it has happened, in the order in which it is asked for. */
class Queue<T> {
  readonly #told: T[] = [];
  #waiting: ((told: T) => void) | undefined;
  push(told: T): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) waiting(told);
    else this.#told.push(told);
  }
  next(): Promise<T> {
    const told = this.#told.shift();
    return told === undefined ? new Promise((resolve) => (this.#waiting = resolve)) : Promise.resolve(told);
  }
}

/** Takes every file into a folder. @param told of what becomes of each */
export function takerInto(inbox: string, told: (outcome: Outcome) => void): FileTaker {
  const names = new Set<string>();
  return {
    place: async () => ({ directory: inbox }),
    wants: () => true,
    names: async () => names,
    progressed: () => entriesOnly(),
    saved: async (_peer, _offer, file) => ({
      ...entriesOnly(),
      begin: () => {
        names.add(file.name);
        told({ saved: file });
      },
    }),
    failed: async (_peer, _offer, problem) => {
      told({ failed: problem });
      return entriesOnly();
    },
  };
}

/** A relay and a registry that are there already. */
export interface FilePlaces {
  readonly relayUrl: string;
  readonly registryUrl: string;
  readonly clock?: Clock;
}

/** A cluster of this project, until the test ends. */
async function openCluster(): Promise<FilePlaces> {
  const { server } = await openWorld();
  return { relayUrl: server.relayUrl, registryUrl: server.url };
}

export interface FileWorldOptions {
  /** What bob keeps his home on, and who is told of what he notes. */
  readonly bobsDisk?: Disk;
  readonly noted?: (text: string) => void;
  /** Where the nodes meet; a cluster of their own unless given. */
  readonly places?: FilePlaces;
  /** Who takes files in bob's place, in a process of its own. */
  readonly receiver?: { readonly did: string };
}

export async function openFileWorld({ bobsDisk = realDisk, noted, places, receiver }: FileWorldOptions = {}) {
  const { relayUrl, registryUrl, clock = realClock } = places ?? (await openCluster());
  const directory = await temporaryDirectory();
  const home = (name: string) => join(directory, name);
  const inbox = join(directory, "arrived");
  const outcomes = new Queue<Outcome>();
  const acks = new Queue<Ack>();
  const pulls = new Queue<Pull>();
  const taker = takerInto(inbox, (outcome) => outcomes.push(outcome));
  const nodes = new Map<string, MeshNode>();
  const open = async (name: string): Promise<MeshNode> => {
    const node = await MeshNode.open({
      home: home(name),
      ports: { ...realPorts(realNetwork), clock, ...(name === "bob" && { disk: bobsDisk }) },
      ...(name === "bob" && noted && { onNote: noted }),
      files: taker,
      onWork: async ({ payload }) => {
        if (payload.type === "file_transfer_ack") acks.push(payload);
        if (payload.type === "mesh:file_pull") pulls.push(payload);
        return undefined;
      },
    });
    node.start();
    if (!node.membership.current) {
      const place = { controller: null, cluster: "files", relayUrl, registryUrl };
      await node.membership.join({ ...place, name, capabilities: [] });
    }
    nodes.set(name, node);
    return node;
  };
  await open("alice");
  const to = receiver?.did ?? (await open("bob")).core.keyring.identity.did;
  onTestFinished(async () => {
    for (const node of nodes.values()) await node.close();
  });
  const node = (name: string): MeshNode => {
    const found = nodes.get(name);
    if (!found) throw new Error(`no ${name}`);
    return found;
  };
  const commit = (draft: Draft) =>
    node("alice").core.system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  return {
    inbox,
    outcomes,
    acks,
    pulls,
    home,
    node,
    /** A file on alice's disk. */
    async file(name: string, bytes: Uint8Array): Promise<FileToSend> {
      const path = join(directory, `source-${hash("sha256", name, "hex").slice(0, 8)}`);
      await writeFile(path, bytes);
      const [file] = await inspectFiles(realDisk, [path]);
      if (!file) throw new Error("no file");
      return { ...file, name };
    },
    /** Alice offers a file to bob. */
    offer: (transfer: string, file: FileToSend) => commit(offer(node("alice").core, to, "request", transfer, file)),
    /** Alice sends what was pulled. */
    give: async (file: FileToSend, pull: Pull) => commit(await pieces(node("alice").core, to, file, pull)),
    /** Alice sends a piece, whatever was pulled. */
    piece: (id: string, chunk: FileChunk) =>
      commit(sending(node("alice").core, to, id, "part", encodeFileChunk(chunk))),
    /** Alice sends bytes that claim to be a piece. */
    bytes: (id: string, plaintext: Uint8Array) => commit(sending(node("alice").core, to, id, "part", plaintext)),
    /** Frames of alice's that bob could not read. */
    unreadable: () => node("bob").incoming.countersOf(node("alice").core.keyring.identity.did)?.unreadable ?? 0,
    /** Ends a node and opens it again. */
    async restart(name: string): Promise<void> {
      await node(name).close();
      await open(name);
    },
    /** What lies in the folder where files arrive. */
    arrived: () => readdir(inbox).catch(() => []),
    /** Resolves when a node keeps no sealed bodies in files of their own any more. */
    async emptied(name: string): Promise<void> {
      const blobs = join(home(name), "blobs");
      await mkdir(blobs, { recursive: true });
      const changes = watch(blobs);
      for (let isEmpty = false; !isEmpty; ) {
        const change = once(changes, "change");
        isEmpty = (await readdir(blobs)).length === 0;
        if (!isEmpty) await change;
      }
      changes.close();
    },
  };
}

export type FileWorld = Awaited<ReturnType<typeof openFileWorld>>;
