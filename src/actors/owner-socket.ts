import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { OWNER_MESSAGE_SIZE_MAX } from "../limits.ts";

// What the owner of a state directory and its callers have in common: where they meet, and how they speak. One JSON message a
// line.
//
//   owner -> caller   {"hello":<process id>}
//   caller -> owner   {"id":1,"call":"send","params":{…}}      {"id":1,"abort":true}
//   owner -> caller   {"id":1,"news":…}  {"id":1,"result":…}  {"id":1,"error":{"code","message"}}
//
// A caller loads this and little else, so that a command beside an owner answers at once.

/** In the state directory: who owns it and where it listens. */
export const OWNER_FILE = "owner.json";

export interface OwnerPlace {
  readonly pid: number | undefined;
  readonly address: string;
}

/** Where an owner listens unless its file says otherwise. */
export const usualAddress = (home: string): string => join(resolve(home), "owner.sock");

/** Who owned the state directory last, as far as is known, and where it listens if it still lives. */
export function placeOfOwner(home: string): OwnerPlace {
  try {
    const known: unknown = JSON.parse(readFileSync(join(home, OWNER_FILE), "utf8"));
    if (typeof known === "object" && known !== null && "pid" in known && "address" in known) {
      const { pid, address } = known;
      if (typeof pid === "number" && typeof address === "string") return { pid, address };
    }
  } catch {
    // Nobody owned it yet, or its disk was full then.
  }
  return { pid: undefined, address: usualAddress(home) };
}

export function writeLine(socket: Socket, message: object): void {
  if (socket.destroyed) return;
  socket.write(`${JSON.stringify(message)}\n`);
  // Who asks and does not read is let go, not remembered.
  if (socket.writableLength > 2 * OWNER_MESSAGE_SIZE_MAX) socket.destroy();
}

/** Each line that is JSON; a line that is not, or is too long, ends the connection. */
export function onLines(socket: Socket, take: (json: unknown) => void): void {
  socket.setEncoding("utf8");
  let unfinished = 0;
  socket.on("data", (chunk: string) => {
    const newline = chunk.lastIndexOf("\n");
    unfinished = newline === -1 ? unfinished + chunk.length : chunk.length - newline;
    if (unfinished > OWNER_MESSAGE_SIZE_MAX) socket.destroy();
  });
  createInterface({ input: socket })
    // It passes the socket's own errors on; the socket's close follows and is what counts.
    .on("error", () => socket.destroy())
    .on("line", (line) => {
      try {
        take(JSON.parse(line));
      } catch {
        // Nothing of ours speaks like that.
        socket.destroy();
      }
    });
}
