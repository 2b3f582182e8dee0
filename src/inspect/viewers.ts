import type { WebSocket } from "ws";
import { type PersistedState, persist } from "../actors/state.ts";
import { asMeshError, MeshError } from "../errors.ts";
import type { Live } from "../page/protocol.ts";
import { definitionOf, partsOf } from "./definitions.ts";
import { foldJournal } from "./fold.ts";
import { VIEWER_BUFFER_SIZE_MAX, WELCOME_BUFFER_SIZE_MAX } from "./limits.ts";
import { redactEvent, redactStream } from "./redact.ts";
import { actorMessage, eventMessage, type StatelyMessage, snapshotMessage } from "./stately.ts";
import { pathsOf, type Timeline } from "./timeline.ts";

// What each kind of viewer is told over its socket, at the pace at which it reads.

/** RFC 6455 section 5.5: a close frame has 125 bytes. */
const CLOSE_REASON_LENGTH = 40;

/** What `watch` tells: an actor's state, and the event that made it (null for those that were there before). */
export interface News {
  readonly stream: string;
  readonly state: PersistedState;
  readonly event: { readonly type: string } | null;
  /** Epoch milliseconds. */
  readonly at: number;
}
export const isNews = (news: unknown): news is News =>
  typeof news === "object" &&
  news !== null &&
  "stream" in news &&
  typeof news.stream === "string" &&
  "state" in news &&
  typeof news.state === "object" &&
  news.state !== null &&
  "event" in news &&
  "at" in news &&
  typeof news.at === "number";

/** When what waits for a viewer now has been written, or it is gone. */
function drained(socket: WebSocket): Promise<void> {
  // A ping is called back behind everything that was sent before it, and with an error when the socket ends.
  return new Promise((resolve) => socket.ping(undefined, undefined, () => resolve()));
}

/** One viewer: welcomed with every actor there is, then told of what happens. */
export class Viewer {
  readonly #socket: WebSocket;
  /** Actors that it knows. What it does not know yet it learns of in its latest state. */
  readonly #told = new Set<string>();
  #isWelcomed = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  /** Tells it of every actor, at the pace at which it reads. Actors that come meanwhile are told of too. */
  async welcome(actors: ReadonlyMap<string, News>): Promise<void> {
    for (const [stream, news] of actors) {
      if (this.#socket.bufferedAmount > WELCOME_BUFFER_SIZE_MAX) await drained(this.#socket);
      if (this.#socket.readyState !== this.#socket.OPEN) return;
      if (!this.#told.has(stream)) this.#introduce(actors.get(stream) ?? news);
    }
    this.#isWelcomed = true;
  }

  /** Tells it of a change. */
  tell(news: News): void {
    const { stream, state, event, at } = news;
    const isNew = !this.#told.has(stream);
    if (isNew && !this.#isWelcomed) return;
    if (isNew) this.#introduce(news);
    const definition = definitionOf(stream);
    if (!definition || !event) return;
    this.#send(eventMessage(stream, definition, event, at));
    this.#send(snapshotMessage(stream, definition, state, event, at));
  }

  #introduce({ stream, state, at }: News): void {
    this.#told.add(stream);
    const definition = definitionOf(stream);
    if (definition) this.#send(actorMessage(stream, definition, state, at));
  }

  #send(message: StatelyMessage): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    if (this.#socket.bufferedAmount > VIEWER_BUFFER_SIZE_MAX) this.#socket.terminate();
    else this.#socket.send(JSON.stringify(message));
  }
}

/** Tells Stately's inspector what happened, as if it happened now: of one stream, or of all. */
export async function retell(socket: WebSocket, home: string | undefined, stream: string | undefined): Promise<void> {
  socket.on("error", () => socket.terminate());
  socket.on("message", () => socket.close(1008, "this stream is read-only"));
  const send = (message: StatelyMessage) => socket.send(JSON.stringify(message));
  const told = new Set<string>();
  try {
    if (home === undefined) throw new MeshError("input_invalid", "There is no history here.");
    for await (const { commit, stream: name, event, before, step } of foldJournal(home, stream)) {
      const definition = definitionOf(name);
      if (!definition) continue;
      if (socket.bufferedAmount > WELCOME_BUFFER_SIZE_MAX) await drained(socket);
      if (socket.readyState !== socket.OPEN) return;
      if (!told.has(name)) send(actorMessage(name, definition, persist(before), commit.at));
      told.add(name);
      send(eventMessage(name, definition, event, commit.at));
      send(snapshotMessage(name, definition, persist(step?.state ?? before), event, commit.at));
    }
    socket.close(1000, "that is all");
  } catch (error) {
    socket.close(1011, asMeshError(error).message.slice(0, CLOSE_REASON_LENGTH));
  }
}

/** Tells a page of an actor that has no journal; it reads of the others there. */
export function tellPage(page: WebSocket, { stream, state, event, at }: News): void {
  if (!definitionOf(stream)?.live || page.readyState !== page.OPEN) return;
  const live: Live = {
    type: "live",
    stream: redactStream(stream),
    state: pathsOf(state.value),
    event: event && redactEvent(partsOf(stream).kind, event).type,
    at,
  };
  page.send(JSON.stringify(live));
}

/** Gives a page what there is of a history, at the pace at which it reads, and then what comes. */
export async function follow(socket: WebSocket, timeline: Timeline): Promise<void> {
  const waiting: string[] = [];
  const send = (message: string) => {
    if (socket.bufferedAmount > VIEWER_BUFFER_SIZE_MAX) socket.terminate();
    else if (socket.readyState === socket.OPEN) socket.send(message);
  };
  let isCaughtUp = false;
  const { messages, stop } = timeline.hear((message) => {
    if (isCaughtUp) send(message);
    else waiting.push(message);
  });
  socket.on("close", stop);
  for (const queue of [messages.values(), taken(waiting)])
    for (const message of queue) {
      if (socket.bufferedAmount > WELCOME_BUFFER_SIZE_MAX) await drained(socket);
      if (socket.readyState !== socket.OPEN) return;
      send(message);
    }
  isCaughtUp = true;
}

function* taken<T>(queue: T[]): Generator<T> {
  for (let first = queue.shift(); first !== undefined; first = queue.shift()) yield first;
}
