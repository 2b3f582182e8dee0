import { describe, expect, test } from "vitest";
import { z } from "zod";
import { type ActorState, begin, step } from "../../src/actors/state.ts";
import { DEFINITIONS } from "../../src/inspect/definitions.ts";
import { REDACTED, redactContext, redactEvent, redactStream } from "../../src/inspect/redact.ts";
import type { MachineDefinition } from "../../src/machines/definition.ts";
import { encodeToken } from "../../src/wire/pair.ts";

/** The part of JSON Schema in which the machines' events are written. */
interface Schema {
  readonly type?: string | readonly string[];
  readonly const?: string;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly minimum?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
}

const isOf = ({ type }: Schema, name: string) => type === name || (Array.isArray(type) && type.includes(name));

const eventSchemas = (definition: MachineDefinition): readonly Schema[] => {
  const schema = z.toJSONSchema(definition.events) as Schema;
  return schema.oneOf ?? schema.anyOf ?? [];
};

interface Leaf {
  readonly path: string;
  /** The value with this text in that place. */
  readonly plant: (text: string) => unknown;
}

/** Every place of a string: closed vocabularies too, since nothing forces a journal to keep to them. */
function leavesOf(schema: Schema, path: string): Leaf[] {
  if (schema.const !== undefined) return [];
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.flatMap((option) => leavesOf(option, path));
  if (isOf(schema, "string")) return [{ path, plant: (text) => text }];
  if (isOf(schema, "array") && schema.items)
    return leavesOf(schema.items, `${path}[]`).map((leaf) => ({
      path: leaf.path,
      plant: (text) => [leaf.plant(text)],
    }));
  return Object.entries(schema.properties ?? {}).flatMap(([field, each]) =>
    leavesOf(each, `${path}.${field}`).map((leaf) => ({
      path: leaf.path,
      plant: (text: string) => ({ [field]: leaf.plant(text) }),
    })),
  );
}

/** A value of the schema; `textOf` says what stands in a place of a string that has no closed vocabulary. */
function filled(schema: Schema, textOf: (field: string, schema: Schema) => string, field = ""): unknown {
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  const [option] = schema.anyOf ?? schema.oneOf ?? [];
  if (option) return filled(option, textOf, field);
  if (isOf(schema, "string")) return textOf(field, schema);
  if (isOf(schema, "array")) return schema.items ? [filled(schema.items, textOf, field)] : [];
  if (isOf(schema, "boolean")) return true;
  if (isOf(schema, "number") || isOf(schema, "integer")) return Math.max(1, schema.minimum ?? 1);
  return Object.fromEntries(
    Object.entries(schema.properties ?? {}).map(([name, each]) => [name, filled(each, textOf, name)]),
  );
}

/** The states of a machine that is told every event, in the order of a life, a few times over. */
function* livesOf(definition: MachineDefinition, textOf: (field: string, schema: Schema) => string) {
  let state: ActorState = begin(definition, textOf("id", {}));
  const events = eventSchemas(definition).map((schema) => filled(schema, textOf) as { type: string });
  for (let round = 0; round < 3; round++)
    for (const event of events) {
      state = step(definition, state, event, 1_000).state;
      yield state;
    }
}

const TOKEN = encodeToken({
  pairUrl: "https://canary.example/v1/pair",
  controllerDid: `did:mesh:${"0".repeat(32)}`,
  secret: "c".repeat(43),
});

/** What secrets and words may look like. Each is searched for by what only it has. */
const CANARIES: Readonly<Record<string, { readonly text: string; readonly mark: string }>> = {
  words: { text: "the canary sings a note", mark: "canary" },
  word: { text: "canary", mark: "canary" },
  id: { text: "canary-7f3a.request", mark: "canary" },
  path: { text: "/home/canary/taxes.pdf", mark: "canary" },
  did: { text: "did:mesh:caca0000caca0000caca0000caca0000", mark: "caca0000" },
  key: { text: `${"cAnArY".repeat(7)}c=`, mark: "cAnArY" },
  sha256: { text: "cafe".repeat(16), mark: "cafecafe" },
  nonce: { text: "cAnArYcAnArYcAnA", mark: "cAnArY" },
  sealed: { text: `${"cAnArY".repeat(40)}==`, mark: "cAnArY" },
  url: { text: "https://canary:secret@host.example:8443/canary?token=canary#canary", mark: "canary" },
  host: { text: "wss://canary.example/ws", mark: "canary" },
  time: { text: "2026-03-01T12:00:00.123Z", mark: "2026" },
  token: { text: TOKEN, mark: TOKEN.slice(-40) },
};

