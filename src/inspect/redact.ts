import { TIMER_EVENT } from "../actors/state.ts";
import { KNOCK_POLICIES } from "../machines/admission/events.ts";
import { PEER_EXTENSIONS, UNTAKEN } from "../machines/conversation/events.ts";
import { CLUSTER_ALLOWED } from "./allowed-cluster.ts";
import { DEFINITIONS } from "./definitions.ts";
import {
  type Allowed,
  code,
  count,
  did,
  type Fields,
  fieldsOf,
  flag,
  hidden,
  host,
  id,
  isObject,
  key,
  keyName,
  list,
  name,
  object,
  oneOf,
  REDACTED,
  type Show,
  time,
} from "./show.ts";

export { REDACTED } from "./show.ts";

// What of events and states may leave: an allow-list. Each field of each machine is named here with the kind of value that it
// may show, and the value must look like that kind. What is not named, or does not look like it, stays behind.
//
// Nothing here reads words: bodies (sealed ones too), nonces, tokens, hashes of tokens and of files, free text, file names and
// paths have no kind, so they have no way out, whatever field they stand in.

/** Of sealed words how many bytes they take. */
const body: Show = (value) => {
  if (!isObject(value)) return REDACTED;
  const { sealed, size } = value;
  return { size: typeof sealed === "string" ? Buffer.byteLength(sealed, "base64") : count(size) };
};

const header = object({ dh: key, pn: count, n: count });
const kind = oneOf("chat", "work", "part", "receipt");
const receipts: Fields = { delivered: list(id), read: list(id) };
const extension = oneOf(...PEER_EXTENSIONS);
const extensions = list(extension);
/** Names of extensions with spaces between them. */
const extensionNames: Show = (value) =>
  typeof value === "string" && value.split(" ").every((each) => extension(each) === each) ? value : REDACTED;
const policy = oneOf(...KNOCK_POLICIES);
const outgoing = list(
  object({
    id,
    kind,
    body,
    at: time,
    sealed: object({ session: id, header, nonce: hidden, frame: id }),
    again: flag,
    resend: flag,
  }),
);
const role = oneOf("initiator", "responder");
/** The controller's own word for how far it is. A sandbox's stages are its own words, which stay here. */
const phase = oneOf("validating", "spawning", "scheduled", "ready");
const capabilities = list(name);
const grant = object({ name, slots: count, capabilities, token_budget: count, expires_at: time });
const failure = object({ code, detail: hidden });
const kdf = oneOf("current", "npm4");
const agreement: Fields = { peer: did, knock: id, ik: key, ek: key, spk: count, otk: count, kdf };

const way = oneOf("up", "down");

