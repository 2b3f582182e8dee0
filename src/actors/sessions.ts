import {
  base64,
  CryptoError,
  type CryptoErrorCode,
  initiate,
  initiatorRatchet,
  type Kdf,
  sign,
  utf8,
  x25519KeyPair,
} from "../crypto/index.ts";
import { asMeshError, type ErrorCode, MeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { SessionContext } from "../machines/session/events.ts";
import type { Entry } from "../store/journal.ts";
import { type Knock, type KnockAccept, knockText } from "../wire/frame.ts";
import type { Admission } from "./admission.ts";
import { type Core, conversationOf, isoNow, sessionOf } from "./core.ts";
import { type Draft, join } from "./drafts.ts";
import { Keyring } from "./keyring.ts";
import { bundleOf } from "./peer-keys.ts";
import { PeerSessions } from "./peer-sessions.ts";
import { isPlain, Renewal } from "./renewal.ts";
import { closing } from "./session-end.ts";
import { uuidFrom } from "./uuid.ts";

// Sessions that we open: X3DH as the initiator, and our knocks. A session is named by its knock, so both ends call it the same.

/** A bundle that contradicts the DID is not a passing fault. */
const IMPERSONATION: ReadonlySet<CryptoErrorCode> = new Set([
  "did_mismatch",
  "identity_mismatch",
  "signature_invalid",
  "bundle_invalid",
  "key_invalid",
]);
const FINAL: ReadonlySet<ErrorCode> = new Set(["peer_identity_mismatch", "peer_unknown"]);

const contextOf = (core: Core, session: string): SessionContext | undefined =>
  core.system.state(sessionOf(session))?.snapshot.context;

/** The event by which what a peer announces is taken over; none when that is known. */
export function announcement({ system }: Core, peer: string, extensions: readonly string[]): Entry[] {
  const stream = conversationOf(peer);
  const context: ConversationContext | undefined = system.decided(stream)?.snapshot.context;
  const known = context?.extensions ?? [];
  if (known.length === extensions.length && known.every((each) => extensions.includes(each))) return [];
  return [{ stream, event: { type: "ANNOUNCED", extensions: [...extensions] } }];
}

export class Sessions {
  readonly #core: Core;
  readonly #admission: Admission;
  readonly known: PeerSessions;
  readonly renewal: Renewal;

  constructor(core: Core, admission: Admission) {
    this.#core = core;
    this.known = new PeerSessions(core);
    this.renewal = new Renewal(core, this.known);
    this.#admission = admission;
  }

  isConfirmed(session: string): boolean {
    return this.#core.system.decided(sessionOf(session))?.snapshot.matches({ open: "established" }) ?? false;
  }

  /**
   * Ends the sessions that we opened under another KDF than the one that the peer has now shown to speak: it never
   * answered in them, and cannot have read a word.
   */
  endDisproved(peer: string, kdf: Kdf): Draft & { readonly ids: readonly string[] } {
    const ids = this.known.of(peer).filter((id) => {
      const context: SessionContext | undefined = this.#core.system.decided(sessionOf(id))?.snapshot.context;
      return context?.role === "initiator" && context.decrypted === 0 && context.kdf !== kdf;
    });
    return {
      ids,
      ...join(
        ...ids.map((id) =>
          closing(this.#core, id, peer, { reason: "the peer speaks another KDF", code: "peer_refused" }),
        ),
      ),
    };
  }

  /** Opens a session as the initiator: ESTABLISHED, or ESTABLISH_FAILED with the reason. */
  async establish(peer: string): Promise<void> {
    const { system, keyring, ports, registry } = this.#core;
    const conversation = conversationOf(peer);
    try {
      await this.renewal.quiet(peer);
      const { bundle, kdf, extensions } = await bundleOf(registry(), peer, this.known.spokenBy(peer));
      if (!system.decided(conversation)?.snapshot.matches("opening")) return;
      const ephemeral = x25519KeyPair(ports.random(32));
      const agreement = initiate({ identity: keyring.identity, bundle: { ...bundle, did: peer }, ephemeral, kdf });
      const state = initiatorRatchet({
        sharedKey: agreement.sharedKey,
        peerSignedPreKey: bundle.signedPreKey.publicKey,
        random: ports.random,
      });
      const id = uuidFrom(ports.random);
      const surplus = extensions.length === 0 ? this.known.surplus(peer) : [];
      const closed = surplus.map((each) =>
        closing(this.#core, each, peer, {
          reason: "too many sessions with this peer",
          code: "peer_refused",
          unread: "uncertain",
        }),
      );
      const initiated = {
        type: "INITIATED",
        peer,
        knock: id,
        ik: base64.encode(keyring.identity.dhPublic),
        ek: base64.encode(agreement.ephemeralPublic),
        spk: bundle.signedPreKey.keyId,
        otk: agreement.oneTimeKeyId ?? null,
        kdf,
        spk_key: base64.encode(bundle.signedPreKey.publicKey),
      };
      const { durable } = system.commit(
        [
          { stream: sessionOf(id), event: initiated },
          ...announcement(this.#core, peer, extensions),
          ...(extensions.length === 0 ? this.#uncertain(peer, initiated.spk_key) : []),
          ...closed.flatMap(({ entries }) => entries),
          { stream: conversation, event: { type: "ESTABLISHED", session: id, role: "initiator" } },
        ],
        {
          atomic: true,
          secrets: {
            ...Object.assign({}, ...closed.map(({ secrets }) => secrets)),
            ...Keyring.ratchetPatch(id, { state, associatedData: agreement.associatedData }, undefined),
          },
        },
      );
      this.renewal.opened(peer, this.#before(id, peer) === undefined ? undefined : id);
      for (const each of surplus) keyring.forgot(each);
      await durable;
    } catch (error) {
      const failure =
        error instanceof CryptoError && IMPERSONATION.has(error.code)
          ? new MeshError("peer_identity_mismatch", `${peer}: ${error.message}.`, { cause: error })
          : asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      this.#core.note(`No session with ${peer}: ${failure.message}`);
      const { code } = failure;
      const final = FINAL.has(code);
      if (!final && (await this.#goBack(peer))) return;
      const ids = final ? this.#queuedFor(conversation) : [];
      await system.commit([
        ...(ids.length > 0 ? [{ stream: conversation, event: { type: "UNDELIVERABLE", ids, code } }] : []),
        { stream: conversation, event: { type: "ESTABLISH_FAILED", code, final } },
      ]).durable;
    }
  }

  /**
   * Continues the last session when it cannot be renewed. A registry that has forgotten a plain client has no prekeys for it, although
   * the client may be online: plain clients do not register again.
   */
  async #goBack(peer: string): Promise<boolean> {
    const { system } = this.#core;
    const conversation = conversationOf(peer);
    const session = this.known.of(peer).find((id) => !this.renewal.wasReplaced(peer, id));
    if (session === undefined || !isPlain(system.decided(conversation)?.snapshot.context)) return false;
    const role = contextOf(this.#core, session)?.role;
    await system.commit([{ stream: conversation, event: { type: "ESTABLISHED", session, role } }]).durable;
    this.renewal.opened(peer);
    return true;
  }

  /** The event for a plain peer that was restarted: messages sent since it was last heard may or may not have arrived. */
  #uncertain(peer: string, spkKey: string): Entry[] {
    return this.known.wasRestarted(peer, spkKey) ? this.known.uncertain(peer, this.#core.messages.sent()) : [];
  }

  #queuedFor(conversation: string): string[] {
    const context: ConversationContext | undefined = this.#core.system.decided(conversation)?.snapshot.context;
    return context?.outbox.map(({ id }) => id) ?? [];
  }

  /** The session with a peer before this one. A reject of it goes before our knock. */
  #before(session: string, peer: string): string | undefined {
    return this.known.all(peer).findLast((id) => id !== session);
  }

  /** Sends the knock of a session that we opened. It is signed: who does not know of that passes over it. */
  knock(session: string): void {
    const context = contextOf(this.#core, session);
    if (!context) return;
    const { identity } = this.#core.keyring;
    const { ik, ek, otk, spk } = context;
    const frame: Knock = {
      v: 1,
      type: "knock",
      from: identity.did,
      to: context.peer,
      id: context.knock,
      ts: isoNow(this.#core),
      intent: { action: "establish_session" },
      establishment: { ik, ek, ...(otk === null ? {} : { otk }), spk },
    };
    const signature = base64.encode(sign(identity, utf8.encode(knockText(frame))));
    const before = this.#before(session, context.peer);
    const conversation = this.#core.system.decided(conversationOf(context.peer));
    if (before !== undefined && isPlain(conversation?.snapshot.context)) this.renewal.reset(context.peer, before);
    this.#send(session, { ...frame, establishment: { ...frame.establishment, signature } });
  }

  /** Answers the knock of a session that we accepted; of a peer that is held, once it is admitted. */
  answer(session: string): void {
    const context = contextOf(this.#core, session);
    if (!context || this.#admission.isHeld(context.peer)) return;
    const frame: KnockAccept = {
      v: 1,
      type: "knock_accept",
      from: this.#core.keyring.identity.did,
      to: context.peer,
      id: `${context.knock}.a`,
      knock_id: context.knock,
      ts: isoNow(this.#core),
    };
    this.#send(session, frame);
  }

  #send(session: string, frame: Knock | KnockAccept): void {
    this.#core.link.transmit(frame, () => {
      this.#core.system
        .commit([{ stream: sessionOf(session), event: { type: "KNOCK_SENT" } }])
        .durable.catch((error: unknown) => this.#core.note(`A knock could not be noted: ${String(error)}`));
    });
  }
}
