import { z } from "zod";
import { CAPABILITIES_MAX, CAPABILITY_LENGTH_MAX, NAME_LENGTH_MAX } from "../limits.ts";
import { parseModest } from "./bounded-json.ts";
import { BODY_PARTS_MAX } from "./limits.ts";

// The small shapes that every other schema of this room is made of.

/** `did:mesh:` and 32 lower-case hex digits. */
export const Did = z.string().regex(/^did:mesh:[0-9a-f]{32}$/, "not a DID of the form did:mesh:<32 hex digits>");

const TYPED_DID = /^did:(?:agent)?mesh:([0-9a-f]{32})$/;

/**
 * Normalises an address that a person or a model typed. A DID may be written as `did:agentmesh:…`, as the written specification has
 * it, in capitals, and with blanks around it; the result has the form of the wire. A name loses the blanks around it.
 */
export function asAddress(typed: string): string {
  const text = typed.trim();
  const [, id] = TYPED_DID.exec(text.toLowerCase()) ?? [];
  return id === undefined ? text : `did:mesh:${id}`;
}

/** A pasted token without the white space and the invisible characters that chats and mails put into it. */
export const compactToken = (pasted: string): string => pasted.replaceAll(/[\s\u00ad\u200b-\u200d\u2060\ufeff]/g, "");

/** Standard base64 with padding, of at most `bytes` bytes. Its canonical form is checked where it is decoded. */
export const base64Text = (bytes: number) =>
  z
    .string()
    .max(Math.ceil(bytes / 3) * 4)
    .regex(/^[A-Za-z0-9+/]*={0,2}$/, "not base64");

/**
 * The end of an encoded byte string, by what is left of it after whole groups of three bytes: the bits that its last
 * character has too many are zero, so that every byte string has one text (RFC 4648 section 3.5).
 */
const ENDS = ["", "[AQgw]", "[AEIMQUYcgkosw048]"] as const;
const PADDING = ["", "==", "="] as const;

const exactly = (bytes: number, letters: string, padding: string) => {
  const whole = Math.floor((bytes * 4) / 3);
  return new RegExp(`^[A-Za-z0-9${letters}]{${whole}}${ENDS[bytes % 3]}${padding}$`);
};

/** base64url without padding, of exactly `bytes` bytes, in its canonical form. */
export const base64urlExact = (bytes: number) => z.string().regex(exactly(bytes, "_-", ""), "not base64url");

/** Standard base64 with padding, of exactly `bytes` bytes, in its canonical form. */
export const base64Exact = (bytes: number) =>
  z.string().regex(exactly(bytes, "+/", PADDING[bytes % 3] ?? ""), "not base64");

/** Parses JSON text, which may begin with a byte order mark. Returns undefined when it is no JSON, or too deep or too wide. */
export const parseJson = (text: string): unknown =>
  parseModest(text.startsWith("\ufeff") ? text.slice(1) : text, BODY_PARTS_MAX);

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Some writers say null of what they do not say: such fields go, those of objects in fields too. */
export function withoutNulls(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const said = (object: Readonly<Record<string, unknown>>) =>
    Object.entries(object).filter(([, field]) => field !== null);
  return Object.fromEntries(
    said(value).map(([name, field]) => [name, isRecord(field) ? Object.fromEntries(said(field)) : field]),
  );
}

/** An id that a peer chose: short, printable, no white space. */
export const Id = z.string().regex(/^[\x21-\x7e]{1,128}$/, "not an id of 1 to 128 printable characters");

/** An id as one word of a shell command, quoted if needed, because a peer chose the id and a person may copy the command. */
export const asShellWord = (id: string): string =>
  /^[\w%+,./:=@-]+$/.test(id) ? id : `'${id.replaceAll("'", "'\\''")}'`;

/** A SHA-256, 64 lower-case hex digits. */
export const Sha256 = z.string().regex(/^[0-9a-f]{64}$/, "not a SHA-256 in hex");

export const Timestamp = z.string().max(40);
export const U32 = z.int().min(0).max(0xffffffff);
export const KeyId = z.int().min(0);

export const Capability = z.string().min(1).max(CAPABILITY_LENGTH_MAX);
export const Capabilities = z.array(Capability).max(CAPABILITIES_MAX);

/** A display name: it becomes a capability, a folder and a line on a terminal, so it is letters, digits, `.`, `_`, `-`. */
export const Name = z
  .string()
  .max(NAME_LENGTH_MAX)
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
    "a name is letters, digits, dot, dash and underscore, starting with a letter or digit",
  );
