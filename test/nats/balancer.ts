import { connect, createServer, type Socket } from "node:net";

// What stands before replicas: new connections go in turn to those that say they are ready and serve what is asked for, and
// connections to one that stopped saying so are ended, as load balancers do.

const LOOK_EVERY_MS = 500;
const LOOK_WAIT_MS = 1_000;
const LOOKS_MISSED_MAX = 3;

export interface Target {
  readonly host: string;
  readonly port: number;
  /** What it serves: a relay /ws, a registry all else; everything unless said. */
  readonly role?: "relay" | "registry";
}

/** What a connection is for, by its first line. */
const roleOf = (head: Buffer) => (/^GET \/ws[ ?]/.test(head.toString("latin1", 0, 16)) ? "relay" : "registry");

export interface Balancer {
  readonly port: number;
  /** Resolves when every target says that it is ready. */
  allReady(): Promise<void>;
  close(): Promise<void>;
}

export async function openBalancer(targets: readonly Target[]): Promise<Balancer> {
  const missed = targets.map(() => LOOKS_MISSED_MAX);
  const sockets = targets.map(() => new Set<Socket>());
  let turn = 0;

  async function look(n: number): Promise<void> {
    const { host, port } = targets[n] ?? { host: "", port: 0 };
    try {
      const { ok } = await fetch(`http://${host}:${port}/ready`, { signal: AbortSignal.timeout(LOOK_WAIT_MS) });
      missed[n] = ok ? 0 : LOOKS_MISSED_MAX;
    } catch {
      // It is not there, or does not answer: both are what is looked for.
      missed[n] = (missed[n] ?? 0) + 1;
    }
    if ((missed[n] ?? 0) >= LOOKS_MISSED_MAX) for (const socket of sockets[n] ?? []) socket.destroy();
  }
  const lookAll = () => Promise.all(targets.map((_, n) => look(n)));
  await lookAll();
  const looking = setInterval(lookAll, LOOK_EVERY_MS);

  function forward(client: Socket, head: Buffer): void {
    const role = roleOf(head);
    const able = targets.flatMap((target, n) =>
      missed[n] === 0 && (target.role ?? role) === role ? [{ ...target, n }] : [],
    );
    const target = able[turn++ % Math.max(1, able.length)];
    if (!target) {
      client.destroy();
      return;
    }
    const { n } = target;
    const upstream = connect(target.port, target.host);
    upstream.write(head);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.setNoDelay(true);
      sockets[n]?.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets[n]?.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }
  const waiting = new Set<Socket>();
  const server = createServer((client) => {
    waiting.add(client);
    client.on("error", () => client.destroy());
    client.on("close", () => waiting.delete(client));
    client.once("data", (head) => {
      waiting.delete(client);
      client.pause();
      forward(client, head);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || !address) throw new Error("no port");
  return {
    port: address.port,
    async allReady() {
      while (!missed.every((count) => count === 0)) await new Promise((resolve) => setTimeout(resolve, 50));
    },
    async close() {
      clearInterval(looking);
      for (const all of [...sockets, waiting]) for (const socket of all) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
