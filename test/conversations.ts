/** What happens in a conversation, for the specifications of its machine. */
import { conversationDefinition as conversation } from "../src/machines/conversation/machine.ts";
import { ALICE, type Event, given, words } from "./specification.ts";

export const send = (id: string, body: object = words(id), kind = "chat"): Event => ({
  type: "SEND",
  id,
  kind,
  body,
  size: 1,
});
export const header = { dh: `${"A".repeat(43)}=`, pn: 0, n: 0 };
export const sealed = (id: string, session = "s1"): Event => ({ type: "SEALED", id, session, header, nonce: "nonce" });
export const established = (session = "s1"): Event => ({ type: "ESTABLISHED", session, role: "initiator" });
export const received = (id: string, kind = "chat", body: object = words(id)): Event => ({
  type: "RECEIVED",
  id,
  session: "s1",
  kind,
  body,
  size: 1,
});
export const transmitted = (...ids: string[]): Event => ({ type: "TRANSMITTED", ids, proof: "accepted" });
export const lost = (session = "s1"): Event => ({ type: "SESSION_LOST", session, code: "peer_refused" });
export const failed = (final: boolean): Event => ({ type: "ESTABLISH_FAILED", code: "registry_unreachable", final });
export const confirmed = (session = "s1"): Event => ({ type: "CONFIRMED", session });
export const nothing = { delivered: [], read: [] };
export const blob = { blob: "f".repeat(32), size: 9 };
export const peer = ALICE;
export const conversationWith = (...events: Event[]) => given(conversation, ALICE, ...events);
