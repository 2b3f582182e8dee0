import { base64, type Identity } from "../../crypto/index.ts";
import { type ErrorCode, MeshError } from "../../errors.ts";
import { quoted } from "../../foreign.ts";
import type { ConversationContext } from "../../machines/conversation/events.ts";
import type { PairingContext } from "../../machines/pairing/events.ts";
import { PAIR_ASKS_MAX } from "../../machines/pairing/limits.ts";
import type { Entry } from "../../store/journal.ts";
import type { SecretPatch } from "../../store/secrets.ts";
import { decodeLegacyToken, didOfName, type PairAnswer, pairRefusal, plainForms } from "../../wire/legacy.ts";
import { type Core, conversationOf, isoNow } from "../core.ts";
import { Keyring } from "../keyring.ts";
import { uuidFrom } from "../uuid.ts";
import { REFUSAL_LENGTH_MAX } from "./limits.ts";

// Pairing with a deployed cluster: its controller is asked over the relay, and answers there, both in plaintext. The question
// carries the token's secret, so it is no message of the conversation, whose words are kept; it is made anew each time.

/** What the membership offers for this. */
export interface Members {
  readonly current: PairingContext | undefined;
  /** Brings the link up to the relay of a membership, if that is the current one. */
  connect(stream: string): Promise<void>;
}

/** What a token begins. */
export interface Invitation {
  /** The pairing. */
  readonly stream: string;
  readonly entries: readonly Entry[];
  readonly secrets: SecretPatch;
}

const pairingOf = (controller: string) => `pairing/${controller}`;

/**
 * The end of all plaintext but with one controller: nobody else is let in that was before. What waited for them will not go.
 * @param except the DID of the controller of the cluster that counts now, if it speaks plaintext
 */
export function plainEnds({ system }: Pick<Core, "system">, except: string | null): Entry[] {
  return [...system.streams("conversation")].flatMap(([stream]) => {
    const context: ConversationContext | undefined = system.decided(stream)?.snapshot.context;
    if (!context?.plain || context.peer === except) return [];
    const ids = context.outbox.map(({ id }) => id);
    return [
      ...(ids.length > 0 ? [{ stream, event: { type: "UNDELIVERABLE", ids, code: "not_paired" } }] : []),
      { stream, event: { type: "UNPLAIN" } },
    ];
  });
}

/** The end of all asking but one: its tokens' secrets would go to the relay of another cluster. */
export function askingEnds(
  { system }: Pick<Core, "system">,
  except: string,
): { readonly entries: Entry[]; readonly secrets: SecretPatch } {
  const others = [...system.streams("pairing")].filter(([stream]) => {
    const context: PairingContext | undefined = system.decided(stream)?.snapshot.context;
    return context?.asking && context.controller !== except;
  });
  const event = { type: "FAILED", code: "aborted", detail: "Another cluster was paired with.", final: true };
  return {
    entries: others.map(([stream]) => ({ stream, event })),
    secrets: Object.assign(
      {},
      ...others.map(([, { snapshot }]) => Keyring.tokenPatch(snapshot.context.controller, null)),
    ),
  };
}

export class Asking {
  readonly #core: Core;
  readonly #members: Members;
  /**
   * The last question to the controller, and the connection on which it went. A plain relay delivers a frame each time that it gets
   * it, and a controller that reads the same question twice refuses the second one.
   */
  #asked = "";

  constructor(core: Core, members: Members) {
    this.#core = core;
    this.#members = members;
  }

