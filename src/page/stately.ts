// Shows the home in a page that receives as `createBrowserReceiver` of @statelyai/inspect does: it is opened, says that it is
// there, and is told from then on. What it is told is what any viewer is told; where it sends that is its own affair, so it is opened
// only when a person says so, and told under its own origin alone.

const CONNECTED = "@statelyai.connected";

export function showElsewhere(page: URL, feed: string): void {
  const other = window.open(page, "stately");
  if (!other) return;
  let socket: WebSocket | undefined;
  addEventListener("message", ({ source, origin, data }) => {
    if (source !== other || origin !== page.origin || data?.type !== CONNECTED) return;
    // It says so again when it was loaded anew, and must be told all again.
    socket?.close();
    socket = new WebSocket(feed);
    socket.addEventListener("message", (message) => {
      if (other.closed) socket?.close();
      else other.postMessage(JSON.parse(String(message.data)), page.origin);
    });
  });
}
