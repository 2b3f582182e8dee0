import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Bodies } from "../src/actors/bodies.ts";
import { Keyring } from "../src/actors/keyring.ts";
import { realNetwork } from "../src/actors/network.ts";
import { MeshNode } from "../src/actors/node.ts";
import { realPorts, realRandom } from "../src/actors/ports.ts";
import { environmentUnlock } from "../src/actors/unlock.ts";
import { startServer } from "../src/cluster/server.ts";
import { base64, initiatorRatchet, type RatchetState, x25519KeyPair } from "../src/crypto/index.ts";
import { MeshError } from "../src/errors.ts";
import { Blobs } from "../src/store/blobs.ts";
import { realDisk } from "../src/store/disk.ts";
import { type Commit, type Entry, Journal } from "../src/store/journal.ts";
import { openStoreKey } from "../src/store/key.ts";
import { type SecretPatch, Secrets } from "../src/store/secrets.ts";
import { opensVault, openVault } from "../src/store/vault.ts";
import { message } from "./text.ts";

// A home with a long history, written as a node writes it: the same events, sealed under the same kinds of keys.

export interface HomeSize {
  readonly sessions: number;
  readonly events: number;
  /** Bytes of one message's text. */
  readonly messageSize: number;
}

/** Commits that share an fdatasync here. */
const BATCH = 2_000;
/** Events of one message sent and one received: SEND, ENCRYPTED, SEALED, TRANSMITTED, DECRYPTED, RECEIVED, READ. */
const EVENTS_PER_EXCHANGE = 7;
/** Messages of each peer, its newest, that nobody has read. */
const UNREAD_PER_PEER = 1;

/** A node that belongs to a mesh, stopped cleanly before anything was said. */
async function enroll(home: string, directory: string): Promise<void> {
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: join(directory, "server"),
    pair: () => Promise.reject(new MeshError("token_invalid")),
  });
  const node = await MeshNode.open({ home, ports: realPorts(realNetwork) });
  node.start();
  await node.membership.join({
    controller: null,
    cluster: "bench",
    relayUrl: server.relayUrl,
    registryUrl: server.url,
    name: "bench",
    capabilities: [],
  });
  await node.close();
  await server.close();
}

interface Peer {
  readonly did: string;
  readonly conversation: string;
  readonly session: string;
  readonly stream: string;
  ratchet: RatchetState;
  sent: number;
  received: number;
}

const ad = realRandom(64);
const key = () => base64.encode(realRandom(32));

function meet(): { readonly peer: Peer; readonly entries: readonly Entry[]; readonly secrets: SecretPatch } {
  const did = `did:mesh:${Buffer.from(realRandom(16)).toString("hex")}`;
  const session = randomUUID();
  const stream = `session/${session}`;
  const conversation = `conversation/${did}`;
  const ratchet = initiatorRatchet({
    sharedKey: realRandom(32),
    peerSignedPreKey: x25519KeyPair(realRandom(32)).public,
    random: realRandom,
  });
  const peer: Peer = { did, conversation, session, stream, ratchet, sent: 0, received: 0 };
  const agreement = { peer: did, knock: session, ik: key(), ek: key(), spk: 1, otk: 7 };
  return {
    peer,
    entries: [
      { stream, event: { type: "INITIATED", ...agreement } },
      { stream, event: { type: "KNOCK_SENT" } },
      { stream, event: { type: "CONFIRMED", by: "knock_accept" } },
      { stream: conversation, event: { type: "ESTABLISHED", session, role: "initiator" } },
    ],
    secrets: Keyring.ratchetPatch(session, { state: ratchet, associatedData: ad }, undefined),
  };
}

/** Moves a chain by one, as a message does. */
function moved(peer: Peer, way: "sending" | "receiving"): RatchetState {
  const { [way]: chain } = peer.ratchet;
  peer.ratchet = { ...peer.ratchet, [way]: { key: realRandom(32), n: (chain?.n ?? 0) + 1 } };
  return peer.ratchet;
}

