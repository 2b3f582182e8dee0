import { z } from "zod";
import { RECENT_IDS_MAX } from "../../limits.ts";
import type { Commit, Place } from "../../store/journal.ts";
import type { Projection } from "../projection.ts";

// The messages that people and agents see: who, when, read or not, and where their words lie in the journal. And the ids of
// all that was received, to know a repetition when the relay gives a frame again.

const Message = z.object({
  id: z.string(),
  peer: z.string(),
  at: z.number(),
  direction: z.enum(["in", "out"]),
  /** in: unread | read. out: queued | sent | undeliverable. */
  state: z.enum(["unread", "read", "queued", "sent", "undeliverable"]),
  /** Its words were destroyed. */
  forgotten: z.boolean().optional(),
  place: z.object({ segment: z.string(), offset: z.number(), length: z.number() }),
});
export type MessageEntry = z.infer<typeof Message>;

const Event = z.discriminatedUnion("type", [
  z.object({ type: z.literal("SEND"), id: z.string(), kind: z.string() }),
  z.object({ type: z.literal("RECEIVED"), id: z.string(), kind: z.string() }),
  z.object({ type: z.literal("READ"), ids: z.array(z.string()) }),
  z.object({ type: z.literal("TRANSMITTED"), ids: z.array(z.string()) }),
  z.object({ type: z.literal("UNDELIVERABLE"), ids: z.array(z.string()) }),
  z.object({ type: z.literal("FORGOTTEN") }),
]);

const PREFIX = "conversation/";
const keyOf = (peer: string, id: string) => `${peer} ${id}`;

export class MessagesProjection implements Projection {
  readonly name = "messages";
  readonly version = 1;
  /** By peer and id, in the order of the journal. */
  #incoming = new Map<string, MessageEntry>();
  #outgoing = new Map<string, MessageEntry>();
  #work = new Set<string>();
  /** How many unread messages each peer has here. */
  #unread = new Map<string, number>();

  apply(commit: Commit): void {
    for (const { stream, event } of commit.entries) {
      if (!stream.startsWith(PREFIX)) continue;
      const parsed = Event.safeParse(event);
      if (parsed.success) this.#take(stream.slice(PREFIX.length), parsed.data, commit.at, commit.place);
    }
  }

  #take(peer: string, event: z.infer<typeof Event>, at: number, place: Place): void {
    switch (event.type) {
      case "SEND":
        if (event.kind === "chat") {
          this.#outgoing.set(keyOf(peer, event.id), {
            id: event.id,
            peer,
            at,
            direction: "out",
            state: "queued",
            place,
          });
        }
        return;
      case "RECEIVED":
        if (event.kind === "chat") {
          const { id } = event;
          this.#incoming.set(keyOf(peer, id), { id, peer, at, direction: "in", state: "unread", place });
          this.#unread.set(peer, (this.#unread.get(peer) ?? 0) + 1);
        } else this.#remember(keyOf(peer, event.id));
        return;
      case "READ":
        for (const id of event.ids) {
          if (this.incoming(peer, id)?.state === "unread") this.#unread.set(peer, (this.#unread.get(peer) ?? 1) - 1);
        }
        this.#mark(this.#incoming, peer, event.ids, "read");
        return;
      case "TRANSMITTED":
        this.#mark(this.#outgoing, peer, event.ids, "sent");
        return;
      case "UNDELIVERABLE":
        this.#mark(this.#outgoing, peer, event.ids, "undeliverable");
        return;
      case "FORGOTTEN":
        this.#forget(this.#incoming, peer);
        this.#forget(this.#outgoing, peer);
        this.#unread.delete(peer);
    }
  }

  /** What nobody can read any more counts as read. */
  #forget(index: Map<string, MessageEntry>, peer: string): void {
    for (const [key, entry] of index) {
      if (entry.peer !== peer) continue;
      index.set(key, { ...entry, state: entry.state === "unread" ? "read" : entry.state, forgotten: true });
    }
  }

  #mark(index: Map<string, MessageEntry>, peer: string, ids: readonly string[], state: MessageEntry["state"]): void {
    for (const id of ids) {
      const entry = index.get(keyOf(peer, id));
      if (entry) index.set(keyOf(peer, id), { ...entry, state });
    }
  }

  #remember(key: string): void {
    this.#work.add(key);
    if (this.#work.size <= RECENT_IDS_MAX) return;
    const [oldest] = this.#work;
    if (oldest !== undefined) this.#work.delete(oldest);
  }

  /** Whether this message was received before. */
  wasReceived(peer: string, id: string): boolean {
    const key = keyOf(peer, id);
    return this.#incoming.has(key) || this.#work.has(key);
  }

  hasUnread(peer: string): boolean {
    return (this.#unread.get(peer) ?? 0) > 0;
  }

  outgoing(peer: string, id: string): MessageEntry | undefined {
    return this.#outgoing.get(keyOf(peer, id));
  }

  incoming(peer: string, id: string): MessageEntry | undefined {
    return this.#incoming.get(keyOf(peer, id));
  }

  /** Received messages, oldest first. */
  *received(): Generator<MessageEntry> {
    yield* this.#incoming.values();
  }

  capture(): unknown {
    return { incoming: [...this.#incoming.values()], outgoing: [...this.#outgoing.values()], work: [...this.#work] };
  }

  restore(state: unknown): void {
    const { incoming, outgoing, work } = z
      .object({ incoming: z.array(Message), outgoing: z.array(Message), work: z.array(z.string()) })
      .parse(state);
    this.#incoming = new Map(incoming.map((entry) => [keyOf(entry.peer, entry.id), entry]));
    this.#outgoing = new Map(outgoing.map((entry) => [keyOf(entry.peer, entry.id), entry]));
    this.#work = new Set(work);
    this.#unread = new Map();
    for (const { peer, state: each } of incoming) {
      if (each === "unread") this.#unread.set(peer, (this.#unread.get(peer) ?? 0) + 1);
    }
  }
}
