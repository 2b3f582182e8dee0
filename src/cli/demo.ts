import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, extname, join, relative } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type Mesh, openMesh } from "../actors/mesh.ts";
import { isOver, type OffloadView } from "../actors/offloads.ts";
import { openOperator } from "../cluster/local.ts";
import { MeshError } from "../errors.ts";
import { formatHistory, readHistory } from "../inspect/history.ts";
import { DEMO_MAX_MS, FILES_MAX } from "../limits.ts";
import { reportOf, takeCensus } from "./demo-task.ts";

// The whole story on one machine: a cluster, two laptops in processes of their own, words both ways, a real computation over
// this project's own sources, and a laptop that is killed in the middle of it.

const ENDING = extname(import.meta.url);
const besides = (name: string) => fileURLToPath(new URL(`./${name}${ENDING}`, import.meta.url));

const Paired = z.object({ did: z.string(), name: z.string() });
const ClusterUp = z.object({ relay_url: z.string(), registry_url: z.string(), pair_url: z.string() });

/** A process of the demo, and the first line that it prints. */
class Actor {
  readonly #child: ChildProcess;
  readonly #errors: string[] = [];
  readonly firstLine: Promise<string>;
  readonly ended: Promise<number | null>;

  constructor(program: string, args: readonly string[]) {
    this.#child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", besides(program), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { stdout, stderr } = this.#child;
    if (!stdout || !stderr) throw new Error("a child without pipes");
    createInterface({ input: stderr }).on("line", (line) => {
      this.#errors.push(line);
      if (this.#errors.length > 20) this.#errors.shift();
    });
    this.ended = new Promise((resolve) => this.#child.once("close", (code) => resolve(code)));
    this.firstLine = new Promise((resolve, reject) => {
      createInterface({ input: stdout }).once("line", resolve);
      this.ended.then(() => reject(new Error(`${program} ended early: ${this.#errors.join("; ")}`)));
    });
    // Who does not wait for the first line is not concerned by its absence.
    this.firstLine.catch(() => undefined);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }
  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal);
    await this.ended;
  }
}

/** Tells the story as it happens: lines on standard output, or on standard error when that is for JSON. */
class Teller {
  readonly #out: NodeJS.WriteStream;
  #live = false;
  #step = 0;
  constructor(json: boolean) {
    this.#out = json ? process.stderr : process.stdout;
  }
  step(title: string): void {
    this.line(`\n${++this.#step}. ${title}`);
  }
  line(text: string): void {
    if (this.#live) this.#out.write("\r\x1b[K");
    this.#live = false;
    this.#out.write(`${text}\n`);
  }
  /** What `live` showed last stays. */
  keep(): void {
    if (this.#live) this.#out.write("\n");
    this.#live = false;
  }
  /** A line that the next one replaces; without a terminal each stays. */
  live(text: string): void {
    if (!this.#out.isTTY) {
      this.line(text);
      return;
    }
    this.#out.write(`\r\x1b[K${text.slice(0, (this.#out.columns ?? 80) - 1)}`);
    this.#live = true;
  }
}

/** This project's own sources; in an installed package, what was compiled of them. */
function ownSources(): { readonly root: string; readonly files: readonly string[] } {
  const here = fileURLToPath(new URL("../..", import.meta.url));
  const root = existsSync(join(here, "src", "crypto")) ? join(here, "src") : join(here, "dist");
  const files = readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|js)$/.test(entry.name) && !/\.(test|d)\.ts$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  return { root, files };
}

function barOf({ phase, progress }: OffloadView): string {
  const pct = progress.pct ?? 0;
  const filled = Math.round(pct / 5);
  const news = phase === "done" ? "" : (progress.message ?? "");
  return `   ${"█".repeat(filled)}${"░".repeat(20 - filled)} ${String(Math.round(pct)).padStart(3)} %  ${phase}  ${news}`;
}

/** Attaches to the laptop that runs in another process. */
async function reach(home: string): Promise<Mesh> {
  const mesh = await openMesh({ home });
  if (mesh.role === "caller") return mesh;
  await mesh.close();
  throw new Error(`nobody runs ${home}`);
}

function assertSame(what: string, here: string, there: string): void {
  if (here !== there) throw new MeshError("internal", `${what} differs from what was computed here.`);
}

/**
 * Tells the whole story. Everything lives in a new temporary directory, which is kept so that the results can be looked at.
 * @throws MeshError, or whatever went wrong: the demo failed
 */
export async function runDemo({ json }: { readonly json: boolean }): Promise<void> {
  const begun = Date.now();
  const tell = new Teller(json);
  const folder = mkdtempSync(join(tmpdir(), "kars-mesh-demo-"));
  const homeOf = (name: string) => join(folder, name);
  const running: Actor[] = [];
  const open: { close(): Promise<void> }[] = [];
  const start = (program: string, ...args: string[]) => {
    const actor = new Actor(program, args);
    running.push(actor);
    return actor;
  };
  const laptop = async (name: string) => {
    const actor = start("kars-mesh", "run", "--home", homeOf(name), "--json");
    await actor.firstLine;
    const mesh = await reach(homeOf(name));
    open.push(mesh);
    return { actor, mesh };
  };
  const pair = async (name: string, token: string) => {
    const actor = start("kars-mesh", "pair", token, "--home", homeOf(name), "--json");
    return Paired.parse(JSON.parse(await actor.firstLine));
  };
  const giveUp = (reason: string, code: number) => {
    console.error(reason);
    for (const actor of running) actor.end("SIGKILL").catch(() => undefined);
    process.exit(code);
  };
  const limit = setTimeout(() => giveUp("The demo took too long and was given up.", 1), DEMO_MAX_MS);
  const interrupt = () => giveUp("The demo was interrupted.", 130);
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);

