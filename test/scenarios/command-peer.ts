/**
 * A plain peer that is any program: a command that speaks JSON lines. docs/live-test.md says what it is given and what it must answer.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { z } from "zod";
import { atTheEnd } from "../ending.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { wordsOf } from "./laptop.ts";
import { type PeerKind, type PlainPeer, Received } from "./peers.ts";
import type { Stage } from "./stage.ts";

const Line = z.union([
  /** It is on the mesh. */
  z.object({ did: z.string(), leaves: z.boolean().default(false) }),
  /** It read a message. */
  z.object({ from: z.string(), payload: z.unknown() }),
  /** What it was asked for last is done, or could not be done. */
  z.object({ ok: z.string() }),
  z.object({ error: z.string() }),
]);
type Hello = Extract<z.infer<typeof Line>, { did: string }>;

class CommandPeer {
  readonly #command: string;
  readonly #environment: NodeJS.ProcessEnv;
  readonly received = new Received();
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  #hello = Promise.withResolvers<Hello>();
  /** Those who asked for something, in order. */
  #asked: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];

  constructor(command: string, environment: NodeJS.ProcessEnv) {
    this.#command = command;
    this.#environment = environment;
  }

  /** Begins a process. @returns what it said when it was on the mesh */
  start(): Promise<Hello> {
    // A group of its own, so that all that the shell starts ends with it.
    const child = spawn("/bin/sh", ["-c", this.#command], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, ...this.#environment },
      detached: true,
    });
    this.#child = child;
    const hello = Promise.withResolvers<Hello>();
    this.#hello = hello;
    child.stdin.on("error", () => undefined); // The exit that follows is what counts.
    createInterface({ input: child.stdout }).on("line", (text) => this.#told(text));
    this.#ended = once(child, "exit").then(() => {
      const error = new Error(`the peer's command ended: ${this.#command}`);
      hello.reject(error);
      for (const { reject } of this.#asked.splice(0)) reject(error);
    });
    return hello.promise;
  }

  #told(text: string): void {
    const line = Line.parse(JSON.parse(text));
    if ("did" in line) this.#hello.resolve(line);
    else if ("from" in line)
      this.received.add(wordsOf(typeof line.payload === "string" ? line.payload : JSON.stringify(line.payload)));
    else if ("ok" in line) this.#asked.shift()?.resolve();
    else this.#asked.shift()?.reject(new Error(`the peer's command says: ${line.error}`));
  }

  ask(question: object): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject });
      this.#child?.stdin?.write(`${JSON.stringify(question)}\n`);
    });
  }

  async kill(): Promise<void> {
    const pid = this.#child?.pid;
    if (pid === undefined || this.#child?.exitCode !== null || this.#child.signalCode !== null) return;
    process.kill(-pid, "SIGKILL");
    await this.#ended;
  }
}

/** @param command a shell command that runs a peer */
export const commandKind = (command: string): PeerKind => ({
  name: "the peer of AGT_PEER_COMMAND",
  readsOurOpening: true,
  async open({ relayUrl, registryUrl }: Stage): Promise<PlainPeer> {
    const directory = await temporaryDirectory();
    const peer = new CommandPeer(command, {
      AGT_RELAY_URL: relayUrl,
      AGT_REGISTRY_URL: registryUrl,
      AGT_PEER_STATE: directory,
      AGT_PEER_NAME: `peer-${directory.slice(-6).toLowerCase()}`,
    });
    atTheEnd(() => peer.kill());
    const { did, leaves } = await peer.start();
    return {
      did,
      received: peer.received.all,
      until: (isSo) => peer.received.until(isSo),
      async say(to, ...texts) {
        for (const text of texts) await peer.ask({ do: "send", to, text });
      },
      async restart() {
        await peer.kill();
        const again = await peer.start();
        if (again.did !== did) throw new Error(`the peer's command is ${again.did} after a restart, and was ${did}`);
      },
      away: leaves ? { leave: () => peer.ask({ do: "leave" }), comeBack: () => peer.ask({ do: "return" }) } : undefined,
    };
  },
});
