import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Mesh } from "../actors/mesh.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { createServer } from "../http.ts";
import type { Ended, Shown } from "../page/protocol.ts";
import { definitionOf } from "./definitions.ts";
import { INSPECTOR_CONNECTIONS_MAX, VIEWER_CLOSE_WAIT_MS, VIEWER_MESSAGE_SIZE_MAX, VIEWERS_MAX } from "./limits.ts";
import { replayStream } from "./moments.ts";
import { showActors } from "./page.ts";
import { redactStream } from "./redact.ts";
import { headersOf, siteFile } from "./site.ts";
import { homeSource } from "./source.ts";
import { Timeline } from "./timeline.ts";
import { follow, isNews, type News, retell, tellPage, Viewer } from "./viewers.ts";

// The live system as Stately inspection messages, and its whole history as the page shows it, on this machine alone. Whoever looks
// must know the token; a web page of another origin, also one of this machine, is refused even with it, and so is a name that was
// bent to point here.
// Viewers only look. The page's own files are no secret: for them the token is not asked.

const HOST = "127.0.0.1";
const TOKEN_SIZE = 32;

export interface Inspector {
  /** `ws://127.0.0.1:PORT/?token=…`, for Stately's inspector: whoever has it can look. */
  readonly url: string;
  /** `http://127.0.0.1:PORT/?token=…`, for a browser. */
  readonly page: string;
  /** Ends every viewer and the server. */
  close(): Promise<void>;
}

/** What tells of somebody. */
const DATA: ReadonlySet<string> = new Set(["/state"]);

const LOCAL_NAME = /^(127\.0\.0\.1|localhost)(:\d{1,5})?$/i;

function isToken(given: string | null, token: string): boolean {
  const digest = (text: string) => hash("sha256", text, "buffer");
  return given !== null && timingSafeEqual(digest(given), digest(token));
}

/** Why a request is not let in, as an HTTP status; undefined when it is. */
function refusalOf(request: IncomingMessage, token: string, viewers: number): string | undefined {
  const { host, origin } = request.headers;
  if (host === undefined || !LOCAL_NAME.test(host)) return "403 Forbidden";
  // A browser sends both, and a page cannot choose either: they agree for the pages of this server alone.
  if (origin !== undefined && origin !== `http://${host}`) return "403 Forbidden";
  const address = `http://${HOST}${request.url ?? "/"}`;
  if (!URL.canParse(address)) return "400 Bad Request";
  const { pathname, searchParams } = new URL(address);
  const isFile = request.headers.upgrade === undefined && pathname !== "/" && !DATA.has(pathname);
  if (!isFile && !isToken(searchParams.get("token"), token)) return "401 Unauthorized";
  return viewers >= VIEWERS_MAX ? "503 Service Unavailable" : undefined;
}

/**
 * Shows a mesh to inspectors until it or the mesh is closed.
 * @param options.port 0, unless given, picks a free one
 * @param options.home where its history is, for the page
 * @throws MeshError `input_invalid` when the port cannot be listened on
 */
export async function startInspector(
  mesh: Pick<Mesh, "call" | "closed">,
  { port = 0, home }: { readonly port?: number | undefined; readonly home?: string | undefined } = {},
): Promise<Inspector> {
  const token = randomBytes(TOKEN_SIZE).toString("base64url");
  const actors = new Map<string, News>();
  const viewers = new Set<Viewer>();
  const pages = new Set<WebSocket>();
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: VIEWER_MESSAGE_SIZE_MAX,
  });

  const timeline = home === undefined ? undefined : new Timeline(home);
  const server = createServer((request, response) => {
    const authority = `${HOST}:${request.socket.localPort}`;
    const say = (status: string, body: string | Buffer = "", type = "text/plain") => {
      const [code = "", reason] = status.split(/ (.*)/);
      response.writeHead(Number(code), reason, headersOf(authority, type)).end(request.method === "HEAD" ? "" : body);
    };
    const refusal = refusalOf(request, token, 0);
    if (refusal) return say(refusal);
    if (request.method !== "GET" && request.method !== "HEAD") return say("405 Method Not Allowed");
    const { pathname, searchParams } = new URL(`http://${HOST}${request.url ?? "/"}`);
    if (pathname === "/state")
      stateOf(searchParams).then(
        (shown) => say("200 OK", JSON.stringify(shown), "application/json"),
        (error: unknown) => say("404 Not Found", asMeshError(error).message),
      );
    else
      siteFile(pathname === "/" ? "index.html" : pathname.slice(1)).then((file) =>
        file ? say("200 OK", file.body, file.type) : say("404 Not Found"),
      );
  });

  /** A stream at a commit; as it is now without one. */
  async function stateOf(parameters: URLSearchParams): Promise<Shown> {
    const stream = parameters.get("stream") ?? "";
    const number = parameters.get("number");
    const live = actors.get(stream);
    if (live && definitionOf(stream)?.live) {
      const { value, context, timers } = live.state;
      const shown = showActors([{ stream, state: { value, context } }])[0];
      return {
        stream: redactStream(stream),
        events: 0,
        number: 0,
        at: new Date(live.at).toISOString(),
        context: shown?.context ?? {},
        timers: Object.entries(timers).map(([id, { at }]) => ({ id, at: new Date(at).toISOString() })),
        accepts: [],
        effects: [],
      };
    }
    if (home === undefined) throw new MeshError("input_invalid", "There is no history here.");
    return replayStream(homeSource(home), stream, number === null ? undefined : { number: Number(number) });
  }
  server.maxConnections = INSPECTOR_CONNECTIONS_MAX;
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A socket that breaks before it is a WebSocket has nobody to tell.
    socket.on("error", () => socket.destroy());
    const refusal = refusalOf(request, token, sockets.clients.size);
    if (refusal) socket.end(`HTTP/1.1 ${refusal}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    else {
      const { pathname } = new URL(`http://${HOST}${request.url ?? "/"}`);
      const stream = new URL(`http://${HOST}${request.url ?? "/"}`).searchParams.get("stream") ?? undefined;
      const served: Readonly<Record<string, (opened: WebSocket) => void>> = {
        "/feed": show,
        "/history": (opened) => void retell(opened, home, stream),
      };
      sockets.handleUpgrade(request, socket, head, served[pathname] ?? admit);
    }
  });

  function admit(socket: WebSocket): void {
    const viewer = new Viewer(socket);
    viewers.add(viewer);
    socket.on("error", () => socket.terminate());
    socket.on("close", () => viewers.delete(viewer));
    socket.on("message", () => socket.close(1008, "this stream is read-only"));
    void viewer.welcome(actors);
  }

  /** Tells a page of the history, and of actors that have none. */
  function show(socket: WebSocket): void {
    socket.on("error", () => socket.terminate());
    socket.on("message", () => socket.close(1008, "this stream is read-only"));
    pages.add(socket);
    socket.on("close", () => pages.delete(socket));
    for (const news of actors.values()) tellPage(socket, news);
    if (timeline) void follow(socket, timeline);
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
    for (const page of pages) tellPage(page, news);
  };
  // However the watch ends, there is nothing more to show: the mesh is closed or out of reach.
  mesh.call("watch", {}, { signal: ended.signal, onProgress }).then(close, close);
  mesh.closed.then(close, close);

  timeline?.run(ended.signal).catch((error: unknown) => {
    const told: Ended = { type: "ended", reason: asMeshError(error).message };
    timeline.end(JSON.stringify(told));
  });

  const place = `${HOST}:${address.port}/?token=${token}`;
  return { url: `ws://${place}`, page: `http://${place}`, close };
}
