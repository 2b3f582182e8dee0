/** The plan of the house, held to what stands: who may import whom, what is pure, how long a file may be. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";

const source = join(import.meta.dirname, "../src");

/** Arrows run downwards only: each room, and the rooms it may import. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  plugin: ["actors", "wire"],
  cli: ["actors", "cluster", "inspect", "wire"],
  inspect: ["actors", "machines", "store", "page"],
  page: [],
  cluster: ["actors", "machines", "store", "wire", "crypto"],
  actors: ["machines", "store", "wire", "crypto"],
  store: ["crypto"],
  machines: ["wire"],
  wire: ["crypto"],
  crypto: [],
};
/** Doors in a wall: one file, and the one file of another room that it may import. */
const DOORS: Readonly<Record<string, string>> = {
  // `openclaw mesh` is the command line kars-mesh itself, not one like it.
  "plugin/cli.ts": "cli/mesh.ts",
  // What a viewer may see is decided in one place.
  "plugin/inspector.ts": "inspect/page.ts",
};
/** Anyone may import these, and they import nothing of ours but each other. */
const LEAVES = ["errors.ts", "foreign.ts", "http.ts", "json.ts", "limits.ts", "memory.ts", "parse.ts"];

interface SourceFile {
  /** From `src`, with forward slashes. */
  readonly path: string;
  readonly room: string;
  readonly text: string;
  /** Without comments and without what stands in quotes. */
  readonly code: string;
  readonly imports: readonly { readonly from: string; readonly typeOnly: boolean }[];
}

