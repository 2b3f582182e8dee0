import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { openCluster } from "../../src/cluster/local.ts";

// The real OpenClaw in a folder of its own, with the plugin's package as run.mjs has laid it out.

const cache = fileURLToPath(new URL("../../.cache/openclaw", import.meta.url));
/** The plugin's package, its dependencies beside it. */
export const packageFolder = join(cache, "package");
const NEWEST: Installation = { program: join(cache, "node_modules/openclaw/openclaw.mjs"), node: process.execPath };
const GATEWAY_TOKEN = "test-gateway-token";
const START_WAIT_MS = 120_000;
const CALLS = fileURLToPath(new URL("calls.mjs", import.meta.url));
const NETWORK =
  /^(?:npm_config_(?:registry|cafile|cache|userconfig)|node_extra_ca_certs|ssl_cert_(?:file|dir)|(?:https?|all|no)_proxy)$/i;

/** What is undone when it ends: a test, or who stands in for one. */
export type Scope = Pick<TestContext, "after">;

/** A release of OpenClaw, and the Node that runs it. */
export interface Installation {
  readonly program: string;
  readonly node: string;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return address.port;
}

export async function temporaryFolder(test: Scope): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "kars-openclaw-"));
  test.after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

export interface Output {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface OpenClaw {
  readonly folder: string;
  /** The state directory of the plugin. */
  readonly home: string;
  run(args: readonly string[]): Promise<Output>;
  /** A shell script that does the same with its arguments, for a process that runs elsewhere. */
  readonly script: string;
  /** Writes the configuration anew. @param extra beside gateway and plugin, or in their place */
  configure(extra: Extra): Promise<void>;
  /** Starts a gateway; `invoke` calls a tool in it. */
  gateway(): Promise<Gateway>;
  /** Opens OpenClaw's client of the gateway, which calls its methods one by one. @throws what the gateway refuses */
  calls(): (method: string, params: object) => Promise<unknown>;
}

export interface Gateway {
  /** Asks for a page, with the gateway's token or without. */
  get(path: string, withToken?: boolean): Promise<{ readonly status: number; readonly text: string }>;
  invoke(tool: string, args: object): Promise<{ readonly status: number; readonly body: unknown }>;
  /** Asks the agent; resolves when it has answered. */
  ask(session: string, message: string): Promise<void>;
  /** What it has logged so far. */
  log(): string;
  /** Resolves when it logs this from now on. */
  logs(text: string): Promise<void>;
  stop(): Promise<void>;
}

/** What this machine needs to reach its registry: `plugins install` runs npm, and HOME is another one. */
const ownSettings = (): NodeJS.ProcessEnv => ({
  NPM_CONFIG_USERCONFIG: join(homedir(), ".npmrc"),
  NPM_CONFIG_CACHE: join(homedir(), ".npm"),
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => NETWORK.test(name))),
});

const endOf = async (child: ChildProcess) => {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
};

/** Keys of the configuration; `gateway` is added to. */
export interface Extra {
  readonly gateway?: object;
  readonly [key: string]: unknown;
}

export interface OpenClawOptions {
  /** Of the agent on the mesh. */
  readonly name?: string;
  /** The plugin's state directory, if it is another one's. */
  readonly home?: string;
  readonly installation?: Installation;
}

