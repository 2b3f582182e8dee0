import type { Identity } from "../crypto/index.ts";
import { LINK_BUFFER_SIZE_MAX, RELAY_RETRY_MS } from "../limits.ts";
import type { LinkContext } from "../machines/link/machine.ts";
import { safeParse } from "../parse.ts";
import { ClientFrame, type RoutedFrame } from "../wire/frame.ts";
import { type FrameText, readFrame, writeFrame } from "../wire/frame-text.ts";
import { Addressed, PlainMessage } from "../wire/legacy.ts";
import { connectFrame } from "./connect-frame.ts";
import { Farewell } from "./farewell.ts";
import type { Ports, Socket } from "./ports.ts";
import { Pulse } from "./pulse.ts";
import { RelayComplaints } from "./relay-complaints.ts";
import type { ActorSystem } from "./system.ts";
import { UnknownKinds } from "./unknown-kinds.ts";

// The relay link: performs what the link machine asks for, and carries frames both ways.

export const LINK = "link/relay";

/** Why a frame counts as taken: the relay said that it has it on disk, or it is a plain relay and the socket took it. */
export type Proof = "accepted" | "written";

/** A frame on the wire, and who is told when the relay has it. */
interface Awaiting {
  readonly taken: (proof: Proof) => void;
  readonly isHeld: boolean;
}

export interface LinkOptions {
  readonly system: ActorSystem;
  readonly ports: Ports;
  readonly identity: () => Identity;
  readonly token?: string | undefined;
  /** @param size its length as it came, in characters */
  readonly onFrame: (frame: Exclude<ClientFrame, { type: "connected" | "accepted" | "error" }>, size: number) => void;
  /** A message that is not sealed. Whoever takes it or refuses it acks it. */
  readonly onPlain: (frame: PlainMessage) => void;
  /** The link is up: what is pending may be put on the wire. */
  readonly onUp: () => void;
  readonly onNote: (text: string) => void;
}

/** What a relay says that does not know a frame of ours. */
const UNKNOWN = /unknown/i;

const RELAY_WORDS: ReadonlySet<string> = new Set(["connected", "accepted", "error"]);