const PUBLIC_NAME = "names and capabilities are published in the registry by whoever has them";
const CLEAR_ID = "ids cross the relay in the clear, and cannot be sentences";
const PUBLIC_KEY = "public keys cross the relay in the clear";
const PUBLIC_DID = "DIDs are public";
const HOST = "the host part of an address";
const TIME = "a time";

/** Every place of a string that may show what stands in it, with the reason. */
const ALLOWED: Readonly<Record<string, string>> = {
  "pairing.INVITED.did": PUBLIC_DID,
  "pairing.INVITED.controller": PUBLIC_DID,
  "pairing.INVITED.amid": PUBLIC_DID,
  "pairing.INVITED.request": CLEAR_ID,
  "pairing.INVITED.relay_url": HOST,
  "pairing.INVITED.registry_url": HOST,
  "pairing.INVITED.name": PUBLIC_NAME,
  "pairing.CLAIMED.plain": PUBLIC_DID,
  "offload.PONGED.did": PUBLIC_DID,
  "pairing.STARTED.did": PUBLIC_DID,
  "pairing.STARTED.pair_url": HOST,
  "pairing.STARTED.controller": PUBLIC_DID,
  "pairing.STARTED.name": PUBLIC_NAME,
  "pairing.STARTED.capabilities[]": PUBLIC_NAME,
  "pairing.JOINED.did": PUBLIC_DID,
  "pairing.JOINED.controller": PUBLIC_DID,
  "pairing.JOINED.cluster": PUBLIC_NAME,
  "pairing.JOINED.relay_url": HOST,
  "pairing.JOINED.registry_url": HOST,
  "pairing.JOINED.name": PUBLIC_NAME,
  "pairing.JOINED.capabilities[]": PUBLIC_NAME,
  "pairing.CLAIMED.cluster": PUBLIC_NAME,
  "pairing.CLAIMED.relay_url": HOST,
  "pairing.CLAIMED.registry_url": HOST,
  "pairing.CLAIMED.grant.name": PUBLIC_NAME,
  "pairing.CLAIMED.grant.capabilities[]": PUBLIC_NAME,
  "pairing.CLAIMED.grant.expires_at": TIME,
  "pairing.REGISTERED.name": PUBLIC_NAME,
  "pairing.REGISTERED.capabilities[]": PUBLIC_NAME,
  "session.INITIATED.peer": PUBLIC_DID,
  "session.INITIATED.knock": CLEAR_ID,
  "session.INITIATED.ik": PUBLIC_KEY,
  "session.INITIATED.ek": PUBLIC_KEY,
  "session.INITIATED.spk_key": PUBLIC_KEY,
  "session.ACCEPTED.peer": PUBLIC_DID,
  "session.ACCEPTED.knock": CLEAR_ID,
  "session.ACCEPTED.ik": PUBLIC_KEY,
  "session.ACCEPTED.ek": PUBLIC_KEY,
  "session.ACCEPTED.spk_key": PUBLIC_KEY,
  "session.ENCRYPTED.message": CLEAR_ID,
  "session.ENCRYPTED.header.dh": PUBLIC_KEY,
  "session.DECRYPTED.message": CLEAR_ID,
  "session.DECRYPTED.header.dh": PUBLIC_KEY,
  "conversation.SEND.id": CLEAR_ID,
  "conversation.ESTABLISHED.session": CLEAR_ID,
  "conversation.SESSION_LOST.session": CLEAR_ID,
  "conversation.SEALED.id": CLEAR_ID,
  "conversation.SEALED.session": CLEAR_ID,
  "conversation.SEALED.frame": CLEAR_ID,
  "conversation.SEALED.header.dh": PUBLIC_KEY,
  "conversation.TRANSMITTED.ids[]": CLEAR_ID,
  "conversation.CONFIRMED.session": CLEAR_ID,
  "conversation.UNSENT.ids[]": CLEAR_ID,
  "conversation.ARRIVED.ids[]": CLEAR_ID,
  "conversation.UNCERTAIN.ids[]": CLEAR_ID,
  "conversation.RETURNED.id": CLEAR_ID,
  "conversation.UNDELIVERABLE.ids[]": CLEAR_ID,
  "conversation.RECEIVED.id": CLEAR_ID,
  "conversation.RECEIVED.session": CLEAR_ID,
  "conversation.RECEIVED.sent_at": TIME,
  "conversation.HANDLED.ids[]": CLEAR_ID,
  "conversation.READ.ids[]": CLEAR_ID,
  "conversation.NAMED.name": PUBLIC_NAME,
  "conversation.ACKNOWLEDGED.id": CLEAR_ID,
  "conversation.ACKNOWLEDGED.session": CLEAR_ID,
  "conversation.ACKNOWLEDGED.delivered[]": CLEAR_ID,
  "conversation.ACKNOWLEDGED.read[]": CLEAR_ID,
  "conversation.RECEIPTED.delivered[]": CLEAR_ID,
  "conversation.RECEIPTED.read[]": CLEAR_ID,
  "offload.REQUESTED.controller": PUBLIC_DID,
  "offload.REQUESTED.target.name": PUBLIC_NAME,
  "offload.REQUESTED.target.capability": PUBLIC_NAME,
  "offload.STATUS.sandbox": PUBLIC_NAME,
  "offload.STATUS.sandbox_did": PUBLIC_DID,
  "offload.GREETED.did": PUBLIC_DID,
  "link.CONNECT.url": HOST,
  "presence.UP.registry_url": HOST,
  "grant.ISSUED.capabilities[]": PUBLIC_NAME,
  "grant.BOUND.did": PUBLIC_DID,
  "grant.BOUND.name": PUBLIC_NAME,
  "grant.SLOT_TAKEN.run": CLEAR_ID,
  "grant.SLOT_FREED.run": CLEAR_ID,
  "run.REQUESTED.request": CLEAR_ID,
  "run.REQUESTED.grant": PUBLIC_NAME,
  "run.REQUESTED.laptop": PUBLIC_DID,
  "run.REQUESTED.sandbox": PUBLIC_NAME,
  "run.REQUESTED.capabilities[]": PUBLIC_NAME,
  "run.READY.did": PUBLIC_DID,
  "standing.OPENED.capabilities[]": PUBLIC_NAME,
  "standing.READY.did": PUBLIC_DID,
  "refusal.REFUSED.grant": PUBLIC_NAME,
  "refusal.REFUSED.laptop": PUBLIC_DID,
  "refusal.REFUSED.request": CLEAR_ID,
};

