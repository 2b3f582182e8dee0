import { z } from "zod";
import { ERROR_CODES } from "../errors.ts";
import {
  FILE_CHUNK_SIZE,
  FILE_CHUNK_SIZE_MIN,
  FILE_CHUNKS_MAX,
  FILE_NAME_LENGTH_MAX,
  FILE_PULL_CHUNKS,
  FILE_SIZE_ALLOWED_MAX,
  FILE_SIZE_READ_MAX,
  FILES_MAX,
  OUTPUTS_MAX,
  PATH_LENGTH_MAX,
  PROGRESS_LINE_LENGTH_MAX,
  RECEIPTS_OWED_MAX,
  SUMMARY_LENGTH_MAX,
  TASK_SIZE_MAX,
  TRANSFER_CHUNK_SIZE,
  TRANSFER_CHUNKS_MAX,
} from "../limits.ts";
import { safeParse } from "../parse.ts";
import { base64Text, Did, Id, parseJson, Sha256, Timestamp, withoutNulls } from "./text.ts";

// What travels inside an encrypted message: the vocabulary of a kars cluster and of the agents on it. Fields marked
// "extension" are ours; others ignore them, and nothing breaks where they are missing.

const Line = z.string().transform((text) => text.slice(0, PROGRESS_LINE_LENGTH_MAX));
const Stage = z.string().transform((text) => text.slice(0, 64));
const Percent = z.number().transform((number) => Math.min(100, Math.max(0, number)));
const FileName = z.string().min(1).max(FILE_NAME_LENGTH_MAX);
const from = { from_agent: z.string().max(200).optional(), timestamp: Timestamp.optional() };

// Chat
export const Chat = z.looseObject({ type: z.literal("message"), content: z.string() });
export const TaskRequest = z.looseObject({ type: z.literal("task_request"), content: z.string(), ...from });
export const TaskResponse = z.looseObject({
  type: z.literal("task_response"),
  content: z.string(),
  in_reply_to: z.string().max(200).optional(),
  ...from,
});

// Offload: laptop -> controller
export const OffloadRequest = z.looseObject({
  type: z.literal("offload_request"),
  request_id: Id,
  task: z.string().max(TASK_SIZE_MAX),
  files: z.array(FileName).max(FILES_MAX).default([]),
  file_count: z.int().min(0).max(FILES_MAX).optional(),
  total_bytes: z.int().min(0).optional(),
  /** Extension: bytes of the largest of them. */
  largest_bytes: z.int().min(0).optional(),
  preferences: z
    .looseObject({
      model: z.string().max(200).optional(),
      max_tokens: z.int().min(0).optional(),
      timeout_minutes: z.number().positive().optional(),
    })
    .default({}),
  /** Extension: the sandbox that stands under a name, or what a fresh one must be capable of. */
  target: z.looseObject({ name: z.string().max(64).optional(), capability: z.string().max(64).optional() }).optional(),
  timestamp: Timestamp.optional(),
});
export const OffloadCleanup = z.looseObject({
  type: z.literal("offload_cleanup"),
  request_id: Id,
  reason: z.string().max(64),
  timestamp: Timestamp.optional(),
});

/** Extension: how the task's process ended; null when a signal ended it, absent when there was none. */
const ExitCode = z.int().nullable().optional();

// Offload: controller -> laptop
export const OffloadStatus = z.looseObject({
  type: z.literal("offload_status"),
  request_id: Id,
  phase: z.enum(["validating", "spawning", "scheduled", "ready"]),
  message: Line.optional(),
  sandbox_name: z.string().max(200).optional(),
  /** Extension: the DID that will say hello. */
  sandbox_did: Did.optional(),
});
export const OffloadError = z.looseObject({
  type: z.literal("offload_error"),
  request_id: Id,
  error: z.string().transform((text) => text.slice(0, 4000)),
  phase: z.string().max(64).optional(),
  /** Extension: one of our error codes. */
  code: z.string().max(64).optional(),
  exit_code: ExitCode,
});

