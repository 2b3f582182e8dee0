// What the server tells. This module needs no other and runs as soon as it is here, so that the server tells its first while the rest of
// the page is still on its way.

export const token = new URL(location.href).searchParams.get("token") ?? "";

const socket = new WebSocket(`ws://${location.host}/feed?${new URLSearchParams({ token })}`);
const waiting: string[] = [];
const keep = ({ data }: MessageEvent): void => void waiting.push(String(data));
socket.addEventListener("message", keep);

/**
 * Tells what came and what comes, in order.
 * @param onClose with the reason that the server gives, if any; at once when it is closed already
 */
export function listen(onMessage: (text: string) => void, onOpen: () => void, onClose: (reason: string) => void): void {
  if (socket.readyState === WebSocket.CONNECTING) socket.addEventListener("open", onOpen);
  else onOpen();
  socket.removeEventListener("message", keep);
  for (const text of waiting.splice(0)) onMessage(text);
  socket.addEventListener("message", ({ data }) => onMessage(String(data)));
  if (socket.readyState === WebSocket.CLOSED) onClose("");
  else socket.addEventListener("close", ({ reason }) => onClose(reason));
}
