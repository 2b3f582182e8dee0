import {
  base64,
  CryptoError,
  dhPublicOf,
  equalBytes,
  respond,
  responderRatchet,
  utf8,
  verify,
} from "../crypto/index.ts";
import { asMeshError, type ErrorCode } from "../errors.ts";
import { KNOCK_AGAIN_MS, KNOCKS_AT_ONCE_MAX } from "../limits.ts";
import type { SessionContext } from "../machines/session/events.ts";
import type { SecretPatch } from "../store/secrets.ts";
import { type Knock, type KnockAccept, type KnockReject, knockText } from "../wire/frame.ts";
import type { Admission } from "./admission.ts";
import type { Arrivals } from "./arrivals.ts";
import { type Core, conversationOf, isoNow, sessionOf } from "./core.ts";
import { Keyring } from "./keyring.ts";
import type { Membership } from "./membership.ts";
import { identityOf, type Shown } from "./peer-keys.ts";
import { isPlain } from "./renewal.ts";
import { closing } from "./session-end.ts";
import { announcement, type Sessions } from "./sessions.ts";
import type { Unreadable } from "./unreadable.ts";

// Knocks of others, and what others say to ours.

/** What became of a knock: taken (ack it), or left at the relay because it cannot be judged now. */
export type KnockFate = "taken" | "later";

/** What a sender is told whose key the registry does not show. */
const REFUSALS: Partial<Record<ErrorCode, string>> = {
  peer_unknown: "try_later",
  peer_without_prekeys: "try_later",
  peer_identity_mismatch: "identity_mismatch",
};

export class Knocks {
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #sessions: Sessions;
  readonly #admission: Admission;
  readonly #unreadable: Unreadable;
  readonly #arrivals: Arrivals;

  constructor(
    core: Core,
    membership: Membership,
    sessions: Sessions,
    admission: Admission,
    unreadable: Unreadable,
    arrivals: Arrivals,
  ) {
    this.#core = core;
    this.#arrivals = arrivals;
    this.#unreadable = unreadable;
    this.#membership = membership;
    this.#sessions = sessions;
    this.#admission = admission;
  }

