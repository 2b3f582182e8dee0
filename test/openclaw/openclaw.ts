import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { openCluster } from "../../src/cluster/local.ts";

// The real OpenClaw in a folder of its own, with the plugin's package as run.mjs has laid it out.

const cache = fileURLToPath(new URL("../../.cache/openclaw", import.meta.url));
/** The package, as it is installed. */
export const packageFolder = join(cache, "package");
const program = join(cache, "node_modules/openclaw/openclaw.mjs");
const GATEWAY_TOKEN = "test-gateway-token";
const START_WAIT_MS = 60_000;

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return address.port;
}

export async function temporaryFolder(test: TestContext): Promise<string> {
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
  /** Starts a gateway; `invoke` calls a tool in it. */
  gateway(): Promise<Gateway>;
}

export interface Gateway {
  /** Asks for a page, with the gateway's token or without. */
  get(path: string, withToken?: boolean): Promise<{ readonly status: number; readonly text: string }>;
  invoke(tool: string, args: object): Promise<{ readonly status: number; readonly body: unknown }>;
  /** What it has logged so far. */
  log(): string;
  stop(): Promise<void>;
}

const endOf = async (child: ChildProcess) => {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
};

/**
 * @param extra further configuration, beside gateway and plugin
 * @param plugin the name of the agent on the mesh, and the plugin's state directory if it is another one's
 */
export async function openOpenClaw(
  test: TestContext,
  extra: object = {},
  plugin: { readonly name?: string; readonly home?: string } = {},
): Promise<OpenClaw> {
  const folder = await temporaryFolder(test);
  const { name = "alice", home = join(folder, "mesh") } = plugin;
  const port = await freePort();
  const config = {
    gateway: { mode: "local", port, bind: "loopback", auth: { mode: "token", token: GATEWAY_TOKEN } },
    logging: { file: join(folder, "openclaw.log") },
    tools: { toolSearch: false },
    plugins: {
      allow: ["kars-mesh"],
      load: { paths: [packageFolder] },
      entries: { "kars-mesh": { enabled: true, config: { home, name } } },
    },
    ...extra,
  };
  await writeFile(join(folder, "openclaw.json"), JSON.stringify(config));
  const env = {
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
  const words = [...setting, quoted(process.execPath), quoted(program)];
  await writeFile(script, `cd ${quoted(folder)} && exec env -i ${words.join(" ")} "$@"\n`);
  const start = (args: readonly string[]) => {
    const child = spawn(process.execPath, [program, ...args], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
    const output = { stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      output.stderr += text;
    });
    test.after(async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await endOf(child);
    });
    return { child, output };
  };

  return {
    folder,
    home,
    script,
    async run(args) {
      const { child, output } = start(args);
      await once(child, "close");
      return { code: child.exitCode, ...output };
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
      return {
        log,
        async get(path, withToken = true) {
          const headers = withToken ? { authorization: `Bearer ${GATEWAY_TOKEN}` } : {};
          const response = await fetch(url + path, { headers });
          return { status: response.status, text: await response.text() };
        },
        async invoke(tool, args) {
          const response = await fetch(`${url}/tools/invoke`, {
            method: "POST",
            headers: { "content-type": "application/json", authorization: `Bearer ${GATEWAY_TOKEN}` },
            body: JSON.stringify({ tool, args }),
          });
          return { status: response.status, body: await response.json() };
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
export async function startCluster(test: TestContext, options: { readonly runner?: string } = {}) {
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