/** Builds the home. It has a vault as a clean stop leaves it, and no snapshots. @returns how many commits and events it has */
export async function buildHome(
  directory: string,
  home: string,
  size: HomeSize,
): Promise<{ readonly commits: number; readonly events: number }> {
  await enroll(home, directory);
  const { key: storeKey } = await openStoreKey({
    disk: realDisk,
    home,
    random: realRandom,
    unlock: environmentUnlock,
    hasData: true,
    opens: (each) => opensVault(realDisk, home, each),
  });
  const vault = await openVault(realDisk, home, storeKey, realRandom, Date.now());
  const secrets = new Secrets(vault, realRandom);
  const keyring = new Keyring(secrets, realRandom);
  const bodies = new Bodies(keyring, new Blobs(realDisk, join(home, "blobs"), realRandom), realRandom);
  const journal = await Journal.open({ disk: realDisk, directory: join(home, "journal") });
  let at = Date.now() - 90 * 24 * 3600_000;
  let events = 0;
  let batch: Promise<Commit>[] = [];
  const commit = async (entries: readonly Entry[], patch?: SecretPatch) => {
    at += 100;
    events += entries.length;
    const sealing = patch && Object.keys(patch).length > 0 ? secrets.decide(patch) : undefined;
    if (sealing && patch) secrets.confirm(patch);
    batch.push(journal.append({ at, entries, ...(sealing && { seal: sealing.seal }) }));
    if (batch.length < BATCH) return;
    await Promise.all(batch);
    batch = [];
  };
  const say = async (peer: Peer, number: number) => {
    const { did, conversation, session, stream } = peer;
    const id = randomUUID();
    const text = JSON.stringify({ type: "message", content: message(number, size.messageSize) });
    const { body, size: bytes, secrets: patch } = bodies.seal(did, text);
    await commit([{ stream: conversation, event: { type: "SEND", id, kind: "chat", body, size: bytes } }], patch);
    const header = { dh: base64.encode(peer.ratchet.self.public), pn: 0, n: peer.sent++ };
    const from = { state: peer.ratchet, associatedData: ad, skipped: new Map() };
    const nonce = base64.encode(realRandom(12));
    await commit(
      [
        { stream, event: { type: "ENCRYPTED", message: id } },
        { stream: conversation, event: { type: "SEALED", id, session, header, nonce } },
      ],
      {
        ...Keyring.ratchetPatch(session, { state: moved(peer, "sending"), associatedData: ad }, from),
        ...Keyring.sentKeyPatch(did, id, realRandom(32)),
      },
    );
    await commit([{ stream: conversation, event: { type: "TRANSMITTED", ids: [id], proof: "accepted" } }]);
    secrets.forget(Keyring.sentNames(did, [id]));
  };
  const hear = async (peer: Peer, number: number, isRead: boolean) => {
    const { did, conversation, session, stream } = peer;
    const id = randomUUID();
    const text = JSON.stringify({ type: "message", content: message(number, size.messageSize) });
    const { body, size: bytes, secrets: patch } = bodies.seal(did, text);
    const header = { dh: base64.encode(peer.ratchet.peer ?? ad.subarray(0, 32)), pn: 0, n: peer.received++ };
    const from = { state: peer.ratchet, associatedData: ad, skipped: new Map() };
    const sent_at = new Date(at).toISOString();
    await commit(
      [
        { stream, event: { type: "DECRYPTED", message: id, header, turned: false, skipped: 0, late: false } },
        { stream: conversation, event: { type: "RECEIVED", id, session, kind: "chat", body, size: bytes, sent_at } },
      ],
      {
        ...patch,
        ...Keyring.ratchetPatch(session, { state: moved(peer, "receiving"), associatedData: ad }, from),
      },
    );
    if (isRead) await commit([{ stream: conversation, event: { type: "READ", ids: [id] } }]);
  };
  const peers: Peer[] = [];
  for (let count = 0; count < size.sessions; count++) {
    const { peer, entries, secrets: patch } = meet();
    peers.push(peer);
    await commit(entries, patch);
    await commit([{ stream: peer.conversation, event: { type: "NAMED", name: `peer-${count}`, source: "registry" } }]);
  }
  const exchanges = Math.ceil((size.events - events) / EVENTS_PER_EXCHANGE / size.sessions);
  let number = 0;
  for (let exchange = 0; exchange < exchanges; exchange++) {
    for (const peer of peers) {
      await say(peer, number++);
      await hear(peer, number++, exchange < exchanges - UNREAD_PER_PEER);
    }
  }
  await Promise.all(batch);
  await secrets.turnEpoch(journal.head, at);
  const commits = journal.head;
  await journal.close();
  return { commits, events };
}
