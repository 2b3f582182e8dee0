import { hash } from "node:crypto";
import { asMeshError } from "../../errors.ts";
import { DISCOVER_AGENTS_MAX } from "../../limits.ts";
import type { ConversationContext } from "../../machines/conversation/events.ts";
import type { OffloadContext, UntimedOffloadEvent } from "../../machines/offload/events.ts";
import { PROBE_EVERY_MS } from "../../machines/offload/limits.ts";
import type { PayloadOf } from "../../wire/payload.ts";
import type { Agent } from "../agent.ts";
import { type Core, conversationOf } from "../core.ts";
import { compose, type Draft, entriesOnly, join } from "../drafts.ts";
import type { Performers } from "../effects.ts";
import { told } from "../offload-news.ts";
import { offloadOf } from "../offload-view.ts";
import type { Follow, Verdict, Work } from "../work.ts";
import { Deliveries } from "./deliveries.ts";
import { CANDIDATES_MAX, NAME_RETRY_MS } from "./limits.ts";
import { askForMissing } from "./missing.ts";

// Sandboxes of deployed clusters. Their controller names them, and a name proves nothing: several agents may carry it. Of a
// sandbox that says hello it is proved that it was told the offload's id, which no other agent was. One that only answers a
// ping has proved nothing; so it is taken only when no other of that name answers.

/** Known to nobody but us and the agent that was pinged; made anew it is the same. */
const nonceOf = (offload: string, did: string) => hash("sha256", `kars-ping-v1|${offload}|${did}`, "hex");

const HANDLED: Draft = entriesOnly();

/** Online ones first, then those that were seen last. */
const byPresence = (a: Agent, b: Agent) =>
  Number(b.online) - Number(a.online) || (b.last_seen ?? "").localeCompare(a.last_seen ?? "");

export class LegacySandboxes {
  readonly #core: Core;
  readonly #deliveries: Deliveries;
  readonly #again: (peer: string) => void;
  /** Peers whose hello waits until it is known what the sandbox is called, by offload. */
  readonly #waiting = new Map<string, Set<string>>();

  /** @param again has the work of a peer handled that was put off */
  constructor(core: Core, again: (peer: string) => void) {
    this.#core = core;
    this.#again = again;
    this.#deliveries = new Deliveries(core);
    core.system.subscribe(({ stream }) => {
      const peers = this.#waiting.get(stream);
      this.#waiting.delete(stream);
      for (const peer of peers ?? []) this.#again(peer);
    });
  }

  /** Effects of the offload machine. */
  get performers(): Performers {
    return {
      probe: ({ offload }: { offload: string }) => this.#probe(offload),
      deliver: ({ offload }: { offload: string }) => this.#attempt(offload, () => this.#deliveries.deliver(offload)),
    };
  }

