import { spawnSync } from "node:child_process";

// A network namespace with two ways to this machine: one to NATS, one to clients. Each can be cut by itself.

function ip(...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync("ip", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr ?? error?.message}`);
}

export interface Namespace {
  readonly name: string;
  /** This machine as the namespace reaches NATS there, and the namespace as clients of this machine reach it. */
  readonly outer: string;
  readonly inner: string;
  cut(way: "nats" | "clients"): void;
  mend(way: "nats" | "clients"): void;
  remove(): void;
}

/** Needs root and `ip` (iproute2). @throws Error where the host does not allow it */
export function openNamespace(): Namespace {
  const name = `kars${process.pid}`;
  const net = 10 + (process.pid % 200);
  const ways = { nats: `10.231.${net}`, clients: `10.232.${net}` };
  const ends = { nats: `kn${process.pid}`.slice(0, 14), clients: `kc${process.pid}`.slice(0, 14) };
  const remove = () => {
    for (const end of Object.values(ends)) spawnSync("ip", ["link", "del", end]);
    spawnSync("ip", ["netns", "del", name]);
  };
  try {
    ip("netns", "add", name);
    ip("netns", "exec", name, "ip", "link", "set", "lo", "up");
    for (const way of ["nats", "clients"] as const) {
      const inside = `${ends[way]}i`;
      ip("link", "add", ends[way], "type", "veth", "peer", "name", inside);
      ip("link", "set", inside, "netns", name);
      ip("addr", "add", `${ways[way]}.1/24`, "dev", ends[way]);
      ip("link", "set", ends[way], "up");
      ip("netns", "exec", name, "ip", "addr", "add", `${ways[way]}.2/24`, "dev", inside);
      ip("netns", "exec", name, "ip", "link", "set", inside, "up");
    }
  } catch (error) {
    remove();
    throw error;
  }
  return {
    name,
    outer: `${ways.nats}.1`,
    inner: `${ways.clients}.2`,
    cut: (way) => ip("link", "set", ends[way], "down"),
    mend: (way) => ip("link", "set", ends[way], "up"),
    remove,
  };
}