export class Link {
  readonly #options: LinkOptions;
  #socket: Socket | undefined;
  readonly #farewell: Farewell;
  #online = false;
  #connection = 0;
  #acknowledges = false;
  #awaiting = new Map<string, Awaiting>();
  /** Frames that waited at the relay when the link came up and have not come yet. */
  #expected = 0;
  #cancelOffer: (() => void) | undefined;
  /** Where the relay is wanted, also while the link is paused. */
  #url: string | undefined;
  #paused = false;
  /** Sockets that were let go of: what still comes through them comes again through the next. */
  readonly #dropped = new WeakSet<Socket>();
  readonly #pulse = new Pulse();
  /** Who waits for room in the socket. */
  #waiting: (() => void)[] = [];
  /** Frames that came and were not in a form that is understood. */
  malformed = 0;
  readonly #unknown: UnknownKinds;
  readonly #complaints: RelayComplaints;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#farewell = new Farewell(options.ports.clock);
    this.#unknown = new UnknownKinds(options.onNote);
    this.#complaints = new RelayComplaints(options.onNote);
    options.system.perform("link", {
      open: ({ url }: { url: string }) => this.#open(url),
      close: () => {
        this.#farewell.cancel();
        this.#socket?.close();
      },
      heartbeat: () => this.#beat(),
      resume: () => options.onUp(),
    });
  }

  get caughtUp(): boolean {
    return this.context?.caughtUp ?? false;
  }
  get online(): boolean {
    return this.#online;
  }
  /** Whether the link is up, and its relay does not confirm what it has on disk. */
  get isPlain(): boolean {
    return this.#online && !this.#acknowledges;
  }
  /** Whether the relay, or the last one, gives again what was not acked. A plain one has forgotten what it gave. */
  get keepsMail(): boolean {
    return this.#acknowledges;
  }
  /** How many times the link has come up. A plain relay may have lost what was sent on an earlier connection. */
  get connection(): number {
    return this.#connection;
  }

  /** What the live machine shows. */
  get context(): LinkContext | undefined {
    return this.#options.system.state(LINK)?.snapshot.context;
  }
  get value(): string {
    const value = this.#options.system.state(LINK)?.snapshot.value;
    return typeof value === "string" ? value : (Object.keys(value ?? { down: 1 })[0] ?? "down");
  }

  connect(relayUrl: string): void {
    this.#url = `${relayUrl.replace(/\/+$/, "")}/ws`;
    if (!this.#paused) this.#tell({ type: "CONNECT", url: this.#url });
  }
  disconnect(): void {
    if (this.#online) this.#send({ v: 1, type: "disconnect", from: this.#options.identity().did });
    if (this.#acknowledges && this.#socket) this.#dropped.add(this.#socket);
    this.#fell();
    this.#tell({ type: "DISCONNECT" });
  }

  /** Nothing is on the wire any more: what was goes again when the link is up. */
  #fell(): void {
    this.#goOn();
    this.#online = false;
    this.#pulse.reset();
    this.#awaiting = new Map();
    this.#cancelOffer?.();
    this.#cancelOffer = undefined;
  }

  /** Lets go of the relay until `proceed`. One that refused us is not asked again for that. */
  pause(): void {
    if (this.value !== "refused") this.disconnect();
    this.#paused = true;
  }
  proceed(): void {
    this.#paused = false;
    if (this.#url !== undefined && this.value === "down") this.#tell({ type: "CONNECT", url: this.#url });
  }

  /** Whether so much waits in the socket that nothing should be added. */
  get isFull(): boolean {
    return this.#online && (this.#socket?.buffered ?? 0) > LINK_BUFFER_SIZE_MAX;
  }

  /** Resolves when the socket has room again, or is gone. */
  async room(): Promise<void> {
    while (this.isFull) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #goOn(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /**
   * Puts a frame on the wire if the link is up. `taken` is called when the relay has it, or never if the link goes down first.
   * @param isHeld whether the frame counts as on the wire until it is disowned, even after the relay has it
   */
  transmit(frame: RoutedFrame | { readonly id: string }, taken: (proof: Proof) => void, isHeld = false): void {
    if (!this.#online) return;
    const { id } = frame;
    if (this.#acknowledges || isHeld) this.#awaiting.set(id, { taken, isHeld });
    this.#socket?.send(writeFrame(frame));
    if (!this.#acknowledges) taken("written");
  }

  /** Whether a frame is on the wire, and its outcome is not known yet. */
  awaits(id: string): boolean {
    return this.#awaiting.has(id);
  }

  /** What the relay says of these frames is of no use any more: what was in them goes in others. */
  disown(ids: readonly string[]): void {
    for (const id of ids) this.#awaiting.delete(id);
  }

  /** Tells the relay that a frame was taken over and needs no keeping. */
  ack({ id, from }: { readonly id: string; readonly from: string }): void {
    this.#send({ v: 1, type: "ack", id, sender: from });
  }

  #beat(): void {
    const socket = this.#socket;
    if (!socket) return;
    const lost = this.#pulse.beat(this.#options.ports.clock.now(), socket.buffered);
    if (lost !== undefined) {
      this.#lost(lost);
      return;
    }
    this.#send({ v: 1, type: "heartbeat", from: this.#options.identity().did, ts: this.#iso() });
    socket.ping();
  }

  /** Lets go of a socket that has not said that it ended. */
  #lost(reason: string): void {
    const socket = this.#socket;
    // What still comes through it comes again through the next; a plain relay gives nothing twice.
    if (this.#acknowledges && socket) this.#dropped.add(socket);
    this.#socket = undefined;
    this.#fell();
    socket?.close();
    this.#closed(1006, reason);
  }

  #closed(code: number, reason: string): void {
    const chance = (this.#options.ports.random(1)[0] ?? 0) / 255;
    this.#tell({ type: "CLOSED", code, ...this.#complaints.closed(code, reason), chance });
  }

  #send(frame: object): void {
    this.#socket?.send(JSON.stringify(frame));
  }
  #iso(): string {
    return new Date(this.#options.ports.clock.now()).toISOString();
  }
  #tell(event: { readonly type: string; readonly [field: string]: unknown }): void {
    this.#options.system.commit([{ stream: LINK, event }]);
  }

  /** What the relay refused stays queued, and is offered again after a while. */
  #offerAgain(): void {
    const { clock } = this.#options.ports;
    this.#cancelOffer ??= clock.at(clock.now() + RELAY_RETRY_MS, () => {
      this.#cancelOffer = undefined;
      if (this.#online) this.#options.onUp();
    });
  }

  #open(url: string): void {
    const before = this.#socket;
    before?.close();
    this.#fell();
    if (before && !this.#acknowledges) {
      this.#socket = undefined;
      this.#farewell.to(before, () => this.#dial(url));
    } else {
      this.#farewell.cancel();
      this.#dial(url);
    }
  }

  #dial(url: string): void {
    const { ports, identity, token } = this.#options;
    let connected = false;
    this.#complaints.dialed();
    const up = (extensions: readonly string[], pending: number) => {
      if (this.#socket !== socket || connected) return;
      connected = true;
      this.#complaints.letIn();
      this.#connection++;
      this.#online = true;
      this.#acknowledges = extensions.includes("accepted");
      this.#expected = pending;
      this.#tell({ type: "OPENED", extensions: [...extensions], pending });
    };
    const socket = ports.network.dial(url, {
      opened: () => {
        socket.send(JSON.stringify(connectFrame(identity(), this.#iso(), token)));
        // A plain relay does not answer a connect; it answers this, with an error. Time would tell nothing: a relay that is
        // far away would be taken for a plain one, and what it never took for transmitted.
        socket.send(JSON.stringify({ v: 1, type: "fetch_pending", from: identity().did }));
      },
      sent: () => {
        if (!this.isFull) this.#goOn();
      },
      answered: () => {
        if (this.#socket === socket) this.#pulse.heard();
      },
      received: (text) => {
        if (this.#dropped.has(socket)) return;
        this.#pulse.heard();
        this.#received(text, up);
      },
      closed: (code, reason) => {
        this.#farewell.ended(socket);
        if (this.#socket !== socket) return;
        this.#socket = undefined;
        this.#fell();
        this.#closed(code, reason);
      },
    });
    this.#socket = socket;
  }

  #received(text: FrameText, up: (extensions: readonly string[], pending: number) => void): void {
    const json = readFrame(text);
    const parsed = safeParse(ClientFrame, json);
    const frame = parsed.data;
    // The relay's own words carry no sender; a peer that could put them into our connection could say `accepted` for it.
    if (!frame || (RELAY_WORDS.has(frame.type) && frame.from !== undefined)) {
      this.#refused(json);
      return;
    }
    switch (frame.type) {
      case "connected":
        up(frame.extensions, frame.pending ?? 0);
        return;
      case "accepted": {
        const awaiting = this.#awaiting.get(frame.id);
        if (!awaiting?.isHeld) this.#awaiting.delete(frame.id);
        awaiting?.taken("accepted");
        return;
      }
      case "error":
        if (frame.id === undefined && UNKNOWN.test(`${frame.code} ${frame.message} ${frame.detail}`)) {
          up([], 0);
          return;
        }
        if (frame.id !== undefined && this.#awaiting.delete(frame.id)) this.#offerAgain();
        this.#complaints.said(frame, this.#online);
        return;
      default:
        if (frame.to === this.#options.identity().did) this.#options.onFrame(frame, text.length);
        else this.malformed++;
        this.#came();
    }
  }

  /** One more of what waited at the relay has come. */
  #came(): void {
    if (this.#expected > 0 && --this.#expected === 0) this.#tell({ type: "CAUGHT_UP" });
  }

  /**
   * What is in no form that is understood is counted. A relay passes on what it cannot read, and keeps it until it is acked:
   * kept, it would come again with every connection, and who sends much of it would fill the mailbox.
   */
  #refused(json: unknown): void {
    const plain = safeParse(PlainMessage, json).data;
    if (plain?.to === this.#options.identity().did) {
      this.#options.onPlain(plain);
      this.#came();
      return;
    }
    this.malformed++;
    this.#unknown.tell(json);
    const { data } = safeParse(Addressed, json);
    if (data?.to !== this.#options.identity().did) return;
    this.ack({ id: data.id, from: data.from });
    this.#came();
  }
}
