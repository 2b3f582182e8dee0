import { hash } from "node:crypto";
import { PAYLOAD_SIZE_MAX } from "../limits.ts";
import type { ConversationContext, MessageKind } from "../machines/conversation/events.ts";
import { safeParse } from "../parse.ts";
import type { Entry } from "../store/journal.ts";
import type { SecretPatch } from "../store/secrets.ts";
import type { Payload, PayloadInput } from "../wire/payload.ts";
import { Id } from "../wire/text.ts";
import { type ChunkForm, cutIntoChunks } from "./chunks.ts";
import { type Core, conversationOf } from "./core.ts";
import { uuidFrom } from "./uuid.ts";

// Drafts of messages, before they are committed: a payload becomes the SEND events of one message, or of its chunks.

/** Events to commit, the secrets that belong to the same commit, and work to be done before it. */
export interface Draft {
  readonly entries: readonly Entry[];
  readonly secrets: SecretPatch;
  readonly before?: (() => Promise<void>) | undefined;
  /** The messages that this draft sends. */
  readonly messages?: readonly { readonly id: string; readonly content: string | Uint8Array }[];
}

/** The kind of a message with this payload. */
export function kindOf({ type }: Pick<Payload, "type">): MessageKind {
  if (type === "message" || type === "task_request" || type === "task_response") return "chat";
  if (type === "mesh:receipt") return "receipt";
  const isPart = type === "mesh:transfer_manifest" || type === "mesh:transfer_chunk" || type === "mesh:file_offer";
  return isPart ? "part" : "work";
}

/** Several drafts as one commit. */
export function join(...drafts: readonly Draft[]): Draft {
  return {
    entries: drafts.flatMap((draft) => draft.entries),
    secrets: Object.assign({}, ...drafts.map((draft) => draft.secrets)),
    before: async () => {
      await Promise.all(drafts.map((draft) => draft.before?.()));
    },
    messages: drafts.flatMap(({ messages = [] }) => messages),
  };
}

export const entriesOnly = (...entries: readonly Entry[]): Draft => ({ entries, secrets: {} });

/** An id that was derived from one of a peer's choosing. One that became too long is replaced by its hash, which stays the same. */
const bounded = (id: string): string => (safeParse(Id, id).success ? id : hash("sha256", id));

/** The SEND event of one message, whose body is text or bytes. */
export function sending(
  core: Core,
  peer: string,
  derived: string,
  kind: MessageKind,
  content: string | Uint8Array,
): Draft {
  const id = bounded(derived);
  const { body, size, secrets, before } = core.bodies.seal(peer, content, kind !== "chat");
  const entry: Entry = { stream: conversationOf(peer), event: { type: "SEND", id, kind, body, size } };
  return { entries: [entry], secrets, messages: [{ id, content }], ...(before && { before }) };
}

const contextOf = (core: Core, peer: string): ConversationContext | undefined =>
  core.system.decided(conversationOf(peer))?.snapshot.context;

/** The form of chunks for a peer: the deployed agents' form, unless the peer announces our extensions. */
export const chunkFormFor = (core: Core, peer: string): ChunkForm =>
  (contextOf(core, peer)?.extensions.length ?? 0) > 0 ? "base64" : "text";

/**
 * The SEND events of one payload: one, or the manifest and chunks of a large one. Chat is always one message, since agents of the
 * Python client know no chunks.
 * @param id unique among all messages ever sent; the same id again means the same message again
 * @throws MeshError `file_too_large` when the payload needs more chunks than a transfer may have
 */
export function compose(core: Core, peer: string, payload: PayloadInput, id = uuidFrom(core.ports.random)): Draft {
  const text = JSON.stringify(payload);
  const kind = kindOf(payload);
  if (kind === "chat" || Buffer.byteLength(text) <= PAYLOAD_SIZE_MAX) return sending(core, peer, id, kind, text);
  const { manifest, chunks } = cutIntoChunks(text, {
    id: bounded(id),
    type: payload.type,
    form: chunkFormFor(core, peer),
  });
  return join(
    sending(core, peer, `${id}.m`, "part", JSON.stringify(manifest)),
    ...chunks.map((chunk, index) => sending(core, peer, `${id}.${index}`, "part", JSON.stringify(chunk))),
  );
}
