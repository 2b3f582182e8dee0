import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Mesh } from "../actors/mesh.ts";
import type { PersistedState } from "../actors/state.ts";
import { MeshError } from "../errors.ts";
import { definitionOf } from "./definitions.ts";
import {
  INSPECTOR_CONNECTIONS_MAX,
  VIEWER_BUFFER_SIZE_MAX,
  VIEWER_CLOSE_WAIT_MS,
  VIEWER_MESSAGE_SIZE_MAX,
  VIEWERS_MAX,
  WELCOME_BUFFER_SIZE_MAX,
} from "./limits.ts";
import { actorMessage, eventMessage, type StatelyMessage, snapshotMessage } from "./stately.ts";

// The live system as Stately inspection messages, on a WebSocket of this machine alone. Whoever looks must know the token; a web
// page of another origin is refused even with it, and so is a name that was bent to point here. Viewers only look.

const HOST = "127.0.0.1";
const TOKEN_SIZE = 32;

export interface Inspector {
  /** `ws://127.0.0.1:PORT/?token=…`: whoever has it can look. */
  readonly url: string;
  /** Ends every viewer and the server. */
  close(): Promise<void>;
}

/** What `watch` tells: an actor's state, and the event that made it (null for those that were there before). */
interface News {
  readonly stream: string;
  readonly state: PersistedState;
  readonly event: { readonly type: string } | null;
  /** Epoch milliseconds. */
  readonly at: number;
}
const isNews = (news: unknown): news is News =>
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

const LOCAL_NAME = /^(127\.0\.0\.1|localhost)(:\d{1,5})?$/i;
const LOCAL_ORIGIN = /^https?:\/\/(127\.0\.0\.1|localhost)(:\d{1,5})?$/i;

function isToken(given: string | null, token: string): boolean {
  const digest = (text: string) => hash("sha256", text, "buffer");
  return given !== null && timingSafeEqual(digest(given), digest(token));
}

/** Why a request is not let in, as an HTTP status; undefined when it is. */
function refusalOf(request: IncomingMessage, token: string, viewers: number): string | undefined {
  const { host, origin } = request.headers;
  if (host === undefined || !LOCAL_NAME.test(host)) return "403 Forbidden";
  if (origin !== undefined && !LOCAL_ORIGIN.test(origin)) return "403 Forbidden";
  const address = `http://${HOST}${request.url ?? "/"}`;
  if (!URL.canParse(address)) return "400 Bad Request";
  if (!isToken(new URL(address).searchParams.get("token"), token)) return "401 Unauthorized";
  return viewers >= VIEWERS_MAX ? "503 Service Unavailable" : undefined;
}

/** One viewer: welcomed with every actor there is, then told of what happens. */
class Viewer {
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
      if (this.#socket.bufferedAmount > WELCOME_BUFFER_SIZE_MAX) await this.#drained();
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

  /** When what waits for it now has been written, or it is gone. */
  #drained(): Promise<void> {
    // A ping is called back behind everything that was sent before it, and with an error when the socket ends.
    return new Promise((resolve) => this.#socket.ping(undefined, undefined, () => resolve()));
  }
}

/**
 * Shows a mesh to inspectors until it or the mesh is closed.
 * @param options.port 0, unless given, picks a free one
 * @throws MeshError `input_invalid` when the port cannot be listened on
 */
export async function startInspector(
  mesh: Pick<Mesh, "call" | "closed">,
  { port = 0 }: { readonly port?: number | undefined } = {},
): Promise<Inspector> {
  const token = randomBytes(TOKEN_SIZE).toString("base64url");
  const actors = new Map<string, News>();
  const viewers = new Set<Viewer>();
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: VIEWER_MESSAGE_SIZE_MAX,
  });

  const server = createServer((request, response) => {
    const [status = "", reason] = (refusalOf(request, token, 0) ?? "426 Upgrade Required").split(/ (.*)/);
    response.writeHead(Number(status), reason, { connection: "close" }).end();
  });
  server.maxConnections = INSPECTOR_CONNECTIONS_MAX;
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A socket that breaks before it is a WebSocket has nobody to tell.
    socket.on("error", () => socket.destroy());
    const refusal = refusalOf(request, token, sockets.clients.size);
    if (refusal) socket.end(`HTTP/1.1 ${refusal}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    else sockets.handleUpgrade(request, socket, head, (opened) => admit(opened));
  });

  function admit(socket: WebSocket): void {
    const viewer = new Viewer(socket);
    viewers.add(viewer);
    socket.on("error", () => socket.terminate());
    socket.on("close", () => viewers.delete(viewer));
    socket.on("message", () => socket.close(1008, "this stream is read-only"));
    void viewer.welcome(actors);
  }

  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(
        new MeshError("input_invalid", `Port ${port} of ${HOST} cannot be listened on: ${cause.message}.`, { cause }),
      ),
    );
    server.listen(port, HOST, resolve);
  });
  const address = server.address();
  if (typeof address !== "object" || !address) throw new Error("the server has no port");

  const ended = new AbortController();
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= (async () => {
      ended.abort();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets.clients) {
        socket.close(1001, "the mesh is closed");
        // Whoever does not answer the closing handshake is not waited for.
        setTimeout(() => socket.terminate(), VIEWER_CLOSE_WAIT_MS).unref();
      }
      server.closeAllConnections();
      await closed;
    })();
    return closing;
  };

  const onProgress = (news: unknown) => {
    if (ended.signal.aborted || !isNews(news)) return;
    actors.set(news.stream, news.event ? news : { ...news, at: Date.now() });
    for (const viewer of viewers) viewer.tell(news);
  };
  // However the watch ends, there is nothing more to show: the mesh is closed or out of reach.
  mesh.call("watch", {}, { signal: ended.signal, onProgress }).then(close, close);
  mesh.closed.then(close, close);

  return { url: `ws://${HOST}:${address.port}/?token=${token}`, close };
}
