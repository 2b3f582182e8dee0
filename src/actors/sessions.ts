import {
  base64,
  CryptoError,
  type CryptoErrorCode,
  dhPublicOf,
  equalBytes,
  initiate,
  initiatorRatchet,
  type Kdf,
  respond,
  responderRatchet,
  x25519KeyPair,
} from "../crypto/index.ts";
import { asMeshError, type ErrorCode, MeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { SessionContext } from "../machines/session/events.ts";
import type { SecretPatch } from "../store/secrets.ts";
import type { Knock, KnockAccept, KnockReject } from "../wire/frame.ts";
import { type Core, conversationOf, isoNow, sessionOf } from "./core.ts";
import { Keyring } from "./keyring.ts";
import type { Membership } from "./membership.ts";
import { type Draft, join } from "./outgoing.ts";
import { bundleOf, identityOf } from "./peer-keys.ts";
import { PeerSessions } from "./peer-sessions.ts";
import { closing } from "./session-end.ts";
import { uuidFrom } from "./uuid.ts";

// Sessions come to be here: X3DH as initiator and as responder, knocks and their answers. A session is named by its knock, so
// both ends call it the same.

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

/** What became of a knock: taken (ack it), or left at the relay because it cannot be judged now. */
export type KnockFate = "taken" | "later";

export class Sessions {
  readonly #core: Core;
  readonly #membership: Membership;
  readonly known: PeerSessions;

  constructor(core: Core, membership: Membership) {
    this.#core = core;
    this.known = new PeerSessions(core);
    this.#membership = membership;
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
      ...join(...ids.map((id) => closing(this.#core, id, peer, "the peer speaks another KDF", "peer_refused"))),
    };
  }

  /** Opens a session as the initiator: ESTABLISHED, or ESTABLISH_FAILED with the reason. */
  async establish(peer: string): Promise<void> {
    const { system, keyring, ports, registry } = this.#core;
    const conversation = conversationOf(peer);
    try {
      const { bundle, kdf } = await bundleOf(registry(), peer, this.known.spokenBy(peer));
      if (!system.decided(conversation)?.snapshot.matches("opening")) return;
      const ephemeral = x25519KeyPair(ports.random(32));
      const agreement = initiate({ identity: keyring.identity, bundle: { ...bundle, did: peer }, ephemeral, kdf });
      const state = initiatorRatchet({
        sharedKey: agreement.sharedKey,
        peerSignedPreKey: bundle.signedPreKey.publicKey,
        random: ports.random,
      });
      const id = uuidFrom(ports.random);
      const initiated = {
        type: "INITIATED",
        peer,
        knock: id,
        ik: base64.encode(keyring.identity.dhPublic),
        ek: base64.encode(agreement.ephemeralPublic),
        spk: bundle.signedPreKey.keyId,
        otk: agreement.oneTimeKeyId ?? null,
        kdf,
      };
      await system.commit(
        [
          { stream: sessionOf(id), event: initiated },
          { stream: conversation, event: { type: "ESTABLISHED", session: id, role: "initiator" } },
        ],
        {
          atomic: true,
          secrets: Keyring.ratchetPatch(id, { state, associatedData: agreement.associatedData }, undefined),
        },
      ).durable;
    } catch (error) {
      const failure =
        error instanceof CryptoError && IMPERSONATION.has(error.code)
          ? new MeshError("peer_identity_mismatch", `${peer}: ${error.message}.`, { cause: error })
          : asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      this.#core.note(`No session with ${peer}: ${failure.message}`);
      const { code } = failure;
      const final = FINAL.has(code);
      const ids = final ? this.#queuedFor(conversation) : [];
      await system.commit([
        ...(ids.length > 0 ? [{ stream: conversation, event: { type: "UNDELIVERABLE", ids, code } }] : []),
        { stream: conversation, event: { type: "ESTABLISH_FAILED", code, final } },
      ]).durable;
    }
  }

  #queuedFor(conversation: string): string[] {
    const context: ConversationContext | undefined = this.#core.system.decided(conversation)?.snapshot.context;
    return context?.outbox.map(({ id }) => id) ?? [];
  }

  /** Sends the knock of a session that we opened. */
  knock(session: string): void {
    const context = contextOf(this.#core, session);
    if (!context) return;
    const frame: Knock = {
      v: 1,
      type: "knock",
      from: this.#core.keyring.identity.did,
      to: context.peer,
      id: context.knock,
      ts: isoNow(this.#core),
      intent: { action: "establish_session" },
      establishment: {
        ik: context.ik,
        ek: context.ek,
        ...(context.otk === null ? {} : { otk: context.otk }),
        spk: context.spk,
      },
    };
    this.#send(session, frame);
  }

  /** Answers the knock of a session that we accepted. */
  answer(session: string): void {
    const context = contextOf(this.#core, session);
    if (!context) return;
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

  #reject(knock: Knock, reason: string): KnockFate {
    const frame: KnockReject = {
      v: 1,
      type: "knock_reject",
      from: this.#core.keyring.identity.did,
      to: knock.from,
      id: `${knock.id}.r`,
      knock_id: knock.id,
      reason,
      ts: isoNow(this.#core),
    };
    this.#core.link.transmit(frame, () => undefined);
    return "taken";
  }

  /**
   * Opens a session as the responder. The knock's X25519 key must belong to the DID that sent it.
   * @throws MeshError `registry_unreachable` when that cannot be found out now
   */
  async onKnock(knock: Knock): Promise<KnockFate> {
    const { system, keyring, note } = this.#core;
    const { ik, ek, otk, spk } = knock.establishment;
    const known = contextOf(this.#core, knock.id);
    if (known && known.role !== null) {
      // Given again by the relay. The same keys from the same peer are the same session; anything else is none of ours.
      if (known.peer === knock.from && known.ik === ik && known.ek === ek && known.role === "responder")
        this.answer(knock.id);
      return "taken";
    }
    const identityKey = base64.decode(ik);
    const agent = await identityOf(this.#core.registry(), knock.from);
    if (!equalBytes(dhPublicOf(agent.key), identityKey)) {
      note(`A knock from ${knock.from} carried a key that is not its own; refused.`);
      return this.#reject(knock, "identity_mismatch");
    }
    if (this.known.hasKnocked(knock.from, ek)) {
      note(`A knock from ${knock.from} came a second time under another id; passed over.`);
      return "taken";
    }
    const named = spk === undefined ? undefined : keyring.signedPreKey(spk);
    // A plain client does not say which it used.
    const signed =
      spk === undefined ? this.#membership.preKeys.candidates(this.#membership.current) : named ? [named] : [];
    const oneTimePreKey = otk === undefined || otk === null ? undefined : keyring.oneTimePreKey(otk);
    const [newest] = signed;
    if (!newest || (otk !== undefined && otk !== null && !oneTimePreKey)) return this.#reject(knock, "prekey_unknown");
    let candidates: SecretPatch;
    try {
      candidates = Keyring.candidatesPatch(knock.id, signed, (kdf, signedPreKey) => {
        const { sharedKey, associatedData } = respond({
          identity: keyring.identity,
          signedPreKey,
          ...(oneTimePreKey && { oneTimePreKey }),
          initiatorDid: knock.from,
          initiatorIdentityKey: identityKey,
          ephemeralKey: base64.decode(ek),
          kdf,
        });
        return { state: responderRatchet({ sharedKey, signedPreKeyPair: signedPreKey.keyPair }), associatedData };
      });
    } catch (error) {
      if (!(error instanceof CryptoError)) throw error;
      return this.#reject(knock, "key_invalid");
    }
    const event = {
      type: "ACCEPTED",
      peer: knock.from,
      knock: knock.id,
      ik,
      ek,
      spk: newest.keyId,
      otk: otk ?? null,
      kdf: null,
    };
    const surplus = this.known.surplus(knock.from);
    const closed = surplus.map((id) =>
      closing(this.#core, id, knock.from, "too many sessions with this peer", "peer_refused"),
    );
    await system.commit(
      [
        { stream: sessionOf(knock.id), event },
        ...(agent.name === null
          ? []
          : [{ stream: conversationOf(knock.from), event: { type: "NAMED", name: agent.name, source: "registry" } }]),
        ...closed.flatMap(({ entries }) => entries),
      ],
      {
        secrets: {
          ...Object.assign({}, ...closed.map(({ secrets }) => secrets)),
          ...candidates,
          ...Keyring.consumedPatch(otk ?? null),
        },
      },
    ).durable;
    for (const id of surplus) keyring.forgot(id);
    const { current } = this.#membership;
    if (oneTimePreKey && current) await this.#membership.preKeys.used(current);
    return "taken";
  }

  async onKnockAccept(frame: KnockAccept): Promise<void> {
    const context = contextOf(this.#core, frame.knock_id);
    if (context?.peer !== frame.from || context.role !== "initiator") return;
    await this.#core.system.commit([
      { stream: sessionOf(frame.knock_id), event: { type: "CONFIRMED", by: "knock_accept" } },
    ]).durable;
  }

  /** A reject is unsigned: it ends a session that the peer has not proved to hold yet, and changes nothing of a proven one. */
  async onKnockReject(frame: KnockReject): Promise<void> {
    const { system } = this.#core;
    const context = contextOf(this.#core, frame.knock_id);
    if (
      context?.peer !== frame.from ||
      context.role !== "initiator" ||
      context.closed !== null ||
      this.isConfirmed(frame.knock_id)
    )
      return;
    const conversation = conversationOf(frame.from);
    const refused = frame.reason === "policy_denied" || frame.reason === "identity_mismatch";
    const ids = refused ? this.#queuedFor(conversation) : [];
    const reason = `rejected: ${(frame.reason ?? "no reason").slice(0, 100)}`;
    const closed = closing(this.#core, frame.knock_id, frame.from, reason, "peer_refused");
    await system.commit(
      [
        ...(ids.length > 0
          ? [{ stream: conversation, event: { type: "UNDELIVERABLE", ids, code: "peer_refused" } }]
          : []),
        ...closed.entries,
      ],
      { secrets: closed.secrets },
    ).durable;
    this.#core.keyring.forgot(frame.knock_id);
  }
}
