import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { documentOf, failure, folder, Laptop, type Program, run, tidyUp } from "./harness.ts";
import { endLines, runLine } from "./lines.ts";

// What is the same sentence over and over is said by one process; of each way to end there is a process of its own besides.

afterAll(async () => {
  await endLines();
  await tidyUp();
});

const COMMANDS: readonly [Program, ...string[]][] = [
  ["kars-mesh"],
  ...[
    ["pair", "whoami", "peers", "verify", "accept", "decline", "policy", "forget", "key"],
    ["send", "sent", "inbox", "await", "discover", "run"],
    ["offload", "status", "cancel", "history", "replay", "inspect", "doctor", "demo"],
  ]
    .flat()
    .map((name): [Program, string] => ["kars-mesh", name]),
  ["kars-local"],
  ["kars-local", "up"],
  ["kars-local", "relay"],
  ["kars-local", "registry"],
  ["kars-local", "controller"],
  ["kars-local", "pair"],
  ["kars-local", "pair", "generate"],
  ["kars-local", "pair", "list"],
  ["kars-local", "pair", "inspect"],
  ["kars-local", "pair", "revoke"],
  ["kars-local", "status"],
  ["kars-local", "sandboxes"],
];

describe.concurrent("help", () => {
  test.each(COMMANDS.map((words) => [words.join(" "), words] as const))(
    "%s --help",
    async (name, [program, ...words]) => {
      const { code, stdout, stderr } = await runLine(program, [...words, "--help"]);
      expect([code, stderr]).toEqual([0, ""]);
      expect(stdout).toContain(`Usage: ${name}`);
      expect(stdout).toContain("--json");
      expect(stdout).toContain("--help");
      expect(stdout).toContain(program === "kars-mesh" ? "KARS_MESH_HOME" : "KARS_LOCAL_HOME");
    },
  );

  test.each(["kars-mesh", "kars-local"] as const)("%s --help, in a process of its own", async (program) => {
    expect(await run(program, ["--help"])).toEqual(await runLine(program, ["--help"]));
  });

  test.each(["kars-mesh", "kars-local"] as const)("%s --version", async (program) => {
    expect(await run(program, ["--version"])).toEqual({ code: 0, stdout: "0.1.0\n", stderr: "" });
  });
});

const NATS = ["--nats", "nats://127.0.0.1:9"];

