/** What comes over a network, from a model or from another process. */

import { operations } from "../../src/actors/operations.ts";
import { Question } from "../../src/actors/owner.ts";
import { connectRefusal, readAuthorization, registrationProof, signedTime } from "../../src/cluster/proof.ts";
import { base64, base64url } from "../../src/crypto/index.ts";
import { FILE_CHUNK_SIZE } from "../../src/limits.ts";
import { readConfig } from "../../src/plugin/config.ts";
import { contentOf } from "../../src/wire/content.ts";
import { encodeFileChunk, parseFileChunk } from "../../src/wire/file-chunk.ts";
import * as frame from "../../src/wire/frame.ts";
import * as legacy from "../../src/wire/legacy.ts";
import * as pair from "../../src/wire/pair.ts";
import { isChat, Payload, parsePayload } from "../../src/wire/payload.ts";
import * as registry from "../../src/wire/registry.ts";
import * as tool from "../../src/wire/tool.ts";
import { assertEqual, json, schemaTarget } from "./check.ts";
import { attempt, type Target } from "./fuzz.ts";

const NOW = Date.UTC(2026, 0, 1);
const TIME = new Date(NOW).toISOString();
const DID = "did:mesh:0123456789abcdef0123456789abcdef";
const OTHER = "did:mesh:00112233445566778899aabbccddeeff";
const ID = "0d9a1c1e-3f9c-4a8e-9a4e-0a2b1c3d4e5f";
const bytes = (length: number) => new Uint8Array(length).fill(length);
const [key, signature] = [base64.encode(bytes(32)), base64.encode(bytes(64))];
const [urlKey, urlSignature] = [base64url.encode(bytes(32)), base64url.encode(bytes(64))];
const hash = "0123456789abcdef".repeat(4);

const routed = { v: 1, from: DID, to: OTHER, id: ID, ts: TIME };
const connect = {
  v: 1,
  type: "connect",
  from: DID,
  public_key: key,
  timestamp: TIME,
  signature,
  extensions: ["accepted"],
};
const frames: readonly unknown[] = [
  { v: 1, type: "connected", extensions: ["accepted"], pending: 3 },
  { ...routed, type: "knock", establishment: { ik: key, ek: key, otk: 4, spk: 1 } },
  { ...routed, type: "knock", establishment: { ik: key, ek: key, signature } },
  { ...routed, type: "knock_accept", knock_id: ID },
  { ...routed, type: "knock_reject", knock_id: ID, reason: "no" },
  { ...routed, type: "message", header: { dh: key, pn: 1, n: 2 }, ciphertext: signature, message_id: ID },
  { v: 1, type: "accepted", id: ID },
  { v: 1, type: "error", code: "full", id: ID, message: "full", detail: "full" },
  { type: "error", detail: "Unknown frame type: fetch_pending" },
];

const offload = { request_id: ID, timestamp: TIME };
const payloads: readonly unknown[] = [
  "hello",
  { type: "message", content: "hello" },
  { type: "task_request", content: "do", from_agent: "a" },
  { type: "task_response", content: "done", in_reply_to: ID },
  {
    type: "offload_request",
    ...offload,
    task: "t",
    files: ["a"],
    file_count: 1,
    total_bytes: 1,
    preferences: { model: "m" },
  },
  { type: "offload_cleanup", ...offload, reason: "done" },
  { type: "offload_status", ...offload, phase: "ready", message: "m", sandbox_name: "s", sandbox_did: DID },
  { type: "offload_error", ...offload, error: "e", phase: "p", code: "c" },
  { type: "offload_hello", ...offload, accepts: ["files"] },
  { type: "offload_progress", ...offload, pct: 5, message: "m", elapsed_seconds: 1.5 },
  { type: "offload_done", ...offload, summary: "s", output_files: ["a"], tokens_used: { prompt: 1, completion: 2 } },
  { type: "offload_task", ...offload, task: "t", files: ["a"] },
  { type: "task_received", request_id: ID },
  { type: "mesh:task_news", request_id: ID, news: { type: "used", tokens: 5 } },
  {
    type: "mesh:task_news",
    request_id: ID,
    news: { type: "ended", ok: false, exit: 3, code: "limit_reached", reason: "r" },
  },
  { type: "file_transfer", file_name: "a", file_path: "/a", file_data: key, size_bytes: 32, sha256: hash },
  { type: "file_transfer_ack", file_name: "a", success: false, error: "e" },
  {
    type: "mesh:transfer_manifest",
    transfer_id: ID,
    original_type: "message",
    total_chunks: 1,
    total_bytes: 9,
    chunk_hashes: [hash],
    manifest_hash: hash,
  },
  {
    type: "mesh:file_offer",
    transfer_id: ID,
    request_id: ID,
    file_name: "a",
    size_bytes: 9,
    chunk_size: FILE_CHUNK_SIZE,
    sha256: hash,
  },
  { type: "mesh:file_pull", transfer_id: ID, first: 0, count: 1 },
  { type: "mesh:transfer_chunk_request", transfer_id: ID, missing: [0, 2] },
  { type: "mesh:transfer_complete", transfer_id: ID },
  { type: "mesh:ping", nonce: ID },
  { type: "mesh:pong", nonce: ID },
  { type: "mesh:receipt", delivered: [ID], read: [] },
  { type: "mesh:transfer_chunk", transfer_id: ID, chunk_index: 0, total_chunks: 1, data: key, hash },
];