/** @param extra further configuration, beside gateway and plugin or in their place */
export async function openOpenClaw(test: Scope, extra: Extra = {}, options: OpenClawOptions = {}): Promise<OpenClaw> {
  const folder = await temporaryFolder(test);
  const { name = "alice", home = join(folder, "mesh"), installation = NEWEST } = options;
  const port = await freePort();
  const configure = ({ gateway, ...others }: Extra) => {
    const config = {
      gateway: { mode: "local", port, bind: "loopback", auth: { mode: "token", token: GATEWAY_TOKEN }, ...gateway },
      logging: { file: join(folder, "openclaw.log") },
      tools: { toolSearch: false },
      plugins: {
        allow: ["kars-mesh"],
        load: { paths: [packageFolder] },
        entries: { "kars-mesh": { enabled: true, config: { home, name } } },
      },
      ...others,
    };
    return writeFile(join(folder, "openclaw.json"), JSON.stringify(config));
  };
  await configure(extra);
  const env = {
    ...ownSettings(),
    PATH: process.env.PATH,
    HOME: folder,
    USERPROFILE: folder,
    OPENCLAW_HOME: folder,
    OPENCLAW_STATE_DIR: join(folder, "state"),
    OPENCLAW_CONFIG_PATH: join(folder, "openclaw.json"),
    OPENCLAW_SKIP_CHANNELS: "1",
  };
  const script = join(folder, "openclaw.sh");
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const setting = Object.entries(env).map(([variable, value]) => `${variable}=${quoted(value ?? "")}`);
  const words = [...setting, quoted(installation.node), quoted(installation.program)];
  await writeFile(script, `cd ${quoted(folder)} && exec env -i ${words.join(" ")} "$@"\n`);
  const endsWithTheTest = (child: ChildProcess) =>
    test.after(async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await endOf(child);
    });
  const start = (args: readonly string[]) => {
    const child = spawn(installation.node, [installation.program, ...args], {
      cwd: folder,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const output = { stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      output.stderr += text;
    });
    endsWithTheTest(child);
    return { child, output };
  };

  return {
    folder,
    home,
    script,
    configure,
    async run(args) {
      const { child, output } = start(args);
      await once(child, "close");
      return { code: child.exitCode, ...output };
    },
    calls() {
      const child = spawn(installation.node, [CALLS, dirname(installation.program)], {
        cwd: folder,
        env,
        stdio: ["pipe", "pipe", "inherit"],
      });
      endsWithTheTest(child);
      const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      return async (method, params) => {
        child.stdin.write(`${JSON.stringify([method, params])}\n`);
        const { value } = await answers.next();
        const { result, error } = JSON.parse(value ?? '{"error": "the client ended"}');
        if (error !== undefined) throw new Error(`${method}: ${error}`);
        return result;
      };
    },
    async gateway() {
      const { child, output } = start(["gateway", "run"]);
      const log = () => `${output.stdout}\n${output.stderr}`;
      const url = `http://127.0.0.1:${port}`;
      const deadline = Date.now() + START_WAIT_MS;
      for (;;) {
        if (child.exitCode !== null) throw new Error(`The gateway ended: ${log()}`);
        if (Date.now() > deadline) throw new Error(`The gateway is not ready: ${log()}`);
        const ready = await fetch(`${url}/readyz`).then(
          ({ ok }) => ok,
          () => false,
        );
        if (ready) break;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      const post = async (path: string, body: object) => {
        const response = await fetch(url + path, {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${GATEWAY_TOKEN}` },
          body: JSON.stringify(body),
        });
        return { status: response.status, body: await response.json() };
      };
      return {
        log,
        async get(path, withToken = true) {
          const headers = withToken ? { authorization: `Bearer ${GATEWAY_TOKEN}` } : {};
          const response = await fetch(url + path, { headers });
          return { status: response.status, text: await response.text() };
        },
        logs(text) {
          const before = log().split(text).length;
          return new Promise((resolve) => {
            const look = () => {
              if (log().split(text).length === before) return;
              for (const stream of [child.stdout, child.stderr]) stream.off("data", look);
              resolve();
            };
            for (const stream of [child.stdout, child.stderr]) stream.on("data", look);
          });
        },
        invoke: (tool, args) => post("/tools/invoke", { tool, args }),
        async ask(session, content) {
          const { status, body } = await post("/v1/chat/completions", {
            model: "openclaw",
            user: session,
            messages: [{ role: "user", content }],
          });
          if (status !== 200) throw new Error(`${status}: ${JSON.stringify(body)}\n${log()}`);
        },
        async stop() {
          child.kill("SIGTERM");
          await endOf(child);
        },
      };
    },
  };
}

/** A local cluster, and tokens for it. */
export async function startCluster(test: Scope, options: { readonly runner?: string } = {}) {
  const directory = await temporaryFolder(test);
  const cluster = await openCluster({ directory, host: "127.0.0.1", port: 0, name: "testbed", ...options });
  test.after(() => cluster.close());
  return {
    token: async (name: string): Promise<string> => {
      const grant = { name, slots: 2, capabilities: ["offload"], expires_ms: 3_600_000 };
      return (await cluster.call("grant_issue", grant)).token;
    },
  };
}
