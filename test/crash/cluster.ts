/** The processes of an errand as the test holds them: a laptop, and a cluster in one process or in two. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { attach } from "../../src/actors/caller.ts";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import type { Operations } from "../../src/actors/operations.ts";
import { controllerHome } from "../../src/cluster/directory.ts";
import type { ClusterOperations } from "../../src/cluster/household.ts";
import { PROGRAMS } from "../build.ts";
import { childrenOf } from "../processes.ts";

const PART = join(import.meta.dirname, "part.ts");
const NODE = ["--disable-warning=ExperimentalWarning"];
/** What of the errors of a process is shown when it ends by itself. */
const ERRORS_KEPT = 4_000;

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || !address) throw new Error("no port");
  return address.port;
}

/** A program that says with its first line that it is up. */
export class Program {
  readonly #words: readonly string[];
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #errors = "";
  /** Why it ended, if nobody ended it. */
  fault: string | undefined;

  constructor(words: readonly string[]) {
    this.#words = words;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Resolves when it is up; also when it is up already. */
  async start(): Promise<void> {
    if (this.#child) return;
    const child = spawn(process.execPath, [...NODE, ...this.#words], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#errors = (this.#errors + text).slice(-ERRORS_KEPT);
    });
    this.#ended = once(child, "exit").then(([code, signal]) => {
      if (this.#child === child)
        this.fault = `${this.#words.join(" ")} ended by itself (${code ?? signal}): ${this.#errors}`;
      this.#child = undefined;
    });
    const lines = createInterface({ input: child.stdout });
    await Promise.race([once(lines, "line"), this.#ended]);
    if (this.fault !== undefined) throw new Error(this.fault);
  }

  /** Ends it as the power does, or as a person does. Resolves when it is gone. */
  async end(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    child?.kill(signal);
    await this.#ended;
  }
}

const OVER: ReadonlySet<string> = new Set(["done", "error", "cancelled", "lost"]);

/** What `watch` tells of a change. */
interface Change {
  readonly stream: string;
  readonly state: { readonly value: unknown };
  readonly event: { readonly type: string } | null;
}

/** The innermost name but one of a state, which is the phase of an offload. */
function phaseOf(value: unknown): string {
  const inner = typeof value === "object" && value !== null && "active" in value ? value.active : value;
  return typeof inner === "string" ? inner : String(Object.keys(Object(inner))[0]);
}

/** `kars-mesh run` in a process of its own, and whoever asks it. */
export class Laptop {
  readonly home: string;
  readonly program: Program;
  /** The phases that its offloads were seen in, one after the other, also over its deaths. */
  readonly seen = new Map<string, string[]>();
  #mesh: Mesh<Operations> | undefined;
  #looking: (() => void) | undefined;

  constructor(home: string) {
    this.home = home;
    this.program = new Program([PROGRAMS["kars-mesh"], "run", "--json", "--home", home]);
  }

  get mesh(): Mesh<Operations> {
    if (!this.#mesh) throw new Error("the laptop is not running");
    return this.#mesh;
  }

  async start(): Promise<void> {
    if (this.#mesh) return;
    await this.program.start();
    const mesh = await openMesh({ home: this.home });
    if (mesh.role !== "caller") throw new Error("the laptop's own process does not own its home");
    this.#mesh = mesh;
    // It ends with the laptop.
    mesh.call("watch", {}, { onProgress: (change) => this.#take(change as Change) }).catch(() => undefined);
  }

  #take({ stream, state, event }: Change): void {
    const [, id] = /^offload\/(.+)$/.exec(stream) ?? [];
    if (id === undefined || event === null) return;
    const phases = this.seen.get(id) ?? [];
    const phase = phaseOf(state.value);
    if (phases.at(-1) !== phase) phases.push(phase);
    this.seen.set(id, phases);
    this.#looking?.();
  }

  /** Resolves when an offload has been in a phase. @throws when it ends before */
  async reached(id: string, phase: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#looking = () => {
      const phases = this.seen.get(id) ?? [];
      if (phases.includes(phase)) resolve();
      else if (OVER.has(phases.at(-1) ?? "")) reject(new Error(`it was never ${phase}: ${phases.join(", ")}`));
    };
    this.#looking();
    await promise;
  }

  async kill(): Promise<void> {
    await this.program.end();
    await this.#mesh?.closed;
    this.#mesh = undefined;
  }

  /** Ends as a person ends it. */
  async close(): Promise<void> {
    await this.#mesh?.close();
    this.#mesh = undefined;
    await this.program.end("SIGTERM");
  }
}

/** How a cluster is made up: `kars-local up`, or relay with registry in one process and the controller in another. */
export type Layout = "together" | "apart";

export class Cluster {
  readonly directory: string;
  /** Relay and registry. */
  readonly relay: Program;
  /** Whose children the sandboxes are; the same as the relay where they are together. */
  readonly controller: Program;
  #operator: Mesh<ClusterOperations> | undefined;

  constructor(layout: Layout, directory: string, port: number) {
    this.directory = directory;
    const part = (name: string) => new Program([PART, name, directory, String(port)]);
    const whole = () => new Program([PROGRAMS["kars-local"], "up", "--dir", directory, "--port", String(port)]);
    this.relay = layout === "together" ? whole() : part("relay");
    this.controller = layout === "together" ? this.relay : part("controller");
  }

  async start(): Promise<void> {
    // The controller registers itself.
    await this.relay.start();
    await this.controller.start();
  }

  /** Asks the controller as the operator does. */
  async operator(): Promise<Mesh<ClusterOperations>> {
    const known = this.#operator;
    if (known) return known;
    const operator = await attach<ClusterOperations>(controllerHome(this.directory));
    if (!operator) throw new Error("the controller does not answer");
    operator.closed.finally(() => {
      this.#operator = undefined;
    });
    this.#operator = operator;
    return operator;
  }

  /** The processes of its sandboxes, the one that waits for a task among them. */
  get sandboxes(): number[] {
    return childrenOf(this.controller.pid);
  }

  async end(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    await this.#operator?.close();
    await this.controller.end(signal);
    await this.relay.end(signal);
  }
}