const payload: Target = {
  name: "payload",
  kind: "json",
  samples: payloads,
  take(text) {
    const taken = parsePayload(text);
    assertEqual(Payload.parse(taken), taken, "a payload that is not of its type");
    // Whatever is not shown by its words alone is shown as it came.
    const content = contentOf(text);
    const isWhole = "text" in content && content.text === text;
    if (!isWhole && !isChat(taken)) throw new Error("a payload of which something is not shown");
    return "taken";
  },
};

const chunk = { transferId: ID, index: 3, sha256: hash, bytes: bytes(40) };
const chunks: Target = {
  name: "file chunk",
  kind: "bytes",
  samples: [encodeFileChunk(chunk), encodeFileChunk({ ...chunk, bytes: bytes(0) })],
  take(plaintext) {
    const taken = parseFileChunk(plaintext);
    if (taken === undefined) return "refused";
    assertEqual(parseFileChunk(encodeFileChunk(taken)), taken, "a piece that is another when it is written again");
    return "taken";
  },
};

const token = pair.encodeToken({ pairUrl: "https://kars.example/v1/pair", controllerDid: DID, secret: urlKey });
const tokens: Target = {
  name: "token",
  kind: "text",
  samples: [token, ` ${token.slice(0, 40)}\n${token.slice(40)} `],
  take: (text) =>
    attempt(() => {
      const read = pair.decodeToken(text);
      assertEqual(pair.decodeToken(pair.encodeToken(read)), read, "a token that does not come back");
    }),
};
const tokenBodies: Target = {
  name: "token-body",
  kind: "json",
  samples: [{ u: "https://kars.example/v1/pair", c: DID, s: urlKey }],
  take: (text) => attempt(() => pair.decodeToken(`kars-pair-${Buffer.from(text).toString("base64url")}`)),
};

const AMID = "jPUMBAvNeJo8USHNtJ81Wm7cqnk";
const legacyBody = {
  controller_amid: AMID,
  relay_url: "wss://relay.example",
  registry_url: "https://registry.example",
  secret: urlKey,
};
const legacyTokens: Target = {
  name: "legacy-token",
  kind: "text",
  samples: [
    legacy.encodeLegacyToken(legacyBody),
    ` ${legacy.encodeLegacyToken({ ...legacyBody, controller_amid: DID })}`,
  ],
  take: (text) =>
    attempt(() => {
      if (legacy.isLegacyToken(text)) legacy.decodeLegacyToken(text);
    }),
};
const legacyTokenBodies: Target = {
  name: "legacy-token-body",
  kind: "json",
  samples: [legacyBody, { ...legacyBody, controller_amid: DID }],
  take: (text) => attempt(() => legacy.decodeLegacyToken(`azcp_1_${Buffer.from(text).toString("base64url")}`)),
};
const plainFrame = { type: "message", from: DID, to: OTHER, id: ID };
const controllerWords: readonly object[] = [
  {
    type: "pair_response",
    success: true,
    cluster_name: "c",
    controller_amid: AMID,
    capabilities_granted: ["offload"],
    slots: 2,
    token_budget: null,
    expires_at: TIME,
  },
  { type: "pair_response", success: false, error: "token expired" },
  { type: "offload_status", request_id: ID, phase: "ready", message: "m", sandbox_name: "s" },
  { type: "offload_error", request_id: ID, error: "no free slots (2/2)", phase: "validating" },
];
/** What a frame says is read from whatever the schema let through; whatever words it says are words that it would say again. */
const plainMessages = schemaTarget(
  "plain-message",
  legacy.PlainMessage,
  controllerWords.flatMap((words) => {
    const { payload, ciphertext } = legacy.plainForms(words);
    return [
      { ...plainFrame, ciphertext, payload, plaintext: true },
      { ...plainFrame, from: AMID, payload },
    ];
  }),
  (value) => {
    const words = legacy.readControllerWords(legacy.PlainMessage.parse(value));
    if (!words) return;
    const again = legacy.readControllerWords(legacy.PlainMessage.parse({ ...plainFrame, ...legacy.plainForms(words) }));
    assertEqual(again, words, "words that do not come back");
  },
);

