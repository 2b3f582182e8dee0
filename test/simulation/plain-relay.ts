import type { RelaySocket, SocketEnd } from "../../src/cluster/connection.ts";
import { didOf, utf8, verify } from "../../src/crypto/index.ts";
import { MAILBOX_AGE_MAX_MS } from "../../src/limits.ts";
import type { FrameText } from "../../src/wire/frame-text.ts";
import type { Dice } from "./dice.ts";
import { Machine, Process } from "./process.ts";
import type { World } from "./world.ts";

// A relay that forgets, as the reference relay does. It answers no connect and confirms no frame. It stores only for a
// recipient that is away, in memory, and gives what it stored at every connect until the recipient acks it. What it routes
// live it never gives again. Its restart forgets all mail and all connections.

export const RELAY_AUTHORITY = "127.0.0.1:7080";

const FIRST_FRAME_MS = 10_000;
const IDLE_MS = 90_000;
/** How long after its last heartbeat a connection is given no more live frames. */
const STALE_MS = 90_000;
const REPLAY_MS = 5 * 60_000;
/** Between two stored frames that it gives: another connection's frame may come in between. */
const GIVING_MS = 3;

interface Frame {
  readonly type?: unknown;
  readonly [field: string]: unknown;
}
interface Stored {
  readonly to: string;
  readonly text: string;
  readonly expiresAt: number;
}
/** As Python's `json.dumps` writes it. */
export function dumps(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(dumps).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, each]) => `${JSON.stringify(key)}: ${dumps(each)}`)
    .join(", ")}}`;
}

function parsed(text: string): Frame | undefined {
  try {
    const json: unknown = JSON.parse(text);
    return typeof json === "object" && json !== null ? { ...json } : undefined;
  } catch {
    // What is no JSON ends the connection.
    return undefined;
  }
}

const bytesOf = (base64: unknown) => new Uint8Array(Buffer.from(String(base64), "base64"));

/** Why a connect does not prove that its sender holds the DID's key; undefined when it does. */
function unproved({ from, public_key, timestamp, signature }: Frame, now: number): string | undefined {
  if (![from, public_key, timestamp, signature].every((field) => typeof field === "string"))
    return "connect frame missing did/public_key/timestamp/signature";
  const key = bytesOf(public_key);
  if (key.length !== 32) return "public_key must be 32 bytes";
  if (didOf(key) !== from) return "DID does not match public_key (sha256 mismatch)";
  if (Math.abs(now - Date.parse(String(timestamp))) > REPLAY_MS) return "timestamp outside replay window";
  const isSigned = verify(key, utf8.encode(String(timestamp)), bytesOf(signature));
  return isSigned ? undefined : "invalid signature";
}

/** Why a first frame is refused, and the code that its connection is closed with. */
function refusalOf(frame: Frame, now: number): { readonly code: number; readonly detail: string } | undefined {
  if (frame.type !== "connect") return { code: 4001, detail: "First frame must be 'connect'" };
  if (typeof frame.from !== "string" || frame.from === "") return { code: 4002, detail: "Missing 'from' field" };
  const reason = unproved(frame, now);
  return reason === undefined ? undefined : { code: 4005, detail: `DID proof failed: ${reason}` };
}

/** The relay's server, on a machine of its own: someone starts it again whenever it has ended. */
export class PlainRelay {
  readonly machine: Machine;
  process: Process | undefined;
  readonly world: World;
  /** The newest connection of each agent. */
  agents = new Map<string, Connection>();
  /** What is stored, by id: ids are known in common, whoever sent it. */
  mail = new Map<string, Stored>();
  readonly #dice: Dice;
  #incarnation = 0;

  constructor(world: World) {
    this.world = world;
    this.#dice = world.dice.of("relay's losses");
    this.machine = new Machine("relay", world.around);
  }

  start(): void {
    const { clock, dice, network, around } = this.world;
    const process = new Process("relay", this.machine, around, this.#incarnation++);
    this.process = process;
    this.agents = new Map();
    this.mail = new Map();
    process.onDeath(() => {
      if (this.process !== process) return;
      if (this.mail.size > 0) this.world.counted("mail forgotten");
      this.process = undefined;
      clock.in(dice.skewed(20, 15_000), () => {
        if (!this.process) this.start();
      });
    });
    this.world.trace("relay starts");
    network.listen(RELAY_AUTHORITY, {
      process,
      accept: (socket) => new Connection(this, process, socket),
      answer: async () => ({ status: 404, headers: {}, text: "" }),
    });
  }

  route(from: string, frame: Frame): void {
    const { to, id } = frame;
    if (frame.from !== undefined && frame.from !== from) return;
    if (typeof to !== "string" || typeof id !== "string") return;
    if (this.#dice.chance(this.world.network.faults.drop)) {
      this.world.counted("frame lost by the relay");
      return;
    }
    const now = this.world.clock.now();
    const text = dumps({ ...frame, from });
    const agent = this.agents.get(to);
    if (agent && now - agent.beatenAt <= STALE_MS) {
      if (!agent.isEnded) {
        agent.send(text);
        return;
      }
      this.agents.delete(to);
    }
    if (!this.mail.has(id)) this.mail.set(id, { to, text, expiresAt: now + MAILBOX_AGE_MAX_MS });
  }
}

/** One socket. */
class Connection implements SocketEnd {
  beatenAt = 0;
  isEnded = false;
  readonly #relay: PlainRelay;
  readonly #process: Process;
  readonly #socket: RelaySocket;
  #did: string | undefined;
  #disarm: () => void;
  /** Frames that came while stored ones are given: they are read after that. */
  #unread: string[] | undefined;

  constructor(relay: PlainRelay, process: Process, socket: RelaySocket) {
    this.#relay = relay;
    this.#process = process;
    this.#socket = socket;
    this.#disarm = this.#after(FIRST_FRAME_MS, () => this.end(1000));
  }

  #after(duration: number, work: () => void): () => void {
    return this.#relay.world.clock.in(duration, () => this.#process.isAlive && work());
  }

  send(text: string): void {
    this.#socket.send(text, () => undefined);
  }

  came(): boolean {
    return false;
  }

  received(text: FrameText | undefined): void {
    this.#process.mayDie();
    if (!this.#process.isAlive || this.isEnded) return;
    if (this.#unread) this.#unread.push(String(text));
    else this.#read(String(text));
  }
  readonly pinged = () => undefined;
  readonly ponged = () => undefined;
  readonly failed = () => undefined;
  closed(): void {
    this.#disarm();
    this.isEnded = true;
    const { agents } = this.#relay;
    if (this.#did !== undefined && agents.get(this.#did) === this) agents.delete(this.#did);
  }

  end(code: number, reason = ""): void {
    this.closed();
    this.#socket.close(code, reason);
  }

  #read(text: string): void {
    this.#disarm();
    const frame = parsed(text);
    if (!frame) this.end(1000);
    else if (this.#did === undefined) this.#connect(frame);
    else this.#take(this.#did, frame);
    if (!this.isEnded) this.#disarm = this.#after(IDLE_MS, () => this.end(4004));
  }

  #connect(frame: Frame): void {
    const { agents, world } = this.#relay;
    const refusal = refusalOf(frame, world.clock.now());
    if (refusal) {
      this.send(dumps({ type: "error", detail: refusal.detail }));
      this.end(refusal.code);
      return;
    }
    this.#did = String(frame.from);
    agents.get(this.#did)?.end(4006, "session_replaced");
    this.beatenAt = world.clock.now();
    agents.set(this.#did, this);
    this.#give(this.#did);
  }

  /** Gives what was stored, one frame after the other. What is routed live meanwhile overtakes the rest. */
  #give(did: string): void {
    const { mail, world } = this.#relay;
    const stored = [...mail.values()].filter(({ to, expiresAt }) => to === did && expiresAt > world.clock.now());
    this.#unread = [];
    const next = () => {
      const first = stored.shift();
      if (first && !this.isEnded) {
        this.send(first.text);
        // A plain client could not put in order again what overtakes.
        if (world.plainPeer) next();
        else this.#after(world.dice.skewed(0, GIVING_MS), next);
        return;
      }
      const unread = this.#unread ?? [];
      this.#unread = undefined;
      for (const text of unread) if (!this.isEnded) this.#read(text);
    };
    next();
  }

  #take(did: string, frame: Frame): void {
    const { agents, mail, world } = this.#relay;
    switch (frame.type) {
      case "message":
      case "knock":
      case "knock_accept":
      case "knock_reject":
        this.#relay.route(did, frame);
        return;
      case "ack": {
        const id = String(frame.id);
        if (mail.get(id)?.to === did) mail.delete(id);
        return;
      }
      case "heartbeat": {
        const current = agents.get(did);
        if (current) current.beatenAt = world.clock.now();
        return;
      }
      case "disconnect":
        agents.get(did)?.end(1000);
        return;
      default:
        this.send(dumps({ type: "error", detail: `Unknown frame type: ${frame.type}` }));
    }
  }
}
