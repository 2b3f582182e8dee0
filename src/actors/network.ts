import { WebSocket } from "ws";
import { FRAME_SIZE_MAX, LINK_OPEN_TIMEOUT_MS } from "../limits.ts";
import type { Network } from "./ports.ts";

/** The real network: WebSockets by `ws`, HTTP by the platform's fetch. */
export const realNetwork: Network = {
  dial(url, events) {
    const socket = new WebSocket(url, {
      maxPayload: FRAME_SIZE_MAX,
      handshakeTimeout: LINK_OPEN_TIMEOUT_MS,
      perMessageDeflate: false,
    });
    let problem = "";
    socket.on("open", () => events.opened());
    socket.on("message", (data, isBinary) => {
      if (!isBinary) events.received(data.toString());
    });
    // A socket that fails reports it here and then closes; the close is what counts.
    socket.on("error", (error) => {
      problem = error.message;
    });
    socket.on("close", (code, reason) => events.closed(code, reason.toString() || problem));
    return {
      send: (text) => {
        if (socket.readyState === WebSocket.OPEN) socket.send(text);
      },
      get buffered() {
        return socket.bufferedAmount;
      },
      close: () => {
        if (socket.readyState === WebSocket.CONNECTING) socket.terminate();
        else socket.close(1000);
      },
    };
  },
  fetch: (url, init) => fetch(url, init),
};