  #context(stream: string): PairingContext | undefined {
    return this.#core.system.decided(stream)?.snapshot.context;
  }

  #isAsking(stream: string): boolean {
    return this.#core.system.decided(stream)?.snapshot.matches("asking") === true;
  }

  /** Whether a controller's answer is awaited, which includes the time while this laptop registers again at its registry. */
  #awaitsAnswer(stream: string): boolean {
    const context = this.#context(stream);
    return this.#isAsking(stream) || (context?.rejoining === true && context.asking !== null);
  }

  /**
   * The events by which a token begins to be consumed, in the place of any other that is asked about.
   * @throws MeshError `token_invalid`, also when it would bring plaintext to a controller that speaks sealed
   */
  invitation(token: string, name: string | null, identity: Identity): Invitation {
    const { controllerDid: controller, amid, relayUrl, registryUrl, secret } = decodeLegacyToken(token);
    if (controller === identity.did)
      throw new MeshError("token_invalid", "The controller that this token names is this laptop itself.");
    if (this.#speaksSealed(controller))
      throw new MeshError(
        "token_invalid",
        "The controller that this token names speaks end-to-end encrypted with this laptop, and this token would have it speak plaintext.",
      );
    const others = askingEnds(this.#core, controller);
    const stream = pairingOf(controller);
    const entry: Entry = {
      stream,
      event: {
        type: "INVITED",
        did: identity.did,
        controller,
        amid,
        request: uuidFrom(this.#core.ports.random),
        relay_url: relayUrl,
        registry_url: registryUrl,
        name: name ?? `laptop-${identity.did.slice(-6)}`,
      },
    };
    return {
      stream,
      entries: [...others.entries, entry],
      secrets: { ...others.secrets, ...Keyring.tokenPatch(controller, secret) },
    };
  }

  /** Whether a controller was ever heard, or paired with, otherwise than in plaintext. */
  #speaksSealed(controller: string): boolean {
    const pairing = this.#context(pairingOf(controller));
    const conversation: ConversationContext | undefined = this.#core.system.decided(conversationOf(controller))
      ?.snapshot.context;
    if (pairing && pairing.pairedAt !== null && pairing.plain === null) return true;
    return conversation !== undefined && (conversation.session !== null || conversation.proved.length > 0);
  }

  /** Asks the controller; the same question again while it may be that the relay does not have it. */
  async ask(stream: string): Promise<void> {
    const { keyring, link } = this.#core;
    const context = this.#context(stream);
    if (!context?.asking || !this.#isAsking(stream)) return;
    const { controller, name, asking } = context;
    const secret = keyring.token(controller);
    if (asking.asks > PAIR_ASKS_MAX || secret === undefined) {
      await this.#fail(stream, "cluster_unreachable", "The controller did not answer, and is not asked any more.");
      return;
    }
    await this.#members.connect(stream);
    // At another cluster's relay the secret has no business.
    if (this.#members.current?.controller !== controller) return;
    const { did, publicKey } = keyring.identity;
    const id = `${asking.request}.${asking.asks}`;
    const asked = `${link.connection} ${id}`;
    if (!link.online || asked === this.#asked) return;
    this.#asked = asked;
    const words = plainForms({
      type: "pair_request",
      secret,
      pubkey_ed25519: base64.encode(publicKey),
      display_name: name,
    });
    const frame = { v: 1, type: "message", from: did, ts: isoNow(this.#core), ...words };
    link.transmit({ ...frame, to: controller, id }, () => undefined);
    // It connects by its DID even where its token names an AMID. One that is known to its relay by that alone is found so.
    if (asking.amid !== null && asking.asks > 1)
      link.transmit({ ...frame, to: asking.amid, id: `${id}.amid` }, () => undefined);
  }

  /** The link is up: who is being asked is asked. */
  async onUp(): Promise<void> {
    for (const [stream, { snapshot }] of this.#core.system.streams("pairing"))
      if (snapshot.matches("asking")) await this.ask(stream);
  }

  /**
   * Takes a controller's answer.
   * @param from the name under which it came: a DID or an AMID
   * @returns false when nobody asked, or it is another controller's
   */
  async answer(controller: string, from: string, answer: PairAnswer): Promise<boolean> {
    const { system } = this.#core;
    const stream = pairingOf(controller);
    const context = this.#context(stream);
    if (!context || !this.#awaitsAnswer(stream)) return false;
    if (!answer.success) {
      await this.#fail(stream, ...this.#refusal(context, answer.error));
      return true;
    }
    const { controller_amid: named = controller } = answer;
    if (didOfName(named) !== controller || this.#speaksSealed(controller) || context.name === null) return false;
    const grant = {
      name: context.name,
      slots: answer.slots,
      capabilities: answer.capabilities_granted,
      token_budget: answer.token_budget ?? null,
      expires_at: answer.expires_at ?? null,
    };
    const { relayUrl: relay_url, registryUrl: registry_url } = context;
    await system.commit(
      [
        {
          stream,
          event: { type: "CLAIMED", cluster: answer.cluster_name, relay_url, registry_url, grant, plain: from },
        },
        ...plainEnds(this.#core, controller),
        { stream: conversationOf(controller), event: { type: "PLAIN" } },
      ],
      { secrets: Keyring.tokenPatch(controller, null) },
    ).durable;
    return true;
  }

  #refusal({ controller, asking }: PairingContext, words: string): [code: ErrorCode, detail: string] {
    const code = pairRefusal(words);
    // An answer that was on its way when this laptop died is lost with a plain relay, and a token is taken once.
    if (code === "token_used" && asking !== null && asking.asks > 1)
      return [
        code,
        `The controller was asked ${asking.asks} times: if its answer to an earlier question was lost, it is this laptop that used the token.`,
      ];
    if (code !== "cluster_refused") return [code, ""];
    const secret = this.#core.keyring.token(controller);
    const told = (secret === undefined ? words : words.replaceAll(secret, "…")).trim();
    return [code, told === "" ? "" : `The controller says: ${quoted(told, REFUSAL_LENGTH_MAX)}.`];
  }

  async #fail(stream: string, code: ErrorCode, detail: string): Promise<void> {
    const controller = this.#context(stream)?.controller ?? "";
    await this.#core.system.commit([{ stream, event: { type: "FAILED", code, detail, final: true } }], {
      secrets: Keyring.tokenPatch(controller, null),
    }).durable;
  }
}
