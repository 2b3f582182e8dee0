import { randomUUID } from "node:crypto";
import { AckPolicy, DeliverPolicy, JetStreamApiError } from "@nats-io/jetstream";
import { MeshError } from "../../errors.ts";
import { type Bus, unavailable } from "./bus.ts";
import { HomeFiles, Misfit } from "./home-files.ts";
import { decodeMessage, encodeMessage, type Message, type Operation } from "./home-operation.ts";
import {
  ANSWER_WAIT_MS,
  HOME_ERASED_MAX,
  HOME_FETCH_MAX,
  HOME_MESSAGE_SIZE_MAX,
  HOME_PATIENCE_MS,
  RETRY_REST_MS,
} from "./limits.ts";
import { isFull, patiently } from "./patience.ts";

// The log of a home as its one writer has it. Every message is published with the position of the last one that the writer
// knows, and NATS takes it only when that is the last there is. So of two writers one is refused with its next word, and
// what it said after the other began is nowhere.

const NANOSECONDS = 1_000_000;
/** `wrong last sequence` of the JetStream API. */
const WRONG_LAST_SEQUENCE = 10_071;

const isWrongLast = (error: unknown) => error instanceof JetStreamApiError && error.code === WRONG_LAST_SEQUENCE;
const noSpace = (cause: unknown) => Object.assign(new Error("NATS has no room", { cause }), { code: "ENOSPC" });

const rest = () => new Promise((resolve) => setTimeout(resolve, RETRY_REST_MS));

export class HomeLog {
  readonly files = new HomeFiles();
  readonly #bus: Bus;
  readonly #name: string;
  readonly #subject: string;
  readonly #stream: string;
  readonly #writer = randomUUID();
  readonly #onDeposed: () => void;
  /** How many messages this writer has written. */
  #number = 0;
  /** The position of the last message that is taken in. */
  #last = 0;
  /** Whether something that was refused may have come through, or may still come. */
  #isUncertain = false;
  #ended: MeshError | undefined;

  constructor(bus: Bus, name: string, stream: string, subject: string, onDeposed: () => void) {
    this.#bus = bus;
    this.#name = name;
    this.#stream = stream;
    this.#subject = subject;
    this.#onDeposed = onDeposed;
  }

  /** Deposes whoever wrote it, and takes in all that is there. @throws MeshError `nats_unavailable`, `store_damaged` */
  async open(): Promise<void> {
    // From there on no earlier writer's expectation holds, however much it writes meanwhile.
    const end = await this.#fence();
    const deadline = Date.now() + HOME_PATIENCE_MS;
    let failure: unknown;
    while (this.#last < end) {
      const last = this.#last;
      try {
        await this.#readMany(end);
      } catch (error) {
        if (error instanceof MeshError) throw error;
        failure = error;
        await rest();
      }
      if (this.#last === last && Date.now() > deadline)
        throw unavailable(failure ?? new Error("the log ends too early"));
    }
  }

  /** Writes a fence wherever the log stands. Its position. */
  async #fence(): Promise<number> {
    const fence: Operation = { op: "fence" };
    const message = { writer: this.#writer, number: ++this.#number, operation: fence, bytes: new Uint8Array() };
    const { seq } = await patiently(this.#bus, HOME_PATIENCE_MS, () =>
      this.#bus.js.publish(this.#subject, encodeMessage(message), { timeout: ANSWER_WAIT_MS }),
    );
    return seq;
  }

  /** Reads on by a consumer that is made for it, up to that position or as far as it goes without a loss. */
  async #readMany(end: number): Promise<void> {
    const { consumers } = this.#bus.jsm;
    const info = await consumers.add(this.#stream, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#last + 1,
      inactive_threshold: 10_000 * NANOSECONDS,
      mem_storage: true,
      num_replicas: 1,
    });
    const consumer = this.#bus.js.consumers.getConsumerFromInfo(info);
    try {
      for (let delivered = 0, got = 1; got > 0 && this.#last < end; ) {
        got = 0;
        const messages = await consumer.fetch({ max_messages: HOME_FETCH_MAX, expires: ANSWER_WAIT_MS });
        for await (const message of messages) {
          // One was lost on the way: what follows it must wait.
          if (message.info.deliverySequence !== ++delivered) return;
          this.#take(message.seq, message.data);
          got++;
          if (this.#last >= end) return;
        }
      }
    } finally {
      void consumers.delete(this.#stream, info.name).catch(() => undefined); // It goes by itself a little later.
    }
  }

  /** @throws MeshError `store_damaged` */
  #take(position: number, data: Uint8Array): Message {
    const message = decodeMessage(data);
    const told = (why: string) => new MeshError("store_damaged", `${this.#name}: message ${position}: ${why}.`);
    if (!message) throw told("it is none that this program knows");
    try {
      this.files.apply(position, message);
    } catch (error) {
      throw error instanceof Misfit ? told(error.message) : error;
    }
    this.#last = position;
    return message;
  }

  /** Nothing more can be written or read. */
  end(error: MeshError): void {
    this.#ended ??= error;
  }