/** The canaries that each reason lets through. */
const SHAPES: Readonly<Record<string, readonly string[]>> = {
  [PUBLIC_NAME]: ["word", "id", "did", "sha256", "nonce", "time"],
  [CLEAR_ID]: ["word", "id", "did", "sha256", "nonce", "time"],
  [PUBLIC_KEY]: ["key"],
  [PUBLIC_DID]: ["did"],
  [HOST]: ["host"],
  [TIME]: ["time"],
};

/** Fields of states that hold something back, with the reason. */
const HELD: Readonly<Record<string, string>> = {
  "pairing.failure": "its detail is free text",
  "pairing.announced": "names that another version of this program gave to what it understood",
  "session.closed": "the peer's own words",
  "conversation.outbox": "the nonce of what is sealed",
  "conversation.unconfirmed": "the nonce of what is sealed",
  "conversation.extensions": "words of the peer that this program does not know",
  "offload.stage": "the sandbox's own words",
  "notice.origin": "which chat it was is between the person and OpenClaw",
  "offload.results": "the hash of a file tells whoever has the file",
  "offload.log": "the hash of a file tells whoever has the file",
  "link.closed": "the relay's own words",
  "presence.failure": "its detail is free text",
  "link.extensions": "words of the relay that this program does not know",
  "grant.tokenHash": "it belongs to a token",
  "run.failure": "its detail is free text",
  "run.waits": "words of the cluster that runs it",
  "run.result": "its reason is free text",
  "run.taskHash": "whoever guesses the task could know that it was this one",
  "standing.detail": "why a process could not be started may name what is on the machine",
  "refusal.recent": "it is made of what the events show",
};

/** What usually stands in such a field. */
function ordinary(field: string, { pattern = "" }: Schema): string {
  if (field.endsWith("url")) return "wss://relay.example/ws";
  if (field.endsWith("_at")) return "2026-03-01T12:00:00.000Z";
  if (pattern.includes("did:mesh") || (field === "id" && pattern === "")) return `did:mesh:${"0".repeat(32)}`;
  if (pattern.endsWith("=$")) return Buffer.alloc(32).toString("base64");
  return "ordinary";
}

const text = (value: unknown) => JSON.stringify(value);

