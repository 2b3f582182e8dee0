import { LAPTOP } from "../page/protocol.ts";
import { partsOf } from "./definitions.ts";
import type { ShownEvent } from "./redact.ts";
import { isObject } from "./show.ts";

// Who told whom, as a sequence diagram shows it: an event of a machine as a word between two parties.

export type Arrow = readonly [from: string, to: string];

const RELAY = "relay";
const REGISTRY = "registry";
const CONTROLLER = "controller";

const out = (to: string): Arrow => [LAPTOP, to];
const back = (from: string): Arrow => [from, LAPTOP];

type Parties = (party: string, event: ShownEvent) => Arrow | undefined;

/** By kind of machine and type of event; `party` is whom the machine deals with. */
const ARROWS: Readonly<Record<string, Readonly<Record<string, Parties>>>> = {
  pairing: {
    INVITED: () => out(CONTROLLER),
    STARTED: () => out(CONTROLLER),
    CLAIMED: () => back(CONTROLLER),
    REGISTERED: () => out(REGISTRY),
    PUBLISHED: () => out(REGISTRY),
  },
  prekeys: { CHECKED: () => back(REGISTRY), PUBLISHED: () => out(REGISTRY) },
  session: {
    INITIATED: (peer) => out(peer),
    ACCEPTED: (peer) => back(peer),
    CONFIRMED: (peer) => back(peer),
  },
  conversation: {
    TRANSMITTED: () => out(RELAY),
    RECEIVED: (peer) => back(peer),
    RECEIPTED: (peer) => back(peer),
    ANNOUNCED: (peer) => back(peer),
    RETURNED: (peer) => back(peer),
    NAMED: (_, { source }) => (source === "registry" ? back(REGISTRY) : undefined),
  },
  offload: {
    ASKED: () => out(CONTROLLER),
    STATUS: () => back(CONTROLLER),
    GREETED: (sandbox) => back(sandbox),
    PONGED: (sandbox) => back(sandbox),
    OFFERED: (sandbox) => out(sandbox),
    UPLOADED: (sandbox) => out(sandbox),
    TRANSFERRED: (sandbox, { way }) => (way === "up" ? out(sandbox) : back(sandbox)),
    STARTED: (sandbox) => back(sandbox),
    PROGRESSED: (sandbox) => back(sandbox),
    FILE_SAVED: (sandbox) => back(sandbox),
    LOG_SAVED: (sandbox) => back(sandbox),
    FINISHED: (sandbox) => back(sandbox),
    CANCEL: () => out(CONTROLLER),
    CANCELLED: () => back(CONTROLLER),
    CLEANED_UP: () => out(CONTROLLER),
  },
};

/** Whom a machine deals with, as far as viewers may know: `context` is what they are shown of its own. */
function partyOf(kind: string, id: string, context: Readonly<Record<string, unknown>>): string {
  if (kind === "conversation") return id;
  if (kind === "session") return typeof context.peer === "string" ? context.peer : "a peer";
  const sandbox = isObject(context.sandbox) ? (context.sandbox.did ?? context.sandbox.name) : undefined;
  return typeof sandbox === "string" ? sandbox : "sandbox";
}

/**
 * @param stream as viewers are shown its name
 * @param context of the machine after the event, redacted
 * @param controllers DIDs that are known as such
 */
export function arrowOf(
  stream: string,
  event: ShownEvent,
  context: Readonly<Record<string, unknown>>,
  controllers: ReadonlySet<unknown>,
): Arrow | undefined {
  const { kind, id } = partsOf(stream);
  const party = partyOf(kind, id, context);
  return ARROWS[kind]?.[event.type]?.(controllers.has(party) ? CONTROLLER : party, event);
}