const ALLOWED: Readonly<Record<string, Allowed>> = {
  pairing: {
    context: {
      did,
      pairUrl: host,
      controller: did,
      cluster: name,
      relayUrl: host,
      registryUrl: host,
      requestedName: name,
      name,
      capabilities,
      grant,
      vouches: flag,
      prekeys: object({ signed: count, first: count, next: count }),
      pairedAt: time,
      asking: object({
        request: id,
        amid: keyName,
        asks: count,
        before: object({ name, relayUrl: host, registryUrl: host }),
      }),
      plain: keyName,
      announced: extensionNames,
      forgotten: object({ at: time, again: time, times: count }),
      rejoining: flag,
      attempts: count,
      failure,
    },
    events: {
      INVITED: { did, controller: did, amid: keyName, request: id, relay_url: host, registry_url: host, name },
      STARTED: { did, pair_url: host, controller: did, name, capabilities },
      JOINED: { did, controller: did, cluster: name, relay_url: host, registry_url: host, name, capabilities },
      CLAIMED: { cluster: name, relay_url: host, registry_url: host, grant, vouches: flag, plain: keyName },
      REGISTERED: { name, capabilities, extensions: extensionNames },
      PREKEYS_MADE: { signed: count, first: count, count },
      PUBLISHED: { signed: count },
      FAILED: { code, detail: hidden, final: flag },
    },
  },
  prekeys: {
    context: {
      controller: did,
      signed: count,
      signedAt: time,
      kept: list(object({ id: count, until: time })),
      first: count,
      next: count,
      left: count,
      lotAt: time,
      drained: flag,
      wanted: object({ rotate: flag, count }),
      attempts: count,
      failure,
    },
    events: {
      ADOPTED: { signed: count, next: count },
      CHECKED: { left: count, ours: count },
      USED_UP: {},
      DRAINED: {},
      MADE: { signed: count, first: count, count, dropped: list(count) },
      PUBLISHED: { signed: count },
      FAILED: { code, detail: hidden },
    },
  },
  admission: {
    context: { policy },
    events: { POLICY_SET: { policy } },
  },
  session: {
    context: {
      ...agreement,
      spkKey: key,
      id,
      role,
      encrypted: count,
      decrypted: count,
      turns: count,
      skipped: count,
      lastHeard: time,
      began: key,
      closed: hidden,
    },
    events: {
      INITIATED: { ...agreement, spk_key: key },
      ACCEPTED: { ...agreement, spk_key: key },
      CONFIRMED: { by: oneOf("knock_accept", "message") },
      ENCRYPTED: { message: id, header },
      DECRYPTED: { message: id, header, turned: flag, skipped: count, late: flag, kdf },
      CLOSED: { reason: hidden },
    },
  },
  conversation: {
    context: {
      peer: did,
      name,
      address: name,
      verified: time,
      admission: oneOf("unasked", "held", "admitted", "declined"),
      extensions,
      owed: object(receipts),
      session: id,
      proved: list(id),
      plain: flag,
      unconfirmed: outgoing,
      outbox: outgoing,
      reframed: list(object({ id, frame: id })),
      handling: list(object({ id, kind, body })),
      partsAt: time,
      attempts: count,
      sent: count,
      received: count,
      unread: count,
      undeliverable: count,
    },
    events: {
      SEND: { id, kind, body, size: count },
      ESTABLISHED: { session: id, role },
      ESTABLISH_FAILED: { code, final: flag },
      SESSION_LOST: { session: id, code },
      SEALED: { id, session: id, header, nonce: hidden, frame: id },
      TRANSMITTED: { ids: list(id), proof: oneOf("accepted", "written"), resend: flag },
      ARRIVED: { ids: list(id) },
      RENEW: {},
      UNCERTAIN: { ids: list(id) },
      CONFIRMED: { session: id },
      UNSENT: { ids: list(id) },
      RETURNED: { id, kind, body, size: count },
      UNDELIVERABLE: { ids: list(id), code },
      RECEIVED: { id, session: id, kind, body, size: count, sent_at: time, untaken: oneOf(...UNTAKEN) },
      HANDLED: { ids: list(id) },
      READ: { ids: list(id) },
      NAMED: { name, source: oneOf("registry", "address") },
      ANNOUNCED: { extensions },
      PLAIN: {},
      UNPLAIN: {},
      HELD: {},
      ADMITTED: {},
      DECLINED: {},
      ACKNOWLEDGED: { id, session: id, ...receipts },
      RECEIPTED: receipts,
      VERIFIED: {},
      UNVERIFIED: {},
    },
  },
  offload: {
    context: {
      id,
      controller: did,
      target: object({ name, capability: name }),
      request: body,
      timeoutMinutes: count,
      requestedAt: time,
      endedAt: time,
      sandbox: object({ name, did }),
      stage: phase,
      pct: count,
      note: body,
      files: object({ count, bytes: count }),
      moved: object({ way, bytes: count, total: count }),
      results: list(object({ body, size: count, sha256: hidden })),
      log: object({ body, size: count, sha256: hidden }),
      exit: count,
      summary: body,
      outputs: count,
      tokens: object({ prompt: count, completion: count }),
      durationSeconds: count,
      failure: code,
      lastHeard: time,
      cleanedUp: flag,
      refusals: count,
      plain: flag,
      readyAt: time,
      ponged: list(did),
      handsTask: flag,
      confirmed: flag,
    },
    events: {
      REQUESTED: {
        controller: did,
        target: object({ name, capability: name }),
        timeout_minutes: count,
        body,
        files: count,
        bytes: count,
        queued: flag,
        plain: flag,
      },
      STATUS: { phase, sandbox: name, sandbox_did: did, note: body },
      GREETED: { did, awaits_task: flag, note: body },
      PONGED: { did },
      TRANSFERRED: { way, bytes: count, total: count },
      PROGRESSED: { stage: phase, pct: count, note: body },
      FILE_SAVED: { body, size: count, sha256: hidden },
      LOG_SAVED: { body, size: count, sha256: hidden },
      FINISHED: {
        exit: count,
        body,
        outputs: count,
        tokens: object({ prompt: count, completion: count }),
        duration_seconds: count,
      },
      FAILED: { code, exit: count, note: body },
    },
  },
  notice: {
    context: { origin: hidden, told: count },
    events: { ASKED: { origin: hidden }, TOLD: { mark: count } },
  },
  link: {
    context: {
      url: host,
      extensions: list(oneOf("accepted")),
      attempts: count,
      chance: count,
      closed: object({ code: count, reason: hidden }),
      since: time,
      caughtUp: flag,
    },
    events: {
      CONNECT: { url: host },
      OPENED: { extensions: list(oneOf("accepted")), pending: count },
      CLOSED: { code: count, reason: hidden, final: flag, chance: count },
    },
  },
  presence: {
    context: { registryUrl: host, tells: flag, ours: flag, knownAt: time, chance: count, attempts: count, failure },
    events: {
      UP: { registry_url: host, tells: flag, chance: count },
      LOOKED: { ours: flag },
      FAILED: { code, detail: hidden, chance: count },
    },
  },
  ...CLUSTER_ALLOWED,
};

/** Told to machines of every kind. */
const UNIVERSAL: ReadonlySet<string> = new Set([TIMER_EVENT, "RESUMED"]);

const isKnownType = (machine: string, type: string): boolean =>
  UNIVERSAL.has(type) || (DEFINITIONS.get(machine)?.machine.events.includes(type) ?? false);

/** An event with a type, and whatever else of it may be seen. */
export interface ShownEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** What of an event of a machine of this kind may be seen. An event that the machine does not know shows nothing. */
export function redactEvent(machine: string, event: unknown): ShownEvent {
  if (!isObject(event)) return { type: REDACTED };
  const { type, ...rest } = event;
  if (typeof type !== "string" || !isKnownType(machine, type)) return { type: REDACTED };
  const events = ALLOWED[machine]?.events ?? {};
  const fields = type === TIMER_EVENT ? { id } : Object.hasOwn(events, type) ? events[type] : {};
  return { type, ...fieldsOf({ ...fields, at: time }, rest) };
}

/** What of the context of a machine of this kind may be seen. */
export const redactContext = (machine: string, context: unknown): Record<string, unknown> =>
  isObject(context) ? fieldsOf(ALLOWED[machine]?.context ?? {}, context) : {};

/** A stream's name, if it is one: a kind and an id, which may be any that the wire allows, since it tells the streams apart. */
export const redactStream = (stream: string): string =>
  /^[a-z]{1,32}\/[\x21-\x7e]{1,128}$/.test(stream) ? stream : REDACTED;