  get isEnded(): boolean {
    return this.#ended !== undefined;
  }

  /**
   * Makes certain that `files` are what the log says. Not while something is being written.
   * @throws MeshError `store_io` when another has taken over, or NATS does not answer; `closed`
   */
  async certain(): Promise<void> {
    if (this.#ended) throw this.#ended;
    if (this.#isUncertain) await this.#publish({ op: "fence" }, new Uint8Array(), ANSWER_WAIT_MS);
  }

  get isCertain(): boolean {
    return !this.#ended && !this.#isUncertain;
  }

  /**
   * Writes an operation, in as many messages as its bytes need, and takes it into `files`. Resolves when it is durable.
   * @throws as `certain`; when NATS does not answer it may come through all the same, and `certain` finds out
   */
  async append(operation: Operation, bytes: Uint8Array = new Uint8Array()): Promise<number> {
    await this.certain();
    let parts = 0;
    if (operation.op === "write" || operation.op === "file") {
      for (; bytes.length - parts * HOME_MESSAGE_SIZE_MAX > HOME_MESSAGE_SIZE_MAX; parts++) {
        const begin = parts * HOME_MESSAGE_SIZE_MAX;
        await this.#publish({ op: "part", index: parts }, bytes.subarray(begin, begin + HOME_MESSAGE_SIZE_MAX));
      }
      await this.#publish({ ...operation, parts }, bytes.subarray(parts * HOME_MESSAGE_SIZE_MAX));
    } else await this.#publish(operation, bytes);
    return this.#number;
  }

  async #publish(operation: Operation, bytes: Uint8Array, patience = HOME_PATIENCE_MS): Promise<void> {
    const number = ++this.#number;
    const data = encodeMessage({ writer: this.#writer, number, operation, bytes });
    const deadline = Date.now() + patience;
    for (;;) {
      const begun = Date.now();
      try {
        const { seq } = await this.#bus.js.publish(this.#subject, data, {
          expect: { lastSequence: this.#last },
          timeout: ANSWER_WAIT_MS,
        });
        this.#take(seq, data);
        this.#isUncertain = false;
        return;
      } catch (cause) {
        if (cause instanceof MeshError) throw cause;
        this.#isUncertain = true;
        const behind = isWrongLast(cause) ? await this.#lookBehind(number) : "nothing";
        if (behind === "found") return;
        if (isFull(cause)) throw noSpace(cause);
        if (Date.now() > deadline || this.#bus.nats.isClosed())
          throw new MeshError("store_io", `${this.#name}: ${unavailable(cause).message}`, { cause });
        if (behind === "nothing" && Date.now() < begun + RETRY_REST_MS) await rest();
      }
    }
  }

  /**
   * The log goes on behind what is known here: by what of ours came through without an answer, or by another writer.
   * @returns `found` when the message of that number is among it, `others` when there is something else of ours
   * @throws MeshError `store_io` when another has taken over
   */
  async #lookBehind(number: number): Promise<"found" | "others" | "nothing"> {
    for (let seen: "others" | "nothing" = "nothing"; ; seen = "others") {
      const behind = { seq: this.#last + 1, next_by_subj: this.#subject };
      const next = await this.#bus.jsm.streams.getMessage(this.#stream, behind).catch(() => null);
      if (this.#ended) throw this.#ended;
      if (!next) return seen;
      const isOurs = decodeMessage(next.data)?.writer === this.#writer;
      if (!isOurs) throw this.#deposed();
      const message = this.#take(next.seq, next.data);
      if (message.number === number) {
        this.#isUncertain = false;
        return "found";
      }
    }
  }

  #deposed(): MeshError {
    const error = new MeshError("store_io", `${this.#name}: another process has taken it over.`);
    if (!this.#ended) {
      this.#ended = error;
      this.#onDeposed();
    }
    return error;
  }

  // Making room

  /** Takes out of NATS what no file needs any more, as far as NATS answers now: what is left is taken out later. */
  async erase(): Promise<void> {
    const { superseded } = this.files;
    for (let left = HOME_ERASED_MAX; left > 0; left--) {
      const [position] = superseded;
      if (position === undefined) return;
      await this.#bus.jsm.streams.deleteMessage(this.#stream, position).catch(async (error: unknown) => {
        // One that is gone already is what was wanted.
        const isThere = await this.#bus.jsm.streams.getMessage(this.#stream, { seq: position });
        if (isThere) throw error;
      });
      superseded.shift();
      this.files.erased(position);
    }
  }

  /** Begins the log anew with every file as it is. */
  async checkpoint(): Promise<void> {
    const number = await this.append({ op: "checkpoint" });
    for (const path of this.files.paths) {
      const bytes = this.files.read(path);
      if (bytes) await this.append({ op: "file", path, parts: 0 }, bytes);
    }
    await this.append({ op: "end", checkpoint: number });
    await this.purge();
  }

  /** Removes what lies before the last whole checkpoint. */
  async purge(): Promise<void> {
    if (this.files.begin > 1) await this.#bus.jsm.streams.purge(this.#stream, { seq: this.files.begin });
  }
}