  #contextOf(offload: string): OffloadContext | undefined {
    const context: OffloadContext | undefined = this.#core.system.decided(offloadOf(offload))?.snapshot.context;
    return context?.plain === true ? context : undefined;
  }

  #isIn(offload: string, ...phases: readonly string[]): boolean {
    const snapshot = this.#core.system.decided(offloadOf(offload))?.snapshot;
    return phases.some((phase) => snapshot?.matches({ active: phase }) === true);
  }

  async #attempt(offload: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const { code, message } = asMeshError(error);
      if (code === "closed" || code === "store_io") throw error;
      const { entries, secrets, before } = told(this.#core, offload, message, (note) => ({
        type: "FAILED",
        code,
        ...note,
      }));
      await this.#core.system.commit(entries, { secrets, before }).durable;
    }
  }

  /** All agents that carry a name: it is one of their capabilities, and nobody owns it. */
  async #carriers(name: string): Promise<Agent[]> {
    const { registry, keyring } = this.#core;
    const agents = await registry().discover(name, DISCOVER_AGENTS_MAX);
    return agents.filter(({ did }) => did !== keyring.identity.did).sort(byPresence);
  }

  async #probe(offload: string): Promise<void> {
    const { system, note, ports } = this.#core;
    const { sandbox, readyAt } = this.#contextOf(offload) ?? {};
    if (!sandbox?.name) return;
    let carriers: Agent[];
    try {
      carriers = await this.#carriers(sandbox.name);
    } catch (error) {
      const { code, message } = asMeshError(error);
      if (code === "closed" || code === "store_io") throw error;
      note(`The sandbox of offload ${offload} cannot be looked for now: ${message}`);
      return;
    }
    if (!this.#isIn(offload, "probing")) return;
    const round = Math.floor((ports.clock.now() - (readyAt ?? 0)) / PROBE_EVERY_MS);
    for (const { did } of carriers.slice(0, CANDIDATES_MAX)) {
      if (this.#isPinged(offload, did)) continue;
      const ping = compose(
        this.#core,
        did,
        { type: "mesh:ping", nonce: nonceOf(offload, did) },
        // A relay knows ids once for all, so no two agents are told anything under the same one.
        `${offload}.ping.${round}.${did.slice(-16)}`,
      );
      await system.commit(ping.entries, { secrets: ping.secrets, before: ping.before }).durable;
    }
  }

  /** Whether a ping still waits to leave: one is enough. */
  #isPinged(offload: string, did: string): boolean {
    const context: ConversationContext | undefined = this.#core.system.decided(conversationOf(did))?.snapshot.context;
    return context?.outbox.some(({ id }) => id.startsWith(`${offload}.ping.`)) === true;
  }

  /** What follows from work that concerns a deployed cluster alone; undefined of any other. */
  async handle({ peer, id, payload }: Work): Promise<Verdict> {
    switch (payload.type) {
      case "offload_hello":
        return this.#greeted(peer, payload);
      case "mesh:pong":
        return this.#ponged(peer, payload.nonce);
      case "mesh:transfer_chunk_request":
        return (await this.#deliveries.resend(peer, id, payload)) ?? HANDLED;
      case "mesh:ping":
      case "mesh:transfer_complete":
        return HANDLED;
      default:
        return undefined;
    }
  }

  /**
   * What is said to a sandbox of a deployed cluster beside what follows from its work: that a payload which came in chunks is
   * whole, and, when it is done, which chunks are still missing.
   */
  async answered({ peer, id, payload, inChunks }: Work, follow: Follow | undefined): Promise<Follow | undefined> {
    if (!(inChunks || payload.type === "offload_done") || !this.#isSandbox(peer)) return follow;
    const word = inChunks
      ? compose(this.#core, peer, { type: "mesh:transfer_complete", transfer_id: id }, `${id}.complete`)
      : await askForMissing(this.#core, peer);
    return follow ? { ...follow, ...join(follow, word) } : word;
  }

  #isSandbox(peer: string): boolean {
    for (const [, { snapshot }] of this.#core.system.streams("offload")) {
      const { plain, sandbox }: OffloadContext = snapshot.context;
      if (plain && sandbox.did === peer) return true;
    }
    return false;
  }

  #ponged(peer: string, nonce: string): Draft {
    for (const [stream, { snapshot }] of this.#core.system.streams("offload")) {
      const { id }: OffloadContext = snapshot.context;
      if (nonce !== nonceOf(id, peer) || !this.#isIn(id, "probing", "ponged")) continue;
      const event: UntimedOffloadEvent = { type: "PONGED", did: peer };
      return entriesOnly({ stream, event });
    }
    return HANDLED;
  }

  /** A hello counts of an agent that was told the offload's id and carries the name that the controller gave. */
  async #greeted(peer: string, { request_id: offload }: PayloadOf<"offload_hello">): Promise<Verdict> {
    const { note, ports } = this.#core;
    const context = this.#contextOf(offload);
    if (!context || context.sandbox.did === peer) return undefined;
    if (this.#isIn(offload, "requested", "accepted", "spawning")) {
      // The controller has not said yet what its sandbox is called.
      const peers = this.#waiting.get(offloadOf(offload)) ?? new Set();
      this.#waiting.set(offloadOf(offload), peers.add(peer));
      return "later";
    }
    const { sandbox } = context;
    const refuse = (why: string) => {
      note(`A hello for offload ${offload} came from ${peer}, ${why}; ignored.`);
      return HANDLED;
    };
    if (sandbox.did !== null) return refuse("which is not its sandbox");
    if (sandbox.name === null) return undefined;
    try {
      const carriers = await this.#carriers(sandbox.name);
      return carriers.some(({ did }) => did === peer) ? undefined : refuse("which does not carry the sandbox's name");
    } catch (error) {
      const { code } = asMeshError(error);
      if (code !== "registry_unreachable") throw error;
      ports.clock.at(ports.clock.now() + NAME_RETRY_MS, () => this.#again(peer));
      return "later";
    }
  }
}
