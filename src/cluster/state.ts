import type { FrameText } from "../wire/frame-text.ts";
import type { PreKeysResponse, PreKeysUpload } from "../wire/registry.ts";
import type { Agent } from "./agent.ts";

// What a cluster has to remember, behind one small interface each. Two siblings keep it: `embedded/` in the files of one
// process, `jetstream/` in NATS for as many processes as one likes. One conformance suite holds both.

/** A frame in a mailbox. */
export interface Mail {
  /** Grows with every frame of the mailbox; never used twice. */
  readonly position: number;
  readonly from: string;
  readonly id: string;
  /** The frame as it goes out. */
  readonly text: FrameText;
  /** What it counts as, in bytes. */
  readonly size: number;
  /** When it was stored, in epoch milliseconds. */
  readonly at: number;
}

/** One reader's way through its mailbox. What waited and what comes live are one row, so order is the row's order. */
export interface MailFeed {
  /** How many frames waited when it was opened. */
  readonly pending: number;
  /** How many frames were removed when it was opened, because an earlier feed whose process died may have handed them over. */
  readonly doubted: number;
  /** The next frame that is at hand; undefined when there is none now. Each is given once. */
  next(): Mail | undefined;
  /**
   * Notes that the reader is about to get these frames and must not get them twice. Resolves when the note is durable: only then
   * may they be handed over. If this process dies before they are acked or released, the next feed that gives nothing twice
   * removes them.
   * @throws MeshError when the note cannot be made durable; `closed` when the mailbox has another reader by now
   */
  note(frames: readonly Mail[]): Promise<void>;
  /** Nothing more is handed over. Frames that were noted and not acked are given again by the next feed. */
  release(): void;
  /**
   * Removes the frame of that id: the one of the sender if one is named, else the oldest. Gone at once, durably so a little
   * later; an ack that a crash swallows costs a redelivery.
   */
  ack(id: string, from?: string): void;
  /** Ends it. Resolves when its acks are durable, or lost. */
  close(): Promise<void>;
}

export interface OpenOptions {
  readonly givesOnce?: boolean | undefined;
}

export interface Mailboxes {
  /**
   * Puts a frame into a mailbox. `stored` when it is durable; of one sender and recipient in the order of the calls.
   * `duplicate` when the sender's frame of that id is durable already, waiting or acked; `full` when it was not taken.
   * @throws MeshError `store_io` when it cannot be made durable, or nobody can tell whether it was; `closed`
   */
  put(to: string, from: string, id: string, frame: FrameText): Promise<"stored" | "duplicate" | "full">;
  /**
   * Opens a mailbox to its one reader. What was given to an earlier feed and not acked is given again.
   * @param onMail called when `next` has something again; not before this resolves
   * @param options.givesOnce removes what an earlier feed noted and nobody acked or released
   */
  open(to: string, onMail: () => void, options?: OpenOptions): Promise<MailFeed>;
}

/** A connection that wants to stand for a DID. */
export interface Claim {
  /** When the proof was signed; undefined of one that proves nothing. */
  readonly provenAt: number | undefined;
  /** Called once when it stands no more: another took its place, or the DID's holder proved itself and this one had not. */
  readonly ended: (why: "replaced" | "unproven") => void;
}

/** The place that a connection has taken. */
export interface Place {
  /** Gives it up; nothing happens when another has it by now. */
  leave(): void;
}

/** Who is connected, to whichever replica. One connection stands for a DID: the one whose connect was signed last. */
export interface Presence {
  /**
   * Takes the DID's place. `outdated` when a connection stands that was signed later or at the same time; `unproven` when
   * one with a proof stands and this one has none.
   */
  enter(did: string, claim: Claim): Promise<Place | "outdated" | "unproven">;
  /** A sign of life over HTTP. False, and nothing happens, when the last was less than HTTP_HEARTBEAT_EVERY_MS ago. */
  beat(did: string): Promise<boolean>;
  /** Those of them that are connected, or gave a sign of life in the last RELAY_IDLE_MS. */
  online(dids: readonly string[]): Promise<ReadonlySet<string>>;
  /** The DID's holder proved itself: who stands for it without a proof stands no more. */
  proved(did: string): void;
}

/** What `enter` makes of a claim, given the connection that stands. */
export function judge(standing: { readonly provenAt: number | undefined } | undefined, claim: Pick<Claim, "provenAt">) {
  if (standing?.provenAt === undefined) return "free";
  if (claim.provenAt === undefined) return "unproven";
  return claim.provenAt <= standing.provenAt ? "outdated" : "free";
}

export interface Registration {
  readonly did: string;
  readonly publicKey: string;
  readonly capabilities: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly provedAt: number;
}

type Facts = Pick<Registration, "capabilities" | "metadata">;
/** Whether two registrations of one agent say the same. */
export const sameFacts = (a: Facts, b: Facts): boolean =>
  JSON.stringify([a.capabilities, Object.entries(a.metadata).sort()]) ===
  JSON.stringify([b.capabilities, Object.entries(b.metadata).sort()]);

/**
 * The registry's records. What is asked of one agent is decided and made durable one after the other, whoever asks where.
 * All that changes a record resolves when the change is durable, and rejects with MeshError `store_io` or `closed`.
 */
export interface Agents {
  get(did: string): Promise<Agent | undefined>;
  /** Agents with a capability, or all, of `total`. Where not all fit into memory, at most so many as the sibling's limits say. */
  find(
    capability: string | undefined,
  ): Promise<{ readonly found: readonly (readonly [did: string, agent: Agent])[]; readonly total: number }>;
  /**
   * `registered` when it is new. A known agent is `updated` when it says something else with a proof newer than the last
   * that was accepted, so a repetition of an old request changes nothing; otherwise it `exists`.
   * @throws MeshError `limit_reached`
   */
  register(registration: Registration): Promise<"registered" | "updated" | "exists">;
  /** Registers an agent without a proof: it takes nothing from one that is there, and gives way to one with a proof. */
  claim(registration: Omit<Registration, "provedAt">): Promise<"registered" | "exists">;
  /**
   * Publishes prekeys that were verified. The agent after it; undefined when there is none.
   * @param isSigned whether the agent signed the request; for one that proved nothing it need not
   */
  publish(did: string, upload: PreKeysUpload, isSigned: boolean): Promise<Agent | undefined>;
  /** The agent's bundle with a one-time prekey that nobody else gets, while there are any; undefined when it published none. */
  takeBundle(did: string): Promise<PreKeysResponse | undefined>;
  /** The reputation after a score. */
  rate(did: string, by: string, score: number, reason: string): Promise<number | undefined>;
  remove(did: string): Promise<boolean>;
  /** A sign of life; known at once where it was given, durable now and then. */
  seen(did: string): void;
}

/** All of it. */
export interface ClusterState {
  readonly mailboxes: Mailboxes;
  readonly presence: Presence;
  readonly agents: Agents;
  /** Why nothing can be taken now, in a few words without anybody's name; undefined when it can, as far as is known. */
  trouble?(): string | undefined;
  /** Removes what is too old, and makes room; to be called every few seconds. */
  tidy(now: number): void;
  /** Resolves when all that was asked for is durable or has failed. */
  close(): Promise<void>;
}