// Offload: sandbox -> laptop
export const OffloadHello = z.looseObject({
  type: z.literal("offload_hello"),
  request_id: Id,
  from_agent: z.string().max(200).optional(),
  message: Line.optional(),
  /** Extension: the sandbox waits for files and for `offload_task`. Without it, it is at work already. */
  accepts: z.array(z.string().max(64)).max(8).optional(),
});
export const OffloadProgress = z.looseObject({
  type: z.literal("offload_progress"),
  request_id: Id,
  stage: Stage.optional(),
  pct: Percent.optional(),
  message: Line.optional(),
  elapsed_seconds: z.number().optional(),
});
export const OffloadDone = z.looseObject({
  type: z.literal("offload_done"),
  request_id: Id,
  summary: z.string().transform((text) => text.slice(0, SUMMARY_LENGTH_MAX)),
  /** The names of written files, which a deployed sandbox lists even when it does not send the files. */
  output_files: z
    .array(z.string())
    .transform((names) => names.slice(0, OUTPUTS_MAX))
    .default([]),
  tokens_used: z.looseObject({ prompt: z.number().optional(), completion: z.number().optional() }).optional(),
  duration_seconds: z.number().optional(),
  exit_code: ExitCode,
});

// Offload: laptop -> sandbox
export const OffloadTask = z.looseObject({
  type: z.literal("offload_task"),
  request_id: Id,
  task: z.string().max(TASK_SIZE_MAX),
  files: z.array(FileName).max(FILES_MAX).default([]),
  ...from,
});
export const TaskReceived = z.looseObject({ type: z.literal("task_received"), request_id: Id });

/** What a sandbox tells its cluster of its task, as it happens: no words of the task's. */
export const TaskNews = z.discriminatedUnion("type", [
  z.object({ type: z.literal("begun"), files: z.int().min(0), bytes: z.int().min(0) }),
  /** Tokens of a language model, all until now. */
  z.object({ type: z.literal("used"), tokens: z.int().min(0) }),
  z.object({
    type: z.literal("ended"),
    ok: z.boolean(),
    exit: z.int().nullable(),
    code: z.enum(ERROR_CODES).nullable(),
    reason: z.string().max(1000).nullable(),
  }),
]);
export type TaskNews = z.infer<typeof TaskNews>;

/** Extension: sandbox -> controller, from one that is no process of its controller's machine. */
export const TaskNewsMessage = z.looseObject({ type: z.literal("mesh:task_news"), request_id: Id, news: TaskNews });

// Files, both ways
export const FileTransfer = z.looseObject({
  type: z.literal("file_transfer"),
  file_name: FileName,
  file_path: z.string().max(PATH_LENGTH_MAX).optional(),
  file_data: base64Text(FILE_SIZE_READ_MAX),
  size_bytes: z.int().min(0).max(FILE_SIZE_READ_MAX),
  /** Extension: the offload it belongs to, and its hash. */
  request_id: Id.optional(),
  sha256: Sha256.optional(),
  ...from,
});
export const FileTransferAck = z.looseObject({
  type: z.literal("file_transfer_ack"),
  file_name: FileName,
  /** A Hermes sandbox acknowledges only what it saved, and says nothing more of that. */
  success: z.boolean().default(true),
  error: z.string().max(1000).optional(),
  request_id: Id.optional(),
  /** Extension: the offer that it answers. */
  transfer_id: Id.optional(),
});

// Extension, for peers that announce `files`: a file is offered, and who takes it pulls its pieces, which are no payloads
// (see file-chunk.ts), as many at a time as it has room for. `file_transfer_ack` says that it is whole, or what was wrong.
export const FileOffer = z.looseObject({
  type: z.literal("mesh:file_offer"),
  transfer_id: Id,
  request_id: Id,
  file_name: FileName,
  size_bytes: z.int().min(0).max(FILE_SIZE_ALLOWED_MAX),
  /** Bytes of every piece but the last. */
  chunk_size: z.int().min(FILE_CHUNK_SIZE_MIN).max(FILE_CHUNK_SIZE),
  sha256: Sha256,
  /** What it is when it is no result: what the task printed. */
  role: z.enum(["log"]).optional(),
});
export const FilePull = z.looseObject({
  type: z.literal("mesh:file_pull"),
  transfer_id: Id,
  /** The first piece that is wanted, and how many; those behind the last are left out. */
  first: z
    .int()
    .min(0)
    .max(FILE_CHUNKS_MAX - 1),
  count: z.int().min(1).max(FILE_PULL_CHUNKS),
});

