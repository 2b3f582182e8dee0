import type { Reply } from "../../src/cluster/routes.ts";
import type { StoredEvent } from "../../src/store/journal.ts";
import type { DurableJournal } from "./durable.ts";
import type { Observer } from "./network.ts";
import type { Process } from "./process.ts";

// Looks at everything that leaves a process: what it says must be on disk by then, and no message key seals twice.

/** The journals of a cluster. */
export interface ClusterJournals {
  readonly mail: DurableJournal;
  readonly registry: DurableJournal;
  readonly controller: DurableJournal;
}

interface Frame {
  readonly type: string;
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly [field: string]: unknown;
}
interface Header {
  readonly dh: string;
  readonly n: number;
}
const headerOf = (holder: { readonly [field: string]: unknown }): Header => holder.header as Header;
const sameHeader = (a: Header, b: Header) => a.dh === b.dh && a.n === b.n;
const NONCE_CHARACTERS = 16;

export class Witness implements Observer {
  readonly #violated: (what: string) => void;
  /** The journal of each node, by the name of its process. */
  readonly nodes = new Map<string, DurableJournal>();
  cluster: ClusterJournals | undefined;
  /** What was sealed with a message key: a ratchet key of the sender and a number stand for it. */
  readonly #sealedWith = new Map<string, { readonly ciphertext: string; readonly id: string }>();
  readonly #frames = new Map<string, Frame>();
  readonly #dids = new Map<string, string>();
  /** Acks that were given before anything of the frame was on disk: right only if nothing of it ever is. */
  readonly #early: { readonly node: string; readonly frame: Frame; readonly isKept: () => boolean }[] = [];
  frames = 0;
  /** Messages that went up while nothing was asked for, by sender and recipient. */
  #atRest: Map<string, number> | undefined;

  constructor(violated: (what: string) => void) {
    this.#violated = violated;
  }

