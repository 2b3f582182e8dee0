/** Plain peers: agents that speak the protocol of the reference servers and nothing of what this project adds to it. */
import { z } from "zod";
import { type ClientOptions, ReferenceClient } from "../reference/client.ts";
import { wordsOf } from "./laptop.ts";
import type { Stage } from "./stage.ts";
import { awaited } from "./waiting.ts";

export interface PlainPeer {
  readonly did: string;
  /** What it read of ours, in order, also before it was restarted. */
  readonly received: readonly string[];
  say(to: string, ...texts: readonly string[]): Promise<void>;
  /** Resolves when `received` is as wanted. */
  until(isSo: () => boolean): Promise<void>;
  /** Its process dies, and another one begins with the same identity. It has its sessions no more. */
  restart(): Promise<void>;
  /** Lets go of the relay and comes back as the same process, with its sessions. Absent when it cannot. */
  readonly away: { leave(): Promise<void>; comeBack(): Promise<void> } | undefined;
}

/** A kind of plain peer. */
export interface PeerKind {
  readonly name: string;
  open(stage: Stage): Promise<PlainPeer>;
  /** Whether it reads us when we open the session. An old client that looks like one of today does not. */
  readonly readsOurOpening: boolean;
  /** Whether it lets go of a session when it is told to, and knocks when it speaks next. Absent when nobody knows. */
  readonly letsGo?: boolean;
}

/** Keeps what a peer read, and tells who waits for it. */
export class Received {
  readonly all: string[] = [];
  #waiting: (() => void)[] = [];

  add(text: string): void {
    this.all.push(text);
    for (const look of this.#waiting.splice(0)) look();
  }

  until(isSo: () => boolean): Promise<void> {
    const looked = async () => {
      while (!isSo()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    };
    return awaited(
      () => `the plain peer to read more than ${this.all.length} messages: ${this.all.slice(-5)}`,
      looked(),
    );
  }
}

const Payload = z.union([z.string(), z.object({ content: z.string() })]);

/** A stand-in of a reference client. */
async function openStandIn(stage: Stage, manner: NonNullable<ClientOptions["manner"]>): Promise<PlainPeer> {
  const received = new Received();
  const client = await ReferenceClient.open(stage, {
    manner,
    clock: stage.clock,
    onMessage: ({ payload }) => {
      const value = Payload.parse(payload);
      received.add(typeof value === "string" ? wordsOf(value) : value.content);
    },
  });
  return {
    did: client.did,
    received: received.all,
    until: (isSo) => received.until(isSo),
    async say(to, ...texts) {
      for (const content of texts) await client.say(to, manner === "python" ? content : { type: "message", content });
    },
    restart: () => client.restart(),
    away: { leave: () => client.close(), comeBack: () => client.reconnect() },
  };
}

/** Stand-ins of the reference clients, each in its manner. */
export const STAND_INS: readonly (PeerKind & { readonly manner: string })[] = (["typescript", "python"] as const).map(
  (manner) => ({
    name: `a stand-in of the ${manner === "python" ? "Python" : "TypeScript"} client`,
    manner,
    open: (stage) => openStandIn(stage, manner),
    readsOurOpening: true,
    letsGo: manner === "typescript",
  }),
);