// Payloads over 512 KiB, in chunks. `data` is a slice of the payload's JSON text, and `hash` the SHA-256 of its UTF-8: deployed
// agents write that. Peers that announce extensions of ours may write base64 of a slice of the UTF-8 instead (see chunks.ts).
export const TransferManifest = z.looseObject({
  type: z.literal("mesh:transfer_manifest"),
  transfer_id: Id,
  original_type: z.string().max(64),
  total_chunks: z.int().min(1).max(TRANSFER_CHUNKS_MAX),
  total_bytes: z
    .int()
    .min(1)
    .max(TRANSFER_CHUNKS_MAX * TRANSFER_CHUNK_SIZE),
  chunk_hashes: z.array(Sha256).max(TRANSFER_CHUNKS_MAX),
  /** SHA-256 of the hashes joined by ":". */
  manifest_hash: Sha256,
});
export const TransferChunk = z.looseObject({
  type: z.literal("mesh:transfer_chunk"),
  transfer_id: Id,
  chunk_index: z
    .int()
    .min(0)
    .max(TRANSFER_CHUNKS_MAX - 1),
  total_chunks: z.int().min(1).max(TRANSFER_CHUNKS_MAX),
  data: z.string().max(Math.ceil(TRANSFER_CHUNK_SIZE / 3) * 4),
  hash: Sha256,
});

/** The receiver of a transfer lacks these chunks: they are sent again. */
export const TransferChunkRequest = z.looseObject({
  type: z.literal("mesh:transfer_chunk_request"),
  transfer_id: Id,
  missing: z
    .array(
      z
        .int()
        .min(0)
        .max(TRANSFER_CHUNKS_MAX - 1),
    )
    .max(TRANSFER_CHUNKS_MAX),
});
export const TransferComplete = z.looseObject({ type: z.literal("mesh:transfer_complete"), transfer_id: Id });

// Whether an older sandbox is up, which says no hello by itself.
export const Ping = z.looseObject({ type: z.literal("mesh:ping"), nonce: Id });
export const Pong = z.looseObject({ type: z.literal("mesh:pong"), nonce: Id });

// Extension, for peers that announce `receipts`: what became of their chat messages, by id.
export const Receipt = z.looseObject({
  type: z.literal("mesh:receipt"),
  /** On this side's disk. */
  delivered: z.array(Id).max(RECEIPTS_OWED_MAX),
  /** Shown to the person or the agent. */
  read: z.array(Id).max(RECEIPTS_OWED_MAX),
});

export const Payload = z.discriminatedUnion("type", [
  Chat,
  TaskRequest,
  TaskResponse,
  OffloadRequest,
  OffloadCleanup,
  OffloadStatus,
  OffloadError,
  OffloadHello,
  OffloadProgress,
  OffloadDone,
  OffloadTask,
  TaskReceived,
  TaskNewsMessage,
  FileTransfer,
  FileTransferAck,
  FileOffer,
  FilePull,
  TransferManifest,
  TransferChunk,
  TransferChunkRequest,
  TransferComplete,
  Ping,
  Pong,
  Receipt,
]);
export type Payload = z.infer<typeof Payload>;
/** What may be put into a message: the schema's input form, before its defaults. */
export type PayloadInput = z.input<typeof Payload>;
export type PayloadOf<T extends Payload["type"]> = Extract<Payload, { type: T }>;

const CHAT_TYPES = new Set<Payload["type"]>(["message", "task_request", "task_response"]);
export const isChat = (payload: Payload): payload is PayloadOf<"message" | "task_request" | "task_response"> =>
  CHAT_TYPES.has(payload.type);

const asChat = (content: string): Payload => ({ type: "message", content });

/** A value that is in the vocabulary, and in the form that its type asks for. */
const known = (value: unknown): Payload | undefined =>
  safeParse(Payload, value).data ?? safeParse(Payload, withoutNulls(value)).data;

/**
 * Takes JSON text out of a JSON string. The Python client puts everything that its application says into a string, so a payload of a
 * Python sandbox is JSON in JSON.
 */
export function unwrapped(text: string): string {
  const value = parseJson(text);
  return typeof value === "string" && known(parseJson(value)) ? value : text;
}

/**
 * Reads the text of a decrypted message. Three kinds of text are chat with the whole text as content: text that is not JSON, a JSON
 * string, and JSON with an unknown type or with another form than its type requires.
 */
export function parsePayload(text: string): Payload {
  const value = parseJson(text);
  if (typeof value === "string") return known(parseJson(value)) ?? asChat(value);
  return known(value) ?? asChat(text);
}