  try {
    tell.line(`A cluster and two laptops on this machine, in ${folder}`);

    tell.step("The cluster starts: relay, registry, controller");
    const cluster = start("kars-local", "up", "--dir", homeOf("cluster"), "--port", "0");
    const urls = ClusterUp.parse(JSON.parse(await cluster.firstLine));
    tell.line(`   ${urls.relay_url}  (process ${cluster.pid})`);

    tell.step("The operator makes two tokens, and each laptop pairs with one");
    const operator = await openOperator(homeOf("cluster"));
    open.push(operator);
    const names = ["alice-laptop", "bob-laptop"] as const;
    const tokens: string[] = [];
    for (const name of names) {
      const { token } = await operator.call("grant_issue", {
        name,
        slots: 3,
        capabilities: ["offload", "handoff"],
        expires_ms: 3_600_000,
      });
      tokens.push(token);
    }
    const [forAlice = "", forBob = ""] = tokens;
    for (const { did, name } of await Promise.all([pair("alice", forAlice), pair("bob", forBob)]))
      tell.line(`   ${name} is ${did}`);
    let alice = await laptop("alice");
    const bob = await laptop("bob");

    tell.step("They find each other and talk, end to end encrypted");
    const { agents } = await alice.mesh.call("discover", {});
    tell.line(`   alice discovers: ${agents.map(({ name }) => name).join(", ")}`);
    const exchange = async (from: Mesh, to: Mesh, sender: string, recipient: string, message: string) => {
      await from.call("send", { to: recipient, message });
      const { status, messages } = await to.call("await", { from: [sender], timeout_ms: 15_000 });
      assertSame("The message", message, messages.map(({ body }) => body).join());
      tell.line(`   ${status}: ${sender} -> ${recipient}: "${message}"`);
    };
    await exchange(alice.mesh, bob.mesh, names[0], names[1], "Are you there, Bob?");
    await exchange(bob.mesh, alice.mesh, names[1], names[0], "I am. What are you working on?");

    tell.step("Alice hands a computation to the cluster: a census of this project's own sources");
    const { root, files } = ownSources();
    const staged = homeOf("sources");
    mkdirSync(staged);
    const stagedNames = files.slice(0, FILES_MAX - 1).map((path) => {
      const name = relative(root, path).replaceAll(/[/\\]/g, "-");
      copyFileSync(path, join(staged, name));
      return name;
    });
    const task = besides("demo-task");
    const offload = await alice.mesh.call("offload", {
      task: `run ${basename(task)}`,
      files: [task, ...stagedNames.map((name) => join(staged, name))],
    });
    tell.line(`   offload ${offload.offload_id}: ${stagedNames.length} files and one script`);
    await follow(
      alice.mesh,
      offload.offload_id,
      tell,
      ({ phase, progress }) => phase === "running" && (progress.pct ?? 0) >= 10,
    );

    tell.step(`Alice's process ${alice.actor.pid} is killed (SIGKILL) while it runs`);
    await alice.actor.end("SIGKILL");
    await alice.mesh.closed;
    tell.line("   Bob writes to her meanwhile, and the sandbox works on");
    const missed = ["Alice? You went quiet.", "No hurry, this will wait for you."];
    for (const message of missed) await bob.mesh.call("send", { to: names[0], message });
    alice = await laptop("alice");
    tell.line(`   She is back as process ${alice.actor.pid}: the same identity, the same session, the same offload`);
    const { messages } = await alice.mesh.call("await", { from: [names[1]], timeout_ms: 15_000 });
    const received = [...messages];
    while (received.length < missed.length) {
      const more = await alice.mesh.call("await", { from: [names[1]], timeout_ms: 15_000 });
      if (more.status === "timeout") break;
      received.push(...more.messages);
    }
    assertSame("What Bob wrote", missed.join("\n"), received.map(({ body }) => body).join("\n"));
    for (const { body } of received) tell.line(`   waited for her: "${body}"`);

    const done = await follow(alice.mesh, offload.offload_id, tell, ({ status }) => isOver(status));
    if (done.status !== "done")
      throw new MeshError("cluster_refused", `The offload ended as ${done.status}: ${done.error?.message ?? ""}`);

    tell.step("The result is back");
    tell.line(`   ${done.summary?.split("\n").at(-1) ?? ""}`);
    for (const file of done.files) tell.line(`   ${file.path}  ${file.size} bytes`);
    const report = done.files.find(({ name }) => name === "census.md");
    const local = reportOf(takeCensus(staged, stagedNames));
    assertSame("The census", local, report ? readFileSync(report.path, "utf8") : "");
    tell.line("   Computed once more on this machine: the same, byte for byte.");
    await exchange(alice.mesh, bob.mesh, names[0], names[1], "The census is done. The session went on where it was.");

    tell.step("What the session between them looked like from Alice's journal");
    const { peers } = await alice.mesh.call("peers", {});
    const session = peers.find(({ name }) => name === names[1])?.session;
    const { lines } = await readHistory(homeOf("alice"), { stream: `session/${session}`, limit: 12 });
    for (const line of formatHistory(lines).trimEnd().split("\n")) tell.line(`   ${line}`);
    tell.line(
      `\nAll of it in ${((Date.now() - begun) / 1000).toFixed(1)} s. Look around: npx kars-mesh history --home ${homeOf("alice")}`,
    );
    if (json) {
      const { offload_id, status, summary, files: results, folder: results_folder } = done;
      console.log(
        JSON.stringify({ folder, offload: { offload_id, status, summary, files: results, folder: results_folder } }),
      );
    }
  } catch (error) {
    for (const each of open) await each.close().catch(() => undefined);
    for (const actor of running.reverse()) await actor.end("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
    throw error;
  } finally {
    clearTimeout(limit);
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
    for (const each of open) await each.close().catch(() => undefined);
    for (const actor of running.reverse()) await actor.end("SIGTERM");
  }
}

/** Shows an offload's progress until it is far enough. */
async function follow(
  mesh: Mesh,
  id: string,
  tell: Teller,
  enough: (view: OffloadView) => boolean,
): Promise<OffloadView> {
  let shown = "";
  for (let wait = 0; ; wait = 30_000) {
    const view = await mesh.call("offload_status", { id, wait_ms: wait });
    if (!("offload_id" in view)) throw new Error("asked for one offload, got a list");
    const bar = barOf(view);
    if (bar !== shown) tell.live(bar);
    shown = bar;
    if (enough(view) || isOver(view.status)) {
      tell.keep();
      return view;
    }
  }
}