const signedPreKey = { key_id: 1, public_key: urlKey, signature: urlSignature };
const oneTime = { key_id: 2, public_key: urlKey };
const identityKeys = { identity_key: urlKey, identity_key_ed: urlKey };
const registration = {
  public_key: urlKey,
  proof: urlSignature,
  proof_timestamp: TIME,
  capabilities: ["gpu"],
  metadata: { display_name: "a" },
};

const grant = { name: "laptop", slots: 1, capabilities: ["gpu"], token_budget: null, expires_at: null };
const paired = {
  cluster: "c",
  relay_url: "ws://127.0.0.1:1/ws",
  registry_url: "http://127.0.0.1:1",
  controller_did: DID,
  controller_key: urlKey,
  signature: urlSignature,
  grant,
};

const authorization: Target = {
  name: "authorization",
  kind: "text",
  samples: [`${registry.AUTH_SCHEME} ${DID} ${TIME} ${urlSignature}`],
  take(text) {
    const claim = readAuthorization(text);
    if (!claim) return "refused";
    const time = signedTime(claim.time, NOW);
    if (typeof time === "number" && Math.abs(time - NOW) > 300_000) throw new Error("a time that is too far away");
    return "taken";
  },
};

const OPERATION_SAMPLES: Readonly<Partial<Record<keyof typeof operations, readonly unknown[]>>> = {
  pair: [{ token, name: "a" }],
  send: [{ to: DID, message: "hello", id: ID, origin: "chat" }],
  sent: [{ to: DID, id: ID, wait_ms: 5, until: "read" }],
  sent_messages: [{ limit: 5, to: DID }],
  inbox: [{ all: true, limit: 5, from: DID, mark_read: true }],
  mark_read: [{ messages: [{ from: DID, id: ID }] }],
  await: [{ from: [DID], timeout_ms: 5 }],
  discover: [{ name: "a", capability: "gpu" }],
  offload: [{ task: "t", files: ["a"], to: "s", timeout_minutes: 5, id: ID }],
  offload_status: [{ id: ID, wait_ms: 5, until_over: true }],
  offload_cancel: [{ id: ID }],
  settle: [{ wait_ms: 5 }],
  forget: [{ peer: DID, preview: true }],
  words: [{ stream: `conversation/${DID}`, bodies: [{ sealed: "AAAA" }, { blob: "aa", size: 3 }] }],
  accept: [{ peer: DID }],
  decline: [{ peer: "bob" }],
  news: [{ known: [{ subject: `conversation/${DID}`, mark: 3 }], wait_ms: 5 }],
  told: [{ told: [{ subject: `offload/${ID}`, mark: 1 }] }],
  knock_policy: [{ policy: "circle" }],
  verify: [{ peer: DID, number: "12345 67890", record: "verified" }],
  change_key: [{ protection: "file" }, { protection: "passphrase", passphrase: "words" }],
};

