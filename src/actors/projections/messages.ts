import { z } from "zod";
import { RECENT_IDS_MAX } from "../../limits.ts";
import type { Commit, Place } from "../../store/journal.ts";
import { MESSAGES_KEPT } from "../limits.ts";
import type { Projection } from "../projection.ts";
import { captureMessages, restoreMessages } from "./message-capture.ts";
import { keyOf, type MessageEntry, MessageList, type MessageState } from "./message-list.ts";

// The messages that people and agents see: who, when, read or not, and where their words lie in the journal. And the ids of
// what was received, to know a repetition.

export type { MessageEntry } from "./message-list.ts";

const Event = z.discriminatedUnion("type", [
  z.object({ type: z.literal("SEND"), id: z.string(), kind: z.string() }),
  z.object({ type: z.literal("RECEIVED"), id: z.string(), kind: z.string() }),
  z.object({ type: z.literal("READ"), ids: z.array(z.string()) }),
  z.object({ type: z.literal("TRANSMITTED"), ids: z.array(z.string()) }),
  z.object({ type: z.literal("RETURNED"), id: z.string() }),
  z.object({ type: z.literal("UNSENT"), ids: z.array(z.string()) }),
  z.object({ type: z.literal("UNDELIVERABLE"), ids: z.array(z.string()) }),
  z.object({ type: z.enum(["ARRIVED", "UNCERTAIN"]), ids: z.array(z.string()) }),
  z.object({
    type: z.literal("ACKNOWLEDGED"),
    id: z.string(),
    delivered: z.array(z.string()),
    read: z.array(z.string()),
  }),
  z.object({ type: z.enum(["HELD", "ADMITTED", "DECLINED", "FORGOTTEN"]) }),
]);

const PREFIX = "conversation/";
/** How a sent message may go on: never back. What nobody delivers was given up before anybody could say more. */
const PROGRESS: readonly MessageState[] = ["queued", "sent", "uncertain", "undeliverable", "delivered", "read"];
export const hasReached = (state: MessageState, wanted: MessageState): boolean =>
  PROGRESS.indexOf(state) >= PROGRESS.indexOf(wanted);

export class MessagesProjection implements Projection {
  readonly name = "messages";
  readonly version = 4;
  readonly #incoming: MessageList;
  readonly #outgoing: MessageList;
  /** Keys of work, and of messages that have left the list, the oldest first. */
  readonly #recent = new Set<string>();
  /** How many unread messages each peer has here. */
  readonly #unread = new Map<string, number>();
  /** Peers that are not admitted: what they say is kept, and nobody is shown it. */
  readonly #held = new Set<string>();

  /** @param kept messages of each direction that are listed when nobody waits for them any more */
  constructor(kept = MESSAGES_KEPT) {
    this.#incoming = new MessageList(kept, (key) => this.#remember(key));
    this.#outgoing = new MessageList(kept);
  }

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
        if (event.kind === "chat") this.#outgoing.put({ id: event.id, peer, at, state: "queued", place });
        return;
      case "RECEIVED":
        if (event.kind !== "chat") this.#remember(keyOf(peer, event.id));
        else this.#putIncoming({ id: event.id, peer, at, state: this.#held.has(peer) ? "held" : "unread", place });
        return;
      case "READ":
        for (const id of event.ids) {
          const entry = this.incoming(peer, id);
          if (entry) this.#putIncoming({ ...entry, state: "read" });
        }
        return;
      case "TRANSMITTED":
        this.#mark(peer, event.ids, "sent");
        return;
      case "RETURNED": {
        const entry = this.outgoing(peer, event.id);
        if (entry) this.#outgoing.put({ ...entry, state: "queued", place });
        return;
      }
      case "UNSENT":
        for (const id of event.ids) {
          const entry = this.outgoing(peer, id);
          if (entry) this.#outgoing.put({ ...entry, state: "queued" });
        }
        return;
      case "ACKNOWLEDGED":
        this.#remember(keyOf(peer, event.id));
        this.#mark(peer, event.delivered, "delivered");
        this.#mark(peer, event.read, "read");
        return;
      case "ARRIVED":
        this.#mark(peer, event.ids, "delivered");
        return;
      case "UNCERTAIN":
        this.#mark(peer, event.ids, "uncertain");
        return;
      case "HELD":
      case "DECLINED":
        this.#held.add(peer);
        return;
      case "ADMITTED":
        this.#held.delete(peer);
        for (const entry of [...this.#incoming.open()])
          if (entry.peer === peer && entry.state === "held") this.#putIncoming({ ...entry, state: "unread" });
        return;
      case "UNDELIVERABLE":
        this.#mark(peer, event.ids, "undeliverable");
        return;
      case "FORGOTTEN":
        // What nobody can read any more counts as read.
        for (const entry of [...this.#incoming.values()])
          if (entry.peer === peer) this.#putIncoming({ ...entry, state: "read", forgotten: true });
        for (const entry of [...this.#outgoing.values()])
          if (entry.peer === peer) this.#outgoing.put({ ...entry, forgotten: true });
    }
  }

  #putIncoming(entry: MessageEntry): void {
    const { peer, id, state } = entry;
    const before = this.incoming(peer, id)?.state;
    const more = Number(state === "unread") - Number(before === "unread");
    this.#unread.set(peer, (this.#unread.get(peer) ?? 0) + more);
    if (this.#unread.get(peer) === 0) this.#unread.delete(peer);
    this.#incoming.put(entry);
  }

  #mark(peer: string, ids: readonly string[], state: MessageState): void {
    for (const id of ids) {
      const entry = this.outgoing(peer, id);
      // A receipt may be given twice, and the one that it was read may come first.
      if (entry && !hasReached(entry.state, state)) this.#outgoing.put({ ...entry, state });
    }
  }

  #remember(key: string): void {
    this.#recent.add(key);
    if (this.#recent.size <= RECENT_IDS_MAX) return;
    const [oldest] = this.#recent;
    if (oldest !== undefined) this.#recent.delete(oldest);
  }

  /** Whether this message was received before. */
  wasReceived(peer: string, id: string): boolean {
    const key = keyOf(peer, id);
    return this.#incoming.get(key) !== undefined || this.#recent.has(key);
  }

  hasUnread(peer: string): boolean {
    return this.#unread.has(peer);
  }

  outgoing(peer: string, id: string): MessageEntry | undefined {
    return this.#outgoing.get(keyOf(peer, id));
  }

  incoming(peer: string, id: string): MessageEntry | undefined {
    return this.#incoming.get(keyOf(peer, id));
  }

  /** Sent messages, oldest first. */
  sent(): IterableIterator<MessageEntry> {
    return this.#outgoing.values();
  }

  /** Unread messages, oldest first: however many there are that were read. */
  unread(): IteratorObject<MessageEntry> {
    return this.#incoming.open().filter(({ state }) => state === "unread");
  }

  /** Received messages, oldest first. */
  received(): IterableIterator<MessageEntry> {
    return this.#incoming.values();
  }

  capture(): unknown {
    return captureMessages({
      incoming: this.#incoming.values(),
      outgoing: this.#outgoing.values(),
      recent: this.#recent,
      held: this.#held,
    });
  }

  /** Takes what was captured, into a projection that has seen nothing yet. @throws when it is in no form that is known */
  restore(state: unknown): void {
    const { incoming, outgoing, recent, held } = restoreMessages(state);
    for (const entry of incoming) this.#putIncoming(entry);
    for (const entry of outgoing) this.#outgoing.put(entry);
    for (const key of recent) this.#recent.add(key);
    for (const peer of held) this.#held.add(peer);
  }
}
