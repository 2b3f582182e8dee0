/** What the program itself wrote, in this version or another, and what people write on its command line. */
import { hash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { InvalidArgumentError } from "commander";
import { duration, image, integer, label, list, origin } from "../../src/cli/arguments.ts";
import { AgentEvent } from "../../src/cluster/agent.ts";
import { REASON_LENGTH_MAX } from "../../src/cluster/kubernetes/limits.ts";
import { resourcesFor } from "../../src/cluster/kubernetes/manifests.ts";
import { SeenJob, SeenPod, SeenStatus } from "../../src/cluster/kubernetes/observed.ts";
import { jobVerdict, NO_PULLS, podVerdict, pullsAfter, type Verdict } from "../../src/cluster/kubernetes/verdict.ts";
import { DEFAULT_RULES, JOB_LIMITS } from "../../src/cluster/runner/rules.ts";
import { SandboxConfig, SandboxFile } from "../../src/cluster/sandboxes.ts";
import { DEFINITIONS, partsOf } from "../../src/inspect/definitions.ts";
import { formatRecording, parseRecording, RecordedEvent } from "../../src/inspect/recording.ts";
import { assertEqual, schemaTarget } from "./check.ts";
import { attempt, type Outcome, type Target } from "./fuzz.ts";

const folder = new URL("../histories/0.1.0/", import.meta.url);
const recorded: readonly RecordedEvent[] = readdirSync(folder).flatMap((name) => [
  ...parseRecording(name, readFileSync(new URL(name, folder), "utf8")).events,
]);

/** Events of one kind of machine that were recorded, one of each type. */
function samplesOf(kind: string): readonly unknown[] {
  const ofKind = recorded.filter(({ stream, event }) => partsOf(stream).kind === kind && !event.type.startsWith("@"));
  return [...new Map(ofKind.map(({ event }) => [event.type, event])).values()];
}

/** Events of machines that are not journaled, so that no history has any. */
const LIVE_EVENTS: Readonly<Record<string, readonly unknown[]>> = {
  link: [
    { type: "CONNECT", url: "ws://127.0.0.1:1/ws" },
    { type: "OPENED", extensions: ["accepted"], pending: 3 },
    { type: "CLOSED", code: 1006, reason: "lost", final: false, chance: 0.5 },
  ],
  presence: [
    { type: "UP", registry_url: "http://127.0.0.1:1", tells: false, chance: 0.5 },
    { type: "LOOKED", ours: false },
    { type: "FAILED", code: "registry_unreachable", detail: "no answer", chance: 0.5 },
  ],
};

const sandbox = {
  directory: "/tmp/a",
  run: "r",
  name: "n",
  laptop: `did:mesh:${"0".repeat(32)}`,
  controller: `did:mesh:${"0".repeat(32)}`,
  cluster: "c",
  relay_url: "ws://127.0.0.1:1",
  registry_url: "http://127.0.0.1:1",
  capabilities: ["offload"],
  timeout_minutes: 5,
  runner: null,
  grant: "g",
  task_sha256: "0".repeat(64),
  policy: { command: "true", directory: "/tmp" },
  rules: { ...DEFAULT_RULES, hidden: ["/tmp"], variables: ["LANG"] },
};
const ended = { terminated: { exitCode: 137, reason: "OOMKilled", message: "m" } };

/** What a laptop is told fits an event. */
function isBounded(verdict: Verdict | undefined): void {
  const words = verdict?.kind === "failed" ? verdict.detail : verdict?.kind === "going" ? verdict.words : "";
  if (words.length > REASON_LENGTH_MAX + 300) throw new Error("words without a bound");
}

const machines = [...DEFINITIONS.values()].map(({ kind, events, live }) =>
  schemaTarget(`event-${kind}`, events, live ? (LIVE_EVENTS[kind] ?? []) : samplesOf(kind)),
);

const history = formatRecording({ program: "0.1.0", events: recorded.slice(0, 3) });
const takeHistory = (text: string): Promise<Outcome> =>
  attempt(() => {
    for (const event of parseRecording("a", text).events)
      assertEqual(RecordedEvent.parse(event), event, "an event that is not of its type");
  });
/** Whatever its events say, its checksum is right. */
function sealed(line: string): string {
  const text = `${JSON.stringify({ history: 1, program: "0.1.0", events: 1 })}\n${line}\n`;
  return `${text}${JSON.stringify({ sha256: hash("sha256", text, "hex") })}\n`;
}

const agent = { public_key: "k", capabilities: ["gpu"], metadata: { name: "a" } };
const prekeys = {
  identity_key: "i",
  identity_key_ed: "e",
  signed_pre_key: { key_id: 1, public_key: "p", signature: "s" },
  one_time_pre_keys: [{ key_id: 2, public_key: "o" }],
};
const did = "did:mesh:0123456789abcdef0123456789abcdef";

/** An argument's parser: what is wrong is a usage error. */
const argument = (name: string, samples: readonly string[], parse: (text: string) => unknown): Target => ({
  name: `argument-${name}`,
  kind: "text",
  samples,
  take(text) {
    try {
      parse(text);
      return "taken";
    } catch (error) {
      if (error instanceof InvalidArgumentError) return "refused";
      throw error;
    }
  },
});

export const programTargets: readonly Target[] = [
  ...machines,
  { name: "history", kind: "text", samples: [history], take: takeHistory },
  {
    name: "history-event",
    kind: "json",
    samples: recorded.slice(0, 3),
    take: (text) => takeHistory(sealed(text.replaceAll("\n", " "))),
  },
  schemaTarget("agent-event", AgentEvent, [
    { type: "REGISTERED", ...agent, provedAt: 5 },
    { type: "PREKEYS_PUBLISHED", ...prekeys, anew: true },
    { type: "PREKEY_TAKEN", key_id: 2 },
    { type: "RATED", by: did, score: 1, reason: "r", reputation: 0.5 },
  ]),
  schemaTarget("sandbox-config", SandboxConfig, [sandbox]),
  schemaTarget("sandbox-file", SandboxFile, [{ ...sandbox, seed: Buffer.alloc(32, 7).toString("base64") }]),
  schemaTarget(
    "kubernetes-pod",
    SeenPod,
    [
      {
        metadata: { name: "p", uid: "u", labels: { a: "b" }, deletionTimestamp: "2026-01-01T00:00:00Z" },
        spec: { nodeName: "n" },
        status: {
          phase: "Pending",
          reason: "Evicted",
          message: "m",
          conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/3 nodes" }],
          containerStatuses: [{ name: "sandbox", state: { waiting: { reason: "ErrImagePull", message: "m" } } }],
        },
      },
      { metadata: { name: "p" }, spec: {}, status: { containerStatuses: [{ name: "sandbox", state: ended }] } },
    ],
    (pod) => {
      const seen = SeenPod.parse(pod);
      isBounded(
        podVerdict(seen, pullsAfter(NO_PULLS, seen), {
          namespace: "n",
          image: "i",
          resources: resourcesFor(JOB_LIMITS),
        }),
      );
    },
  ),
  schemaTarget(
    "kubernetes-job",
    SeenJob,
    [
      {
        metadata: { name: "j", annotations: { "kars-mesh/run": "r" } },
        spec: { suspend: false, activeDeadlineSeconds: 60 },
        status: { conditions: [{ type: "Failed", status: "True", reason: "DeadlineExceeded", message: "m" }] },
      },
    ],
    (job) => isBounded(jobVerdict(SeenJob.parse(job))),
  ),
  schemaTarget("kubernetes-status", SeenStatus, [{ code: 410, reason: "Expired", message: "too old" }]),
  argument("duration", ["90s", "1.5h", "30d "], (text) => {
    const milliseconds = duration({ max: "30d", unit: "s", zero: true })(text);
    if (!(milliseconds >= 0 && milliseconds <= 30 * 86_400_000)) throw new Error("a duration out of its bounds");
  }),
  argument("integer", ["1", " 42 "], (text) => {
    const number = integer(1, 100)(text);
    if (!Number.isSafeInteger(number) || number < 1 || number > 100) throw new Error("a number out of its bounds");
  }),
  argument("list", ["a,b", "gpu"], (text) => {
    if (list(text).some((entry) => entry === "" || entry.includes(","))) throw new Error("an entry that is none");
  }),
  argument("origin", ["https://mesh.example.org", "http://[::1]:7780/"], (text) => {
    const { pathname, search, hash: fragment, username } = new URL(origin(text));
    if (pathname !== "/" || search + fragment + username !== "") throw new Error("more than an origin");
  }),
  argument("label", ["kars-sandboxes", "a"], (text) => {
    if (label(text).length > 63) throw new Error("a label out of its bounds");
  }),
  argument("image", ["registry.example.org/kars-sandbox:0.1.0"], (text) => {
    if (/\s/.test(image(text))) throw new Error("no image");
  }),
];
