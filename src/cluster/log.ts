import { LOG_DETAIL_LENGTH_MAX } from "./limits.ts";
import type { Limit } from "./rates.ts";

// What a server says of itself, as events with fields. No field holds a word or a key of anyone: what may be said is listed
// here, and nothing else is written.

export type Level = "info" | "warning" | "error";

export interface Fields {
  readonly did?: string | undefined;
  /** A network address, as it is counted by. */
  readonly address?: string | undefined;
  /** Of an error, or of a WebSocket's close. */
  readonly code?: string | number | undefined;
  readonly limit?: Limit | undefined;
  readonly count?: number | undefined;
  readonly ms?: number | undefined;
  readonly proven?: boolean | undefined;
  /** A sentence of ours, or of the system; of a defect nobody knows what it holds, and JSON leaves it out. */
  readonly detail?: string | undefined;
}

interface Kind {
  readonly level: Level;
  /** As people read it. */
  readonly text: (fields: Fields) => string;
}

const or = (text: string | undefined, otherwise: string) => text ?? otherwise;
const kind = (level: Level, text: Kind["text"]): Kind => ({ level, text });

const KINDS = {
  connected: kind("info", ({ did, proven }) => `relay: ${did} connected${proven === false ? " without a proof" : ""}`),
  left: kind("info", ({ did }) => `relay: ${did} left`),
  in_doubt: kind(
    "warning",
    ({ did, count }) => `relay: the line of ${did} broke over ${count} messages that are not given again`,
  ),
  not_given: kind("error", ({ did, detail }) => `relay: ${did} could not be given its mail: ${detail}`),
  not_let_in: kind("warning", ({ did, detail }) => `relay: ${did} could not be let in: ${detail}`),
  not_stored: kind("error", ({ detail }) => `relay: a frame could not be stored: ${detail}`),
  socket_failed: kind("info", ({ did, detail }) => `relay: ${or(did, "a socket")}: ${detail}`),
  upgrade_failed: kind("info", ({ detail }) => `upgrade: ${detail}`),
  reader_cut: kind("warning", ({ did, count }) => `relay: ${did} takes nothing: cut off, ${count} bytes waited`),
  request_failed: kind("error", ({ detail }) => `http: ${detail}`),
  limit_met: kind("warning", ({ limit, did, address }) => `limit: ${limit} met by ${or(did ?? address, "someone")}`),
  draining: kind("info", ({ count }) => `relay: hands over ${count} connections`),
  drained: kind("info", ({ ms }) => `relay: handed over in ${ms} ms`),
  certificate_taken: kind("info", () => "tls: the certificate was read again"),
  certificate_refused: kind("error", ({ detail }) => `tls: the certificate stays as it was: ${detail}`),
  /** What the state says, which is about files, NATS and their errors. */
  state: kind("info", ({ detail }) => or(detail, "")),
  /** What the controller and its command say. */
  note: kind("info", ({ detail }) => or(detail, "")),
} satisfies Record<string, Kind>;

export type EventName = keyof typeof KINDS;
export type Log = (event: EventName, fields?: Fields) => void;

/** Lines as people read them. */
export const textLog =
  (write: (line: string) => void): Log =>
  (event, fields = {}) =>
    write(KINDS[event].text(fields));

/** A line of JSON an event: `{"time","level","event",…}`. */
export const jsonLog =
  (write: (line: string) => void, now: () => number = Date.now): Log =>
  (event, fields = {}) => {
    const { did, address, code, limit, count, ms, proven } = fields;
    const detail = code === "internal" ? undefined : fields.detail?.slice(0, LOG_DETAIL_LENGTH_MAX);
    const time = new Date(now()).toISOString();
    const { level } = KINDS[event];
    write(JSON.stringify({ time, level, event, did, address, code, limit, count, ms, proven, detail }));
  };