  #contextOf(session: string): SessionContext | undefined {
    return this.#core.system.state(sessionOf(session))?.snapshot.context;
  }

  #reject(peer: string, knock: string, reason: string): KnockFate {
    const frame: KnockReject = {
      v: 1,
      type: "knock_reject",
      from: this.#core.keyring.identity.did,
      to: peer,
      id: `${knock}.r`,
      knock_id: knock,
      reason,
      ts: isoNow(this.#core),
    };
    this.#core.link.transmit(frame, () => undefined);
    return "taken";
  }

  /**
   * Opens a session as the responder. The knock's X25519 key must belong to the DID that sent it, its signature must be there
   * and hold if the sender announces that it signs, and the policy must not refuse it.
   * @throws MeshError `registry_unreachable` when that cannot be found out now
   */
  async take(knock: Knock): Promise<KnockFate> {
    const { lanes, note, registry } = this.#core;
    const { ik, ek } = knock.establishment;
    const known = this.#contextOf(knock.id);
    if (known && known.role !== null) {
      // Given again by the relay. The same keys from the same peer are the same session; anything else is none of ours.
      if (known.peer === knock.from && known.ik === ik && known.ek === ek && known.role === "responder")
        this.#sessions.answer(knock.id);
      return "taken";
    }
    let agent: Shown;
    try {
      agent = await lanes.run(`judge ${turnOf(knock.from)}`, () => identityOf(registry(), knock.from));
    } catch (error) {
      const reason = REFUSALS[asMeshError(error).code];
      if (reason === undefined) throw error;
      note(`A knock from ${knock.from} cannot be judged: ${asMeshError(error).message}`);
      return this.#reject(knock.from, knock.id, reason);
    }
    if (!equalBytes(dhPublicOf(agent.key), base64.decode(ik))) {
      note(`A knock from ${knock.from} carried a key that is not its own; refused.`);
      return this.#reject(knock.from, knock.id, "identity_mismatch");
    }
    if (!isSigned(knock, agent)) {
      note(`A knock in the name of ${knock.from}, which signs its knocks, was not signed by it; passed over.`);
      return "taken";
    }
    if (this.#sessions.known.hasKnocked(knock.from, ek)) {
      note(`A knock from ${knock.from} came a second time under another id; passed over.`);
      return "taken";
    }
    const judgement = this.#admission.judge(knock.from, agent);
    if (judgement === "refused") return this.#reject(knock.from, knock.id, "policy_denied");
    if (judgement === "later") {
      note(`A knock from ${knock.from} is put off: as many strangers as may be wait to be accepted.`);
      return this.#reject(knock.from, knock.id, "try_later");
    }
    return this.#respond(knock, agent, judgement === "held");
  }

  async #respond(knock: Knock, agent: Shown, isHeld: boolean): Promise<KnockFate> {
    const { system, keyring, note, ports } = this.#core;
    const { ik, ek, otk = null, spk } = knock.establishment;
    const peer = knock.from;
    const spkKey = agent.extensions.length === 0 ? await this.#publishedBy(peer) : undefined;
    const named = spk === undefined ? undefined : keyring.signedPreKey(spk);
    // A plain client does not say which it used.
    const signed =
      spk === undefined ? this.#membership.preKeys.candidates(this.#membership.current) : named ? [named] : [];
    const oneTimePreKey = otk === null ? undefined : keyring.oneTimePreKey(otk);
    const [newest] = signed;
    if (!newest || (otk !== null && !oneTimePreKey)) return this.#reject(peer, knock.id, "prekey_unknown");
    let candidates: SecretPatch;
    try {
      candidates = Keyring.candidatesPatch(knock.id, signed, (kdf, signedPreKey) => {
        const { sharedKey, associatedData } = respond({
          identity: keyring.identity,
          signedPreKey,
          ...(oneTimePreKey && { oneTimePreKey }),
          initiatorDid: peer,
          initiatorIdentityKey: base64.decode(ik),
          ephemeralKey: base64.decode(ek),
          kdf,
        });
        return { state: responderRatchet({ sharedKey, signedPreKeyPair: signedPreKey.keyPair }), associatedData };
      });
    } catch (error) {
      if (!(error instanceof CryptoError)) throw error;
      return this.#reject(peer, knock.id, "key_invalid");
    }
    const event = {
      type: "ACCEPTED",
      peer,
      knock: knock.id,
      ik,
      ek,
      spk: newest.keyId,
      otk,
      kdf: null,
      ...(spkKey !== undefined && { spk_key: spkKey }),
    };
    const surplus = this.#sessions.known.surplus(peer);
    if (surplus.length > 0 && ports.clock.now() - this.#sessions.known.lastKnock(peer) < KNOCK_AGAIN_MS)
      return this.#reject(peer, knock.id, "try_later");
    const closed = surplus.map((id) =>
      closing(this.#core, id, peer, { reason: "too many sessions with this peer", code: "peer_refused" }),
    );
    const conversation = conversationOf(peer);
    if (isHeld && !this.#admission.isHeld(peer))
      note(`${agent.name ?? "An agent"} (${peer}) wants to talk and waits to be accepted: kars-mesh accept ${peer}`);
    await system.commit(
      [
        ...(isHeld ? [{ stream: conversation, event: { type: "HELD" } }] : []),
        // It was held by a rule that does not hold it any more.
        ...(!isHeld && this.#admission.isHeld(peer) ? [{ stream: conversation, event: { type: "ADMITTED" } }] : []),
        { stream: sessionOf(knock.id), event },
        ...(agent.name === null
          ? []
          : [{ stream: conversation, event: { type: "NAMED", name: agent.name, source: "registry" } }]),
        ...announcement(this.#core, peer, agent.extensions),
        ...closed.flatMap(({ entries }) => entries),
      ],
      {
        secrets: {
          ...Object.assign({}, ...closed.map(({ secrets }) => secrets)),
          ...candidates,
          ...Keyring.consumedPatch(otk),
        },
      },
    ).durable;
    for (const id of surplus) keyring.forgot(id);
    this.#sessions.renewal.knocked(peer, knock.id);
    const { current } = this.#membership;
    if (current) await this.#membership.preKeys.taken(current, otk);
    return "taken";
  }

  /** The signed prekey that a plain peer has published. If it changes later, the peer was restarted. */
  async #publishedBy(peer: string): Promise<string | undefined> {
    try {
      const { signedPreKey } = await this.#core.registry().bundle(peer);
      return base64.encode(signedPreKey.publicKey);
    } catch (error) {
      const { code } = asMeshError(error);
      if (code === "closed") throw error;
      // The knock can be accepted without that prekey.
      return undefined;
    }
  }

  async onAccept(frame: KnockAccept): Promise<void> {
    if (frame.arrived) return this.#arrivals.onNotice(frame);
    const context = this.#contextOf(frame.knock_id);
    if (context?.peer !== frame.from || context.role !== "initiator") return;
    const session = frame.knock_id;
    if (this.#sessions.renewal.wasPassedOver(frame.from, session)) {
      if (context.closed !== null || context.lastHeard !== null) return;
      const { entries, secrets } = closing(this.#core, session, frame.from, {
        reason: "the peer had knocked at the same time",
        code: "peer_refused",
      });
      await this.#core.system.commit(entries, { secrets }).durable;
      this.#core.keyring.forgot(session);
      return;
    }
    const stream = conversationOf(frame.from);
    // A plain client may accept a knock and ignore its keys, or derive another key. Only its first message proves the session.
    const isProof = !isPlain(this.#core.system.decided(stream)?.snapshot.context);
    await this.#core.system.commit([
      { stream: sessionOf(session), event: { type: "CONFIRMED", by: "knock_accept" } },
      ...(isProof ? [{ stream, event: { type: "CONFIRMED", session } }] : []),
    ]).durable;
  }

  /** A reject is unsigned: it ends a session that the peer has not proved to hold yet, and changes nothing of a proven one. */
  async onReject(frame: KnockReject): Promise<void> {
    if (frame.frames) return this.#unreadable.onReport(frame);
    const context = this.#contextOf(frame.knock_id);
    if (
      context?.peer !== frame.from ||
      context.role !== "initiator" ||
      context.closed !== null ||
      this.#sessions.isConfirmed(frame.knock_id)
    )
      return;
    const { entries, secrets } = closing(this.#core, frame.knock_id, frame.from, {
      reason: `rejected: ${(frame.reason ?? "no reason").slice(0, 100)}`,
      code: "peer_refused",
      refused: frame.reason === "policy_denied" || frame.reason === "identity_mismatch",
    });
    await this.#core.system.commit(entries, { secrets }).durable;
    this.#core.keyring.forgot(frame.knock_id);
  }

  /** A peer was admitted: what it opened meanwhile is answered. */
  welcome(peer: string): void {
    for (const session of this.#sessions.known.of(peer))
      if (this.#core.system.state(sessionOf(session))?.snapshot.matches({ open: "answering" }))
        this.#sessions.answer(session);
  }

  /** What a peer said waits no longer to be decided on: it is told so, and its sessions end. */
  async decline(peer: string): Promise<void> {
    const { system, keyring } = this.#core;
    const sessions = this.#sessions.known.of(peer);
    const closed = sessions.map((id) =>
      closing(this.#core, id, peer, { reason: "declined", code: "peer_refused", refused: true }),
    );
    const { durable } = system.commit(
      [{ stream: conversationOf(peer), event: { type: "DECLINED" } }, ...closed.flatMap(({ entries }) => entries)],
      { secrets: Object.assign({}, ...closed.map(({ secrets }) => secrets)) },
    );
    await durable;
    for (const id of sessions) keyring.forgot(id);
  }

  /** Tells a declined peer that its sessions are over; once more whenever it goes on. */
  turnAway(peer: string): void {
    for (const session of this.#sessions.known.all(peer)) {
      const context = this.#contextOf(session);
      if (context?.role === "responder" && context.closed === "declined") this.#reject(peer, session, "policy_denied");
    }
  }
}

/** Who is judged at the same time: anyone may knock in as many names as it likes. */
const turnOf = (peer: string) => Number.parseInt(peer.slice(-2), 16) % KNOCKS_AT_ONCE_MAX;

/** Whether a knock is signed by its sender. Of one that announces nothing about it no signature is asked. */
function isSigned(knock: Knock, { key, extensions }: Shown): boolean {
  const { signature } = knock.establishment;
  if (signature === undefined) return !extensions.includes("signed-knocks");
  return verify(key, utf8.encode(knockText(knock)), base64.decode(signature));
}