const files: readonly SourceFile[] = readdirSync(source, { recursive: true, encoding: "utf8" })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"))
  .map((path) => {
    const text = readFileSync(join(source, path), "utf8");
    const statements = text.matchAll(
      /^(?:import|export)\s+(type\s)?[^;"]*?from\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\("([^"]+)"\)/gm,
    );
    const code = text
      .replaceAll(/\/\*[\s\S]*?\*\//g, "")
      .replaceAll(/"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`/g, '""')
      .replaceAll(/\/\/.*$/gm, "");
    return {
      path,
      room: path.includes("/") ? (path.split("/")[0] ?? "") : "",
      text,
      code,
      imports: [...statements].map(([, type, a, b, c]) => ({ from: a ?? b ?? c ?? "", typeOnly: type !== undefined })),
    };
  });

/** The file that a relative import means, from `src`; undefined for a package. */
const target = (path: string, from: string) =>
  from.startsWith(".") ? relative(source, resolve(source, dirname(path), from)).replaceAll("\\", "/") : undefined;

/** The one pure file that imports the platform. */
const NATIVE = "crypto/primitives/native.ts";

const pure = files.filter(({ room }) => room === "machines" || room === "crypto");

describe("the rooms", () => {
  it("every source file is in one of them", () => {
    const strays = files.filter(({ room, path }) => !(room in ROOMS) && !LEAVES.includes(path));
    expect(strays.map(({ path }) => path)).toEqual([]);
    expect(files.length).toBeGreaterThan(50);
  });

  it.each(Object.entries(ROOMS))("%s imports only what it may", (room, allowed) => {
    const mine = files.filter((file) => file.room === room);
    expect(mine.flatMap(({ imports }) => imports).length).toBeGreaterThanOrEqual(mine.length > 0 ? 1 : 0);
    const wrong = mine.flatMap(({ path, imports }) =>
      imports
        .map(({ from }) => target(path, from))
        .filter((to) => to !== undefined)
        .filter((to) => !LEAVES.includes(to) && ![room, ...allowed].includes(to.split("/")[0] ?? ""))
        .filter((to) => DOORS[path] !== to)
        .map((to) => `${path} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it("what anyone may import imports nothing of ours", () => {
    for (const leaf of files.filter(({ path }) => LEAVES.includes(path)))
      expect(leaf.imports.filter(({ from }) => from.startsWith(".")).map(({ from }) => from)).toEqual([]);
  });

  it("no source imports from the tests, or reaches out of its house", () => {
    const wrong = files.flatMap(({ path, imports }) =>
      imports
        .map(({ from }) => target(path, from))
        .filter((to) => to !== undefined && (to.startsWith("..") || to.endsWith(".test.ts")))
        .map((to) => `${path} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it("one machine does not know another: they meet in the actors", () => {
    const wrong = files
      .filter(({ path }) => /^machines\/[^/]+\//.test(path))
      .flatMap(({ path, imports }) =>
        imports
          .map(({ from }) => target(path, from))
          .filter(
            (to) => to?.startsWith("machines/") && to !== "machines/definition.ts" && dirname(to) !== dirname(path),
          )
          .map((to) => `${path} imports ${to}`),
      );
    expect(wrong).toEqual([]);
  });
});

describe("machines and crypto are pure", () => {
  it.each([
    ["no clock", /\bDate\b|\bperformance\b/],
    ["no randomness of their own", /\bMath\.random\b|\bgetRandomValues\b|\brandomBytes\b|\brandomUUID\b/],
    ["no process", /\bprocess\b|\bglobalThis\b/],
    ["no timers", /\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b/],
    ["no network", /\bfetch\s*\(|\bWebSocket\b/],
    ["nothing that waits", /\basync\b|\bawait\b|\bPromise\b/],
  ])("%s", (_, forbidden) => {
    expect(pure.filter(({ code }) => forbidden.test(code)).map(({ path }) => path)).toEqual([]);
  });

  it("nothing of the platform is imported", () => {
    const allowed = /^(?:\.|zod$|xstate$|@noble\/)/;
    const wrong = pure
      .filter(({ path }) => path !== NATIVE)
      .flatMap(({ path, imports }) =>
        imports.filter(({ from }) => !allowed.test(from)).map(({ from }) => `${path} imports ${from}`),
      );
    expect(wrong).toEqual([]);
  });
});

describe("the native primitives", () => {
  /** What of node:crypto is a function of its arguments alone. */
  const PURE =
    /^(?:createCipheriv|createDecipheriv|createPrivateKey|createPublicKey|createSecretKey|diffieHellman|hash|type KeyObject|sign|verify)$/;

  it("are one file, which takes nothing but pure functions of node:crypto", () => {
    const [file] = pure.filter(({ path }) => path === NATIVE);
    const taken = file?.text.match(/^import \{([^}]*)\} from "node:crypto";$/m)?.[1]?.split(",") ?? [];
    const names = taken.map((name) => name.trim()).filter((name) => name !== "");
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !PURE.test(name))).toEqual([]);
    expect(file?.imports.map(({ from }) => from)).toEqual(["node:crypto", "./primitives.ts"]);
  });
});

describe("the plugin keeps to what OpenClaw offers", () => {
  /** Objects that everything in the process shares. */
  const SHARED =
    "(?:process(?:\\.std(?:in|out|err))?|console|Math|JSON|Date|Promise|Object|Array|Reflect|Buffer|crypto|performance|https?|net|tls|dns|fs|undici)";
  const assigns = String.raw`\s*(?:\?\?|\|\||&&|[-+*/])?=(?![=>])`;

  /** What it must not do, by which it is known, and a sample of each. */
  const REACHES: readonly (readonly [what: string, known: RegExp, samples: readonly string[]])[] = [
    [
      "keeps anything on the global object",
      /\bglobalThis\b|\bglobal\s*[.[]/,
      ["globalThis.x = 1", "globalThis[KEY] ??= 1", "const shared = globalThis", "global.fetch = mine"],
    ],
    [
      "replaces a global",
      new RegExp(
        String.raw`^\s*(?:fetch|WebSocket|Date|set(?:Timeout|Interval|Immediate)|queueMicrotask)${assigns}`,
        "m",
      ),
      ["fetch = mine", "  setTimeout = mine"],
    ],
    [
      "changes a prototype",
      /\.prototype\b|\b__proto__\b|\bsetPrototypeOf\b/,
      ["Array.prototype.at = f", "x.__proto__ = y"],
    ],
    [
      "changes what everything in the process shares",
      new RegExp(
        String.raw`\b${SHARED}\.(?!exitCode\b)\w+${assigns}|\b(?:Object|Reflect)\.(?:define\w+|assign|set)\(\s*${SHARED}\b`,
      ),
      [
        "process.emit = mine",
        "process.on = mine",
        "process.stdout.write = mine",
        "console.log = mine",
        "http.request = mine",
        "https.globalAgent = mine",
        "Object.assign(process, mine)",
        "Object.defineProperty(JSON, name, mine)",
      ],
    ],
    [
      "takes listeners of others away",
      /\bprocess\.(?:removeAllListeners|emit|setUncaughtExceptionCaptureCallback)\b/,
      ["process.removeAllListeners()"],
    ],
    [
      "intercepts modules",
      /\brequire\s*[.(]|\bcreateRequire\b|\bModule\._|\bregisterHooks\b|\bsyncBuiltinESMExports\b/,
      ["require.cache[path] = mine", "require(name)", "Module._load = mine", "registerHooks(mine)"],
    ],
    [
      "intercepts transport",
      /\bsetGlobalDispatcher\b|\bglobalAgent\b|\bsetGlobalProxyFromEnv\b/,
      ["setGlobalDispatcher(mine)", "const agent = http.globalAgent"],
    ],
  ];
  /** The one slot of ours, under a registered symbol: OpenClaw evaluates the plugin several times in one process. */
  const SLOT = "const shared = globalThis as typeof globalThis & { [SLOTS]?: Map<string, Slot> };";
  const ofOpenClaw = (from: string) => /^@?openclaw(?:\/|$)/.test(from);

  it.each(REACHES)("it never %s", (_, known, samples) => {
    for (const sample of samples) expect(sample).toMatch(known);
    expect(files.filter(({ code }) => known.test(code.replace(SLOT, ""))).map(({ path }) => path)).toEqual([]);
  });

  it("has one slot on the global object", () => {
    expect(files.filter(({ code }) => code.includes(SLOT)).map(({ path }) => path)).toEqual(["plugin/node.ts"]);
  });

  it("it imports nothing of OpenClaw, and does not depend on it", () => {
    for (const sample of ["openclaw", "openclaw/plugin-sdk", "@openclaw/core"]) expect(ofOpenClaw(sample)).toBe(true);
    expect(files.flatMap(({ imports }) => imports.map(({ from }) => from)).filter(ofOpenClaw)).toEqual([]);
    const manifest: unknown = JSON.parse(readFileSync(join(source, "../package.json"), "utf8"));
    const names = z.record(z.string(), z.unknown());
    const {
      dependencies,
      peerDependencies,
      optionalDependencies = {},
    } = z
      .object({ dependencies: names, peerDependencies: names, optionalDependencies: names.optional() })
      .parse(manifest);
    const needed = [dependencies, peerDependencies, optionalDependencies].flatMap((each) => Object.keys(each));
    expect(needed).toContain("xstate");
    expect(needed.filter(ofOpenClaw)).toEqual([]);
  });
});

describe("limits", () => {
  /** Words by which a name says that it is a limit. */
  const LIMIT = /(?:^|_)(?:MAX|MIN|MS|EVERY|LIMIT|KEPT)(?:_|$)/;
  const declared = ({ code }: SourceFile) =>
    [...code.matchAll(/\bconst ([A-Z][A-Z0-9_]*)(?:: [^=]+)? = ([^;]*);/g)].map(([, name = "", value = ""]) => ({
      name,
      value,
    }));
  /** The one of all rooms, and those that bound one room alone. */
  const isHome = ({ path }: SourceFile) => /(?:^|\/)limits\.ts$/.test(path);
  const limits = files.filter(isHome);

  // A number makes a limit: what is only put together from named limits is none of its own. What crypto bounds is fixed by
  // its protocols, and stands with them.
  it("stand in files of their own", () => {
    const wrong = files
      .filter((file) => !isHome(file) && file.room !== "crypto")
      .flatMap((file) => declared(file).map((each) => ({ ...each, path: file.path })))
      .filter(({ name, value }) => LIMIT.test(name) && /\d/.test(value));
    expect(wrong.map(({ path, name }) => `${path} declares ${name}`)).toEqual([]);
    expect(limits.flatMap(declared).filter(({ name }) => LIMIT.test(name)).length).toBeGreaterThan(80);
  });

  it("each has its reason beside it", () => {
    const bare = limits.flatMap(({ text }) =>
      [...text.matchAll(/^(.*)\nexport const (\w+)/gm)]
        .filter(([, before = ""]) => !before.endsWith("*/") && !before.startsWith("export const"))
        .map(([, , name]) => name),
    );
    expect(bare).toEqual([]);
  });

  it("each limits something", () => {
    const others = files.filter((file) => !isHome(file)).map(({ code }) => code);
    const all = [...others, ...limits.map(({ code }) => code.replaceAll(/\bexport const \w+/g, ""))].join("\n");
    const idle = limits.flatMap(declared).filter(({ name }) => !new RegExp(`\\b${name}\\b`).test(all));
    expect(idle.map(({ name }) => name)).toEqual([]);
  });
});

describe("files", () => {
  const LINES_MAX = 350;
  /** Those that are still to be divided; none may join them. */
  const TO_BE_DIVIDED: readonly string[] = [];
  it(`have at most ${LINES_MAX} lines`, () => {
    const long = files
      .map(({ path, text }) => ({ path, lines: text.split("\n").length - 1 }))
      .filter(({ path, lines }) => lines > LINES_MAX && !TO_BE_DIVIDED.includes(path));
    expect(long).toEqual([]);
  });

  it("have no default export but the plugin's", () => {
    const wrong = files.filter(({ path, code }) => path !== "plugin/index.ts" && /^export default\b/m.test(code));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });
});
