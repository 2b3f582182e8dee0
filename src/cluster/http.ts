import type { IncomingMessage, ServerResponse } from "node:http";
import { BODY_DISCARD_SIZE_MAX, HTTP_BODY_SIZE_MAX } from "../limits.ts";
import { requester } from "./address.ts";
import { isOfPage } from "./origin.ts";
import { HttpError, type Reply, type Request } from "./routes.ts";

// Requests of `node:http`, in and out.

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const data of request.iterator({ destroyOnReturn: false })) {
    const chunk: Buffer = data;
    size += chunk.length;
    if (size <= HTTP_BODY_SIZE_MAX) chunks.push(chunk);
    else if (size > BODY_DISCARD_SIZE_MAX) break;
  }
  if (size > HTTP_BODY_SIZE_MAX) {
    throw new HttpError(413, "limit_reached", `The body is larger than ${HTTP_BODY_SIZE_MAX} bytes.`, {
      connection: "close",
    });
  }
  return Buffer.concat(chunks);
}

function send(response: ServerResponse, { status, headers, text }: Reply): void {
  if (response.destroyed || response.headersSent) return;
  const length = text === "" ? {} : { "content-length": Buffer.byteLength(text) };
  response.writeHead(status, { ...headers, ...length });
  response.end(text);
}

/** The client went away in the middle of its body. */
const isGone = (request: IncomingMessage) => request.destroyed && !request.complete;

/** Serves requests. Resolves when the answer has been handed over, and never rejects. */
export const serve =
  (answer: (request: Request) => Promise<Reply>, trustProxy: boolean) =>
  async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const reply = await answer({
      method: request.method ?? "",
      url: request.url ?? "",
      authorization: request.headers.authorization,
      caller: requester(request, trustProxy),
      isOfPage: isOfPage(request.headers),
      read: async () => {
        try {
          return await readBody(request);
        } catch (error) {
          // Nobody is left to be answered, and it is nobody's fault here.
          if (isGone(request)) throw new HttpError(400, "input_invalid", "The body does not end.");
          throw error;
        }
      },
    });
    if (isGone(request)) return;
    send(response, reply);
  };
