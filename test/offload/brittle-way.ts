import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A way to a port of this machine that can be cut: every connection over it ends at once, and the next one is let through. */
export interface BrittleWay {
  readonly port: number;
  leadTo(port: number): void;
  /** Gives how many connections it ended. */
  cut(): number;
  close(): void;
}

export async function brittleWay(): Promise<BrittleWay> {
  const ways = new Set<Socket>();
  let target = 0;
  const server = createServer((from) => {
    const to = connect(target, "127.0.0.1");
    ways.add(from);
    const end = () => {
      ways.delete(from);
      from.destroy();
      to.destroy();
    };
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      one.on("error", () => undefined).on("close", end);
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    const ended = ways.size;
    for (const way of ways) way.destroy();
    return ended;
  };
  return {
    port: (server.address() as AddressInfo).port,
    leadTo: (port) => {
      target = port;
    },
    cut,
    close: () => {
      cut();
      server.close();
    },
  };
}