describe.each([...DEFINITIONS.values()])("of a $kind", (definition) => {
  const { kind } = definition;
  const leaves = eventSchemas(definition).flatMap((schema) => {
    const type = schema.properties?.type?.const ?? "";
    return leavesOf(schema, `${kind}.${type}`).map(({ path, plant }) => ({
      path,
      plant: (canary: string) => ({ type, ...(plant(canary) as object) }),
    }));
  });

  test("every event keeps its type", () => {
    for (const schema of eventSchemas(definition)) {
      const type = schema.properties?.type?.const;
      expect(redactEvent(kind, { type })).toEqual({ type });
    }
  });

  test("no place of an event shows what it has no stated reason to show", () => {
    const shown: Record<string, Set<string>> = {};
    for (const { path, plant } of leaves)
      for (const [shape, { text: canary, mark }] of Object.entries(CANARIES)) {
        const shownText = text(redactEvent(kind, plant(canary)));
        if (!shownText.includes(mark)) continue;
        shown[path] ??= new Set();
        shown[path].add(shape);
      }
    for (const [path, shapes] of Object.entries(shown)) {
      const reason = ALLOWED[path];
      expect(reason, `${path} shows ${[...shapes]}`).toBeDefined();
      expect(SHAPES[reason ?? ""], path).toEqual(expect.arrayContaining([...shapes]));
    }
    // And the list names nothing that is not there.
    const named = Object.keys(ALLOWED).filter((path) => path.startsWith(`${kind}.`));
    expect(named.filter((path) => !(path in shown))).toEqual([]);
  });

  test("no state that was fed with canaries shows one", () => {
    const words = "the canary sings";
    let fed = 0;
    for (const { snapshot } of livesOf(definition, () => words)) {
      if (text(snapshot.context).includes(words)) fed++;
      expect(text(redactContext(kind, snapshot.context))).not.toContain("canary");
    }
    // What that one takes are four words of its own.
    if (kind !== "admission") expect(fed).toBeGreaterThan(0);
  });

  test("every field of a state is on the list, or held back for a reason", () => {
    for (const { snapshot } of livesOf(definition, ordinary)) {
      const shown = redactContext(kind, snapshot.context);
      expect(Object.keys(shown)).toEqual(Object.keys(snapshot.context));
      for (const [field, value] of Object.entries(shown))
        if (text(value).includes(REDACTED)) expect(HELD, field).toHaveProperty([`${kind}.${field}`]);
    }
  });
});

describe("what is shown", () => {
  test("of an address the host and the port", () => {
    const event = { type: "CONNECT", url: CANARIES.url?.text };
    expect(redactEvent("link", event)).toEqual({ type: "CONNECT", url: "host.example:8443" });
  });

  test("of a body its size", () => {
    const sealed = Buffer.alloc(100).toString("base64");
    const event = { type: "SEND", id: "1", kind: "chat", size: 60, at: 5 };
    expect(redactEvent("conversation", { ...event, body: { sealed } })).toEqual({ ...event, body: { size: 100 } });
    expect(redactEvent("conversation", { ...event, body: { blob: "c0ffee", size: 7 } })).toEqual({
      ...event,
      body: { size: 7 },
    });
  });

  test("of an unknown field that it was there", () => {
    expect(redactEvent("conversation", { type: "NAMED", name: "bob", mood: { is: "secret" } })).toEqual({
      type: "NAMED",
      name: "bob",
      mood: REDACTED,
    });
    expect(redactContext("conversation", { unread: 3, "the canary": 1, output: "canary" })).toEqual({
      unread: 3,
      [REDACTED]: REDACTED,
      output: REDACTED,
    });
  });

  test("of an unknown event, an unknown machine or another thing nothing", () => {
    expect(redactEvent("conversation", { type: "CANARY", words: "canary" })).toEqual({ type: REDACTED });
    expect(redactEvent("canary", { type: "SEND", id: "canary" })).toEqual({ type: REDACTED });
    expect(redactEvent("conversation", "canary")).toEqual({ type: REDACTED });
    expect(redactEvent("conversation", { type: "toString", id: "canary" })).toEqual({ type: REDACTED });
    expect(redactContext("canary", { id: "canary" })).toEqual({ id: REDACTED });
    expect(redactContext("conversation", "canary")).toEqual({});
    expect(redactStream("conversation/two words")).toBe(REDACTED);
  });

  test("of a long list its beginning and how much more there is", () => {
    const shown = redactEvent("conversation", { type: "READ", ids: Array.from({ length: 10_000 }, (_, n) => `m${n}`) });
    const ids = shown.ids;
    expect(Array.isArray(ids) && ids.length).toBe(51);
    expect(Array.isArray(ids) && ids.at(-1)).toBe("[9950 more]");
  });
});
