import { isErrorCode } from "../errors.ts";
import { FIELDS_SHOWN_MAX, LIST_SHOWN_MAX } from "./limits.ts";

// Kinds of values that may be seen, each of which shows nothing but what looks like its kind.

/** Stands where something was held back. */
export const REDACTED = "[redacted]";

/** What of a value may be seen. */
export type Show = (value: unknown) => unknown;
export type Fields = Readonly<Record<string, Show>>;

/** What of one kind of machine may be seen: fields of its context, and of its events by type. */
export interface Allowed {
  readonly context: Fields;
  readonly events: Readonly<Record<string, Fields>>;
}

const text =
  (pattern: RegExp): Show =>
  (value) =>
    typeof value === "string" && pattern.test(value) ? value : REDACTED;

/** Never shown: its name is known, its value is nobody's business. */
export const hidden: Show = () => REDACTED;
/** Ids cross the relay in the clear. Without white space and slashes they are no sentences, paths or addresses. */
export const id = text(/^[A-Za-z0-9._:-]{1,128}$/);
export const did = text(/^did:mesh:[0-9a-f]{32}$/);
/** A DID, or the older name of the same key. */
export const keyName = text(/^(?:did:mesh:[0-9a-f]{32}|[1-9A-HJ-NP-Za-km-z]{20,28})$/);
/** A public key of 32 bytes, base64. */
export const key = text(/^[A-Za-z0-9+/]{43}=$/);
/** Names of agents, sandboxes, grants and capabilities are public in the registry. */
export const name = text(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/);
export const code: Show = (value) => (isErrorCode(value) ? value : REDACTED);
export const flag: Show = (value) => (typeof value === "boolean" ? value : REDACTED);
/** Counters, sizes, numbers of things. */
export const count: Show = (value) => (typeof value === "number" && Number.isFinite(value) ? value : REDACTED);
const timestamp = text(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/);
/** Epoch milliseconds, or ISO 8601. */
export const time: Show = (value) => (typeof value === "number" ? count(value) : timestamp(value));
/** Of an address the host and the port alone. */
export const host: Show = (value) =>
  (typeof value === "string" && URL.canParse(value) && new URL(value).host) || REDACTED;
export const oneOf =
  (...known: readonly string[]): Show =>
  (value) =>
    typeof value === "string" && known.includes(value) ? value : REDACTED;

export const list =
  (each: Show): Show =>
  (value) => {
    if (!Array.isArray(value)) return REDACTED;
    const shown = value.slice(0, LIST_SHOWN_MAX).map((entry: unknown) => each(entry));
    return value.length > LIST_SHOWN_MAX ? [...shown, `[${value.length - LIST_SHOWN_MAX} more]`] : shown;
  };

export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export function fieldsOf(fields: Fields, value: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const [field, content] of Object.entries(value).slice(0, FIELDS_SHOWN_MAX)) {
    if (content === undefined) continue;
    const show = Object.hasOwn(fields, field) ? fields[field] : undefined;
    // A field's name is a word of the program; what is none might be somebody's words.
    if (show) shown[field] = content === null || content === "" ? content : show(content);
    else shown[/^[a-z][A-Za-z_]{0,31}$/.test(field) ? field : REDACTED] = REDACTED;
  }
  return shown;
}
export const object =
  (fields: Fields): Show =>
  (value) =>
    isObject(value) ? fieldsOf(fields, value) : REDACTED;