  #must(holds: boolean | undefined, what: string): void {
    if (!holds) this.#violated(`left before its commit was on disk: ${what}`);
  }

  frame(direction: "up" | "down", client: Process, text: string): void {
    this.frames++;
    const frame: Frame = JSON.parse(text);
    if (direction === "down") {
      if (frame.type === "accepted") this.#accepted(client, frame);
      return;
    }
    if (frame.type === "connect") this.#dids.set(client.name, frame.from);
    if (frame.type === "message" || frame.type === "knock") this.#frames.set(`${frame.from} ${frame.id}`, frame);
    const journal = this.nodes.get(client.name);
    if (!journal) return;
    const what = `${frame.type} ${frame.id} of ${client.name}`;
    switch (frame.type) {
      case "message":
        if (this.#atRest) {
          const way = `${client.name} to ${frame.to}`;
          this.#atRest.set(way, (this.#atRest.get(way) ?? 0) + 1);
        }
        this.#sealed(client, frame);
        this.#must(
          journal.has(`conversation/${frame.to}`, (event) => isSealing(event, frame)),
          what,
        );
        return;
      case "knock":
        this.#must(
          journal.has(`session/${frame.id}`, ({ type }) => type === "INITIATED"),
          what,
        );
        return;
      case "knock_accept":
        if (Array.isArray(frame.arrived)) {
          for (const id of frame.arrived)
            this.#must(holds(journal, `conversation/${frame.to}`, id), `arrival of ${id}`);
          return;
        }
        this.#must(
          journal.has(`session/${frame.knock_id}`, ({ type }) => type === "ACCEPTED"),
          what,
        );
        return;
      case "ack":
        this.#acked(client, journal, frame);
    }
  }

  #sealed(client: Process, frame: Frame): void {
    const { dh, n } = headerOf(frame);
    const key = `${frame.from} ${dh} ${n}`;
    const ciphertext = String(frame.ciphertext);
    const before = this.#sealedWith.get(key);
    if (before && before.ciphertext !== ciphertext)
      this.#violated(`${client.name} used message key ${n} of ${dh} twice: for ${before.id} and for ${frame.id}`);
    this.#sealedWith.set(key, { ciphertext, id: frame.id });
  }

  #acked(client: Process, journal: DurableJournal, ack: Frame): void {
    const frame = this.#frames.get(`${String(ack.sender)} ${ack.id}`);
    // What its sender keeps until an arrival notice names it may be let go of.
    if (!frame || frame.after !== undefined) return;
    const isKept =
      frame.type === "knock"
        ? () => journal.has(`session/${frame.id}`, ({ type }) => type === "ACCEPTED")
        : () =>
            journal.hasAny(
              "session/",
              (event) => event.type === "DECRYPTED" && sameHeader(headerOf(event), headerOf(frame)),
            );
    if (!isKept()) this.#early.push({ node: client.name, frame, isKept });
  }

  #accepted(client: Process, { id }: Frame): void {
    const from = this.#dids.get(client.name);
    this.#must(
      this.cluster?.mail.hasAny("mail/", (event) => event.id === id && event.from === from),
      `accepted ${id} to ${client.name}`,
    );
  }

  request(process: Process, url: string, init: RequestInit | undefined): void {
    const journal = this.nodes.get(process.name);
    const path = new URL(url).pathname;
    if (!journal) return;
    if (init?.method === "PUT" && path.endsWith("/prekeys"))
      this.#must(
        journal.hasAny("pairing/", ({ type }) => type === "PREKEYS_MADE"),
        `the prekeys of ${process.name}`,
      );
    if (path === "/v1/pair")
      this.#must(
        journal.hasAny("pairing/", ({ type }) => type === "STARTED"),
        `the pairing of ${process.name}`,
      );
  }

  reply(_: Process, url: string, method: string, { status, text }: Reply): void {
    const path = new URL(url).pathname;
    if (status >= 300 || !this.cluster) return;
    const answer = text === "" ? {} : JSON.parse(text);
    const [, , , did = ""] = path.split("/").map(decodeURIComponent);
    if (method === "GET" && path.endsWith("/prekeys") && answer.one_time_pre_key) {
      const taken = answer.one_time_pre_key.key_id;
      this.#must(
        this.cluster.registry.has(`agent/${did}`, (event) => event.type === "PREKEY_TAKEN" && event.key_id === taken) ||
          this.cluster.registry.has(`agent/${did}`, ({ type }) => type === "RESTORED"),
        `one-time prekey ${taken} of ${did}`,
      );
    }
    if (path === "/v1/pair")
      this.#must(
        this.cluster.controller.hasAny("grant/", ({ type }) => type === "BOUND"),
        "a pairing",
      );
  }

  /** From now on nothing is asked for and nothing goes wrong. */
  rest(): void {
    this.#atRest = new Map();
  }

  /** @param most how often a sender may try again in that time to reach one that is not there */
  rested(most: number): void {
    for (const [way, count] of this.#atRest ?? [])
      if (count > most) this.#violated(`${way}: ${count} messages went while nobody asked for anything`);
    this.#atRest = undefined;
  }

  /** At the end of a run. */
  conclude(): void {
    for (const { node, frame, isKept } of this.#early)
      if (isKept()) this.#violated(`${node} acked ${frame.type} ${frame.id} before it was on disk`);
  }
}

/** Whether a message that came in a conversation is on disk, a receipt among them. */
export const holds = (journal: DurableJournal, conversation: string, id: unknown): boolean =>
  journal.has(conversation, (event) => (event.type === "RECEIVED" || event.type === "ACKNOWLEDGED") && event.id === id);

const isSealing = (event: StoredEvent, frame: Frame): boolean =>
  event.type === "SEALED" &&
  event.id === (frame.message_id ?? frame.id) &&
  sameHeader(headerOf(event), headerOf(frame)) &&
  event.nonce === String(frame.ciphertext).slice(0, NONCE_CHARACTERS);
