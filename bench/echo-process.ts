import { createServer } from "node:http";
import { WebSocketServer } from "ws";

// A bare `ws` server that sends every message back to where it came from: what sockets alone take. It prints where it listens
// and ends with its input.

const server = createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on("connection", (socket) => {
  socket.on("message", (data) => socket.send(data, { binary: false }));
  socket.on("error", () => socket.terminate());
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  process.stdout.write(`${JSON.stringify({ url: `ws://127.0.0.1:${port}` })}\n`);
});
process.stdin.resume().on("end", () => {
  for (const socket of sockets.clients) socket.terminate();
  server.close();
});