const TOOLS: readonly (readonly [string, tool.ToolParameters<unknown>, readonly unknown[]])[] = [
  [
    "mesh_pair",
    tool.MeshPairParameters,
    [
      { token, name: "laptop" },
      { code: token, agent: "a" },
    ],
  ],
  [
    "cloud_offload",
    tool.CloudOffloadParameters,
    [
      { task: "t", files: ["a", "b"], to: "s", timeout_minutes: 5 },
      { prompt: "t", file: "a", capabilities: "gpu", timeout_seconds: "300" },
    ],
  ],
  [
    "offload_status",
    tool.OffloadStatusParameters,
    [
      { offload_id: ID, wait_seconds: 5, until_done: true },
      { id: ID, timeout_ms: "500", wait_until_done: "yes" },
    ],
  ],
  ["offload_cancel", tool.OffloadCancelParameters, [{ offload_id: ID }, { id: [ID] }]],
  [
    "mesh_send",
    tool.MeshSendParameters,
    [
      { to: "bob", message: "hello" },
      { recipient: ["bob"], text: "hello" },
    ],
  ],
  [
    "mesh_inbox",
    tool.MeshInboxParameters,
    [
      { limit: 5, all: false, from: "bob", mark_read: 0 },
      { max: "5", include_read: "no" },
    ],
  ],
  [
    "mesh_await",
    tool.MeshAwaitParameters,
    [
      { from: ["bob", "eve"], timeout_seconds: 5 },
      { senders: '["bob"]', timeout_ms: 500 },
    ],
  ],
  ["mesh_discover", tool.DiscoverParameters, [{ name: "a", capability: "gpu" }]],
];

const tools = TOOLS.map(
  ([name, parameters, samples]): Target => ({
    name: `tool-${name}`,
    kind: "json",
    samples,
    take: (text) =>
      attempt(() => {
        const raw = json(text)?.value;
        const prepared = prepare(parameters, raw);
        const input = parameters.parse(raw);
        assertEqual(parameters.parse(prepared), input, "what was prepared means something else");
        assertEqual(parameters.parse(input), input, "what a tool takes it does not take again");
      }),
  }),
);

/** OpenClaw is given what it gave where nothing can be made of it. */
function prepare(parameters: tool.ToolParameters<unknown>, raw: unknown): unknown {
  try {
    return parameters.prepare(raw);
  } catch {
    return raw;
  }
}

export const wireTargets: readonly Target[] = [
  schemaTarget("frame", frame.ClientFrame, frames),
  schemaTarget("connect", frame.Connect, [connect], (value) => {
    // The proof is read from what the schema let through.
    connectRefusal(frame.Connect.parse(value) as Parameters<typeof connectRefusal>[0], NOW);
  }),
  schemaTarget("envelope", frame.Envelope, frames),
  schemaTarget("ack", frame.Ack, [{ v: 1, type: "ack", id: ID, sender: DID }]),
  payload,
  chunks,
  tokens,
  tokenBodies,
  legacyTokens,
  legacyTokenBodies,
  plainMessages,
  schemaTarget("pair-request", pair.PairRequest, [
    { token: urlKey, did: DID, public_key: urlKey, proof: urlSignature, proof_timestamp: TIME, display_name: "a" },
  ]),
  schemaTarget("pair-response", pair.PairResponse, [paired]),
  schemaTarget("error-response", pair.ErrorResponse, [{ error: { code: "token_used", message: "m" } }]),
  schemaTarget("register", registry.RegisterRequest, [registration], (value) => {
    registrationProof(registry.RegisterRequest.parse(value), NOW);
  }),
  schemaTarget("prekeys-upload", registry.PreKeysUpload, [
    { ...identityKeys, signed_pre_key: signedPreKey, one_time_pre_keys: [oneTime, oneTime] },
  ]),
  schemaTarget("prekeys", registry.PreKeysResponse, [
    { ...identityKeys, signed_pre_key: signedPreKey, one_time_pre_key: oneTime },
  ]),
  schemaTarget("agent", registry.AgentRecord, [
    { did: DID, public_key: urlKey, capabilities: ["a"], metadata: { a: "b" }, last_seen: TIME },
  ]),
  schemaTarget("discover-query", registry.DiscoverQuery, [{ capability: "gpu", limit: "5" }]),
  schemaTarget("discover", registry.DiscoverResponse, [
    { results: [{ did: DID, capabilities: ["a"], reputation_score: 1, last_seen: null }], total: 1 },
  ]),
  schemaTarget("reputation", registry.ReputationRequest, [{ score: 0.5, reason: "r" }]),
  authorization,
  schemaTarget("owner-question", Question, [
    { id: 1, call: "send", params: { to: "a", message: "b" } },
    { id: 1, abort: true },
  ]),
  ...Object.entries(operations).map(([name, { params }]) =>
    schemaTarget(`operation-${name}`, params, OPERATION_SAMPLES[name as keyof typeof operations] ?? [{}]),
  ),
  ...tools,
  {
    name: "config",
    kind: "json",
    samples: [{ home: "/tmp/home", name: "laptop" }, { home: "~/home" }],
    take: (text) => attempt(() => readConfig(json(text)?.value)),
  },
];
