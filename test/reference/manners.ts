/**
 * How the two reference clients differ on the wire, as the recordings show it; what lies behind that (buffers, faults) as their
 * sources have it. `client.ts` does the rest, which is the same for both.
 */
import type { Kdf } from "../../src/crypto/index.ts";
import { pythonJson } from "./python-json.ts";

export interface Manner {
  readonly kdf: Kdf;
  /** Whether it registers and connects with a proof that it holds its key. */
  readonly proves: boolean;
  /** JSON as it stands in frames and bodies. */
  readonly write: (value: unknown) => string;
  /** The plaintext of a message that the application says. */
  readonly encode: (value: unknown) => Uint8Array;
  /** What the application is given of a plaintext. */
  readonly decode: (plaintext: Uint8Array) => unknown;
  readonly metadata: (name: string) => Readonly<Record<string, string>>;
  /** Whether it opens its socket before it registers. */
  readonly connectsFirst: boolean;
  /** Whether requests that need no authorization carry one. */
  readonly alwaysAuthorizes: boolean;
  /** A DID in a path. */
  readonly inPath: (did: string) => string;
  /** How many agents of a name it asks the registry for. */
  readonly discoverLimit: number;
  readonly asksForPending: boolean;
  /** Whether it takes leave with a frame before it closes. */
  readonly saysGoodbye: boolean;
  /** One-time prekeys that are published at the start. */
  readonly oneTimePreKeys: number;
  /** Those that are published with each knock, in the place of all others; 0: none. */
  readonly topUp: number;
  readonly acks: boolean;
  readonly answersKnocks: boolean;
  /** Whether a knock counts although there is a session with its sender. */
  readonly knockReplaces: boolean;
  /** Messages of a peer without a session that wait for its knock, and for how long. */
  readonly early: { readonly messages: number; readonly ms: number };
  /** Whether a message that does not decrypt ends the session. */
  readonly endsOnFailure: boolean;
  readonly frameSizeMax: number;
  /** The last of the delays between attempts to connect, which are doubled from a second on. */
  readonly reconnectMaxMs: number;
}

const utf8 = (text: string) => new Uint8Array(Buffer.from(text, "utf8"));
const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString("utf8");
const MiB = 1024 * 1024;

/**
 * The TypeScript client 5.0.0 (`typescript-client-to-typescript-client.jsonl`). It acks a message when it has read it, before its
 * application has it. A knock is answered and never acked, so a relay that stored one gives it again with each connection.
 */
const typescript: Manner = {
  kdf: "current",
  proves: true,
  write: (value) => JSON.stringify(value),
  encode: (value) => utf8(JSON.stringify(value)),
  decode: (plaintext) => JSON.parse(textOf(plaintext)),
  metadata: (name) => ({ display_name: name }),
  connectsFirst: true,
  alwaysAuthorizes: true,
  inPath: encodeURIComponent,
  discoverLimit: 50,
  asksForPending: true,
  saysGoodbye: true,
  oneTimePreKeys: 20,
  topUp: 0,
  acks: true,
  answersKnocks: true,
  knockReplaces: false,
  early: { messages: 5, ms: 3_000 },
  endsOnFailure: true,
  frameSizeMax: 16 * MiB,
  reconnectMaxMs: 60_000,
};

/** A text is said as a JSON string; bytes that are no text as an object; what is neither as a JSON string of its JSON. */
function pythonPayload(value: unknown): string {
  if (!(value instanceof Uint8Array)) return pythonJson(typeof value === "string" ? value : pythonJson(value));
  const text = textOf(value);
  const isText = Buffer.from(text, "utf8").equals(value);
  return pythonJson(isText ? text : { raw_b64: Buffer.from(value).toString("base64") });
}

/** The text that was said, or the bytes; of anything else the JSON as it came. */
function pythonApplication(plaintext: Uint8Array): unknown {
  const text = textOf(plaintext);
  const said: unknown = JSON.parse(text);
  if (typeof said === "string") return said;
  if (typeof said === "object" && said !== null && "raw_b64" in said && typeof said.raw_b64 === "string")
    return new Uint8Array(Buffer.from(said.raw_b64, "base64"));
  return text;
}

/**
 * The Python client of kars (`python-client-with-typescript-client.jsonl`). It acks nothing and answers no knock. A message without
 * a session, or one that does not decrypt, is dropped; the session stays, broken as it is.
 */
const python: Manner = {
  kdf: "current",
  proves: true,
  write: pythonJson,
  encode: (value) => utf8(pythonPayload(value)),
  decode: pythonApplication,
  metadata: (name) => ({ display_name: name, runtime: "python", library: "kars-agt-mesh/0.1.0" }),
  connectsFirst: false,
  alwaysAuthorizes: false,
  inPath: (did) => did,
  discoverLimit: 200,
  asksForPending: false,
  saysGoodbye: false,
  oneTimePreKeys: 10,
  topUp: 10,
  acks: false,
  answersKnocks: false,
  knockReplaces: true,
  early: { messages: 0, ms: 0 },
  endsOnFailure: false,
  frameSizeMax: MiB,
  reconnectMaxMs: 30_000,
};

/** The TypeScript client of npm 4.0.0: it derives the shared key in another way, and proves nothing, neither here nor there. */
const npm4: Manner = { ...typescript, kdf: "npm4", proves: false };

export const MANNERS = { typescript, python, npm4 } as const;