describe.concurrent("what is not understood ends with 2 and says where to look", () => {
  test.each<[Program, string[], RegExp]>([
    ["kars-mesh", ["sned", "bob", "hi"], /^Unknown command 'sned' \(Did you mean send\?\) See kars-mesh --help\.\n$/],
    ["kars-mesh", ["send", "bob"], /'message'.* See kars-mesh send --help\.\n$/],
    ["kars-mesh", ["send"], /'to'/],
    ["kars-mesh", ["send", "bob", ""], /The message is empty/],
    ["kars-mesh", ["send", "bob", "-"], /The message is empty/],
    ["kars-mesh", ["send", "bob", "hi", "--loud"], /--loud/],
    ["kars-mesh", ["whoami", "twice"], /arguments/],
    ["kars-mesh", ["inbox", "--limit", "0"], /from 1 to 200/],
    ["kars-mesh", ["inbox", "--limit", "many"], /from 1 to 200/],
    ["kars-mesh", ["await", "bob", "--timeout", "soon"], /90s, 45m, 12h or 30d/],
    ["kars-mesh", ["await", "bob", "--timeout", "1d"], /At most 600s/],
    ["kars-mesh", ["offload", "do", "this"], /put it in quotes/],
    ["kars-mesh", ["offload", " "], /The task is empty/],
    ["kars-mesh", ["offload", "x", "--to", "a", "--capability", "b"], /--capability/],
    ["kars-mesh", ["offload", "x", "--timeout", "2d"], /At most 1440m/],
    ["kars-mesh", ["replay"], /Name a stream/],
    ["kars-mesh", ["forget"], /'peer'/],
    ["kars-mesh", ["key", "--file", "--keychain"], /--keychain/],
    // A passphrase is not for the command line, where every process sees it; it is not repeated either.
    [
      "kars-mesh",
      ["key", "--passphrase", "hunter22"],
      /^(?!.*hunter22)A passphrase is not taken from the command line/,
    ],
    ["kars-mesh", ["replay", "x", "--at", "-1"], /commit's number/],
    ["kars-local", ["up", "--port", "70000"], /from 0 to 65535/],
    ["kars-local", ["up", "--max-file", "481"], /from 1 to 480/],
    ["kars-local", ["up", "--public-url", "mesh.example.org"], /scheme, host and port alone/],
    ["kars-local", ["up", "--public-url", "http://user@mesh.example.org/x"], /scheme, host and port alone/],
    ["kars-local", ["up", "--runner-backend", "docker"], /process, kubernetes/],
    ["kars-local", ["up", "--kube-image", "a"], /go with --runner-backend kubernetes/],
    ["kars-local", ["up", "--runner-backend", "kubernetes"], /--kube-image/],
    ["kars-local", ["up", "--runner-backend", "kubernetes", "--kube-image", "a"], /--public-url/],
    ["kars-local", ["up", "--kube-image", "two words"], /an image such as/],
    ["kars-local", ["up", "--kube-namespace", "Mine"], /lower-case letters/],
    ["kars-local", ["up", "--name", "a/b"], /letters, digits, dots/],
    ["kars-local", ["up", "--name", "x".repeat(54)], /at most 53/],
    ["kars-local", ["up", "--tls-cert", "a.pem"], /--tls-cert and --tls-key go together/],
    ...(["relay", "registry", "controller"] as const).map((role): [Program, string[], RegExp] => [
      "kars-local",
      [role],
      /^Say with --nats where NATS is: .* See kars-local (relay|registry|controller) --help\.\n$/,
    ]),
    ["kars-local", ["controller", ...NATS], /--public-url/],
    ["kars-local", ["relay", ...NATS, "--tls-key", "a.pem"], /--tls-cert and --tls-key go together/],
    ["kars-local", ["relay", ...NATS, "--name", "no spaces"], /letters, digits, dots/],
    ["kars-local", ["relay", ...NATS, "--name", "a", "--cluster", "b"], /name two clusters/],
    ["kars-local", ["status", ...NATS, "--cluster", "no spaces"], /letters, digits, dots/],
    ["kars-local", ["status", ...NATS, "--nats-cert", "a.pem"], /--nats-cert and --nats-key go together/],
    ["kars-local", ["status", "--nats-creds", "a.creds"], /go with --nats\./],
    ["kars-local", ["status", "--cluster", "prod"], /go with --nats\./],
    [
      "kars-local",
      ["status", "--nats", "nats://me:hunter22@127.0.0.1:9", "--nats-creds", "a"],
      /^(?!.*hunter22).*one of/,
    ],
    ...[
      ...["http://me:hunter22@127.0.0.1", "nats://", "nats://me:hunter22@127.0.0.1:99999", "127.0.0.1:4222"],
      ...["nats://me:hunter22@127.0.0.1/x", "nats://a:hunter22@127.0.0.1,nats://b:hunter22@127.0.0.1", "nats://%:a@b"],
    ].map((url): [Program, string[], RegExp] => [
      "kars-local",
      ["status", "--nats", url],
      /^(?!.*hunter22)Give nats:\/\/host:4222 or tls:/,
    ]),
    ["kars-local", ["pair", "generate"], /--name/],
    ["kars-local", ["pair", "generate", "--name", "x", "--expires", "30"], /30d/],
    ["kars-local", ["pair", "generate", "--name", "x", "--expires", "10000d"], /At most 365d/],
    ["kars-local", ["pair", "generate", "--name", "x", "--slots", "0"], /from 1 to 1000/],
    ["kars-local", ["pair", "generate", "--name", "x", "--capabilities", ","], /commas/],
    ["kars-local", ["pair", "remove"], /Unknown command 'remove'.* See kars-local pair --help\.\n$/],
  ])("%s %j", async (program, args, sentence) => {
    const home = join(folder(), "state");
    const flag = program === "kars-mesh" ? "--home" : "--dir";
    const { code, stdout, stderr } = await runLine(program, [...args, flag, home]);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(sentence);
    expect(stderr).not.toMatch(/\n\s+at |Error:/);
    expect(existsSync(home)).toBe(false);
  });

  test("in a process of its own too", async () => {
    const words = ["inbox", "--limit", "0"];
    expect(await run("kars-mesh", words)).toEqual(await runLine("kars-mesh", words));
  });

  test.each<[Program, string[]]>([
    ["kars-mesh", []],
    ["kars-mesh", ["sned"]],
    ["kars-mesh", ["inbox", "--limit", "0"]],
    ["kars-local", []],
    ["kars-local", ["pair"]],
    ["kars-local", ["pair", "generate"]],
  ])("%s %j --json", async (program, args) => {
    expect(await failure(program, args, runLine)).toEqual({ code: 2, error: "input_invalid" });
  });

  test.each<[Program, string[], string]>([
    ["kars-mesh", [], "Usage: kars-mesh"],
    ["kars-local", ["pair"], "Usage: kars-local pair"],
  ])("%s %j prints the help on stderr", async (program, args, usage) => {
    const { code, stdout, stderr } = await run(program, args);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(usage);
  });
});

describe.concurrent("a NATS that cannot be used", () => {
  test.each<[string[], string, RegExp]>([
    [NATS, "nats_unavailable", /^nats:\/\/127\.0\.0\.1:9: connection refused\. NATS, .*check --nats/],
    [[...NATS, "--nats-creds", "none.creds"], "input_invalid", /^--nats-creds cannot be used: .*none\.creds/],
    [[...NATS, "--nats-ca", "none.pem"], "input_invalid", /^--nats-ca cannot be used: .*none\.pem/],
    [["--nats", "nats://me:hunter22@127.0.0.1:9"], "nats_unavailable", /^(?!.*hunter22)nats:\/\/127\.0\.0\.1:9: /],
  ])("%j ends with 1 and says what to look at", async (options, code, sentence) => {
    const args = ["--dir", join(folder(), "state"), ...options];
    const [asked, begun] = [run("kars-local", ["status", ...args]), failure("kars-local", ["relay", ...args])];
    expect(await asked).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(sentence) });
    expect(await begun).toEqual({ code: 1, error: code });
  });
});

const DID = `did:mesh:${"a".repeat(32)}`;

describe.concurrent("an unpaired laptop", () => {
  const commands = [
    ["send", "bob", "hi"],
    ["send", DID, "hi"],
    ["discover"],
    ["inbox"],
    ["await", "bob"],
    ["await", DID],
    ["offload", "think"],
  ];
  test.each(commands.map((command) => [command]))("%j ends with 1 and says what to do", async (command) => {
    const laptop = new Laptop();
    const { code, stdout, stderr } = await laptop.run(...command);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toBe(
      "This laptop is not paired with a cluster. Pair it with a token from the cluster's operator: kars-mesh pair <token>.\n",
    );
    expect(await failure("kars-mesh", ["--home", laptop.home, ...command], runLine)).toEqual({
      code: 1,
      error: "not_paired",
    });
  });

  test.each<[string[], unknown]>([
    [["whoami"], { did: null, name: null, clusters: [] }],
    [["peers"], { peers: [], malformed: 0 }],
    [["status"], { offloads: [] }],
    [["history", "--streams"], { streams: [] }],
  ])("%j has little to tell", async (command, document) => {
    const laptop = new Laptop();
    expect(await laptop.json(...command)).toEqual(document);
    const { code, stdout } = await runLine("kars-mesh", ["--home", laptop.home, ...command]);
    expect([code, stdout.trim()]).toEqual([0, expect.stringMatching(/./)]);
  });

  test("a home in which nothing has happened has no history, and nothing to follow", async () => {
    const laptop = new Laptop();
    expect(await laptop.run("history", "--json")).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(await laptop.text("history")).toBe("Nothing of that has happened here yet.\n");
    expect(await failure("kars-mesh", ["--home", laptop.home, "history", "--follow"])).toMatchObject({ code: 1 });
    expect(await failure("kars-mesh", ["--home", laptop.home, "history", "--peer", "bob"])).toEqual({
      code: 1,
      error: "peer_unknown",
    });
  });

  test.each<[string[], string]>([
    [["pair", "kars-pair-nonsense"], "token_mangled"],
    [["pair", "hello"], "token_mangled"],
    [["status", "nothing"], "offload_unknown"],
    [["cancel", "nothing"], "offload_unknown"],
    [["replay", "offload/nothing"], "input_invalid"],
    [["replay", "nothing.history.jsonl", "--check"], "input_invalid"],
    [["history", "nothing"], "input_invalid"],
  ])("%j ends with 1: %s", async (command, code) => {
    expect(await failure("kars-mesh", ["--home", new Laptop().home, ...command], runLine)).toEqual({
      code: 1,
      error: code,
    });
  });

  test("a cluster that does not answer", async () => {
    const body = JSON.stringify({ u: "http://127.0.0.1:9/v1/pair", c: DID, s: "A".repeat(43) });
    const token = `kars-pair-${Buffer.from(body).toString("base64url")}`;
    expect(await failure("kars-mesh", ["--home", new Laptop().home, "pair", token])).toEqual({
      code: 1,
      error: "cluster_unreachable",
    });
  });
});

describe.concurrent("the state directory", () => {
  test("is the one of --home, else of KARS_MESH_HOME, else below the person's own", async () => {
    const [given, named, person] = [folder(), folder(), folder()];
    const homeLine = async (args: string[], env: Record<string, string>) =>
      /^home +(.+)$/m.exec((await run("kars-mesh", ["whoami", ...args], { env })).stdout)?.[1];
    expect(await homeLine(["--home", given], { KARS_MESH_HOME: named })).toBe(given);
    expect(await homeLine([], { KARS_MESH_HOME: named })).toBe(named);
    expect(await homeLine([], { HOME: person })).toBe(join(person, ".kars", "mesh"));
    expect(homedir()).not.toBe(person);
  });

  test("that cannot be one is an error without a stack", async () => {
    const path = join(folder(), "file");
    writeFileSync(path, "");
    const { code, stdout, stderr } = await run("kars-mesh", ["whoami", "--home", path]);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr.split("\n")).toHaveLength(2);
    const ended = await run("kars-mesh", ["whoami", "--home", path, "--json"]);
    expect(ended.code).toBe(1);
    expect(documentOf(ended)).toMatchObject({ error: { code: expect.any(String) } });
  });

  test("that is damaged is named, and left as it is", async () => {
    const home = folder();
    mkdirSync(join(home, "journal"), { recursive: true });
    writeFileSync(join(home, "vault"), "not a vault");
    const { code, stderr } = await run("kars-mesh", ["whoami", "--home", home]);
    expect(code).toBe(1);
    expect(stderr).not.toMatch(/\n\s+at /);
  });
});
