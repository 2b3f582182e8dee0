import { base64url, didOf, generateOneTimePreKeys, generateSignedPreKey, utf8, verify } from "../crypto/index.ts";
import { asMeshError, MeshError, particularsOf } from "../errors.ts";
import { ONE_TIME_PREKEYS, ONE_TIME_PREKEYS_KEPT } from "../limits.ts";
import type { PairingContext } from "../machines/pairing/events.ts";
import type { Entry } from "../store/journal.ts";
import { isLegacyToken } from "../wire/legacy.ts";
import { decodeToken, pairedProofText } from "../wire/pair.ts";
import { ANNOUNCED_EXTENSIONS } from "../wire/registry.ts";
import type { Core } from "./core.ts";
import type { HttpPorts } from "./http-request.ts";
import { Keyring } from "./keyring.ts";
import { Asking, askingEnds, plainEnds } from "./legacy/asking.ts";
import { PAIR_WAIT_MS } from "./legacy/limits.ts";
import type { Places } from "./places.ts";
import { freshIds, heldPreKeys, PreKeys, preKeysContext } from "./prekeys.ts";
import { register } from "./registration.ts";
import { pair, Registry } from "./registry.ts";
import type { ActorState } from "./state.ts";

// Membership of a cluster: the effects of the pairing machine.

export const pairingOf = (controller: string): string => `pairing/${controller}`;

/** One that is being joined, or asked anew, is joined later than any that was. */
const joinedAt = ({ asking, pairedAt }: PairingContext) => (asking ? null : pairedAt) ?? Number.POSITIVE_INFINITY;

/** Of several clusters, the one joined last. */
export function latestPairing(states: Iterable<ActorState>): PairingContext | undefined {
  let found: PairingContext | undefined;
  for (const { snapshot } of states) {
    const context: PairingContext = snapshot.context;
    if (context.registryUrl !== null && joinedAt(context) >= (found ? joinedAt(found) : 0)) found = context;
  }
  return found;
}

export class Membership {
  readonly #core: Core;
  readonly #http: HttpPorts;
  readonly preKeys: PreKeys;
  /** Pairing with a deployed cluster. */
  readonly asking: Asking;
  readonly #places: Places;

  constructor(core: Core, places: Places = {}) {
    this.#core = core;
    this.#places = places;
    this.#http = { network: core.ports.network, clock: core.ports.clock, signal: core.signal };
    this.preKeys = new PreKeys(core, {
      registryOf: (controller) => this.registryOf(this.#context(pairingOf(controller))),
      whenForgotten: (controller) => this.whenForgotten(controller),
    });
    this.asking = new Asking(core, this);
    core.system.perform("pairing", {
      claim: (_: never, stream) => this.#attempt(stream, () => this.#claim(stream), true),
      register: (_: never, stream) => this.#attempt(stream, () => this.#register(stream), false),
      makePrekeys: (_: never, stream) => this.#makePrekeys(stream),
      publishPrekeys: (_: never, stream) => this.#attempt(stream, () => this.#publish(stream), false),
      connect: (_: never, stream) => this.connect(stream),
      ask: (_: never, stream) => this.asking.ask(stream),
      leave: () => this.#leave(),
    });
  }

  /** The cluster this node belongs to: the one joined last. */
  get current(): PairingContext | undefined {
    return latestPairing([...this.#core.system.streams("pairing")].map(([, state]) => state));
  }

  registryOf(context: PairingContext | undefined): Registry {
    if (!context?.registryUrl) throw new MeshError("not_paired");
    return new Registry(this.#http, this.#places.registryUrl ?? context.registryUrl);
  }

  /**
   * Consumes a pairing token: resolves when the node is paired, and on the mesh.
   * @throws MeshError `token_*`, `cluster_unreachable`, `cluster_refused`: then nothing was kept but the identity. A controller
   * that does not answer over its relay in time goes on being asked, and its `cluster_unreachable` says so
   */
  async pair(token: string, name: string | null, signal?: AbortSignal): Promise<PairingContext> {
    if (isLegacyToken(token)) return this.#beInvited(token, name, signal);
    const { pairUrl, controllerDid, secret } = decodeToken(token);
    const { system, keyring } = this.#core;
    const stream = pairingOf(controllerDid);
    const { identity, patch } = keyring.identityOrNew();
    const { accepted, durable } = system.commit(
      [
        {
          stream,
          event: {
            type: "STARTED",
            did: identity.did,
            pair_url: pairUrl,
            controller: controllerDid,
            name,
            capabilities: [],
          },
        },
      ],
      { secrets: { ...patch, ...Keyring.tokenPatch(controllerDid, secret) } },
    );
    const settled = this.#settled(stream, signal);
    if (accepted[0]) await durable;
    return settled;
  }

  async #beInvited(token: string, name: string | null, signal?: AbortSignal): Promise<PairingContext> {
    const { system, keyring } = this.#core;
    const { identity, patch } = keyring.identityOrNew();
    const { stream, entries, secrets } = this.asking.invitation(token, name, identity);
    const { durable } = system.commit(entries, { secrets: { ...patch, ...secrets } });
    const settled = this.#settled(stream, signal, PAIR_WAIT_MS);
    await durable;
    return settled;
  }

  /** As a member of the cluster's own household, without a token. */
  async join(options: {
    readonly controller: string | null;
    readonly cluster: string;
    readonly relayUrl: string;
    readonly registryUrl: string;
    readonly name: string;
    readonly capabilities: readonly string[];
    /** Of the identity to have if there is none yet, 32 bytes; a new one unless given. */
    readonly seed?: Uint8Array | undefined;
  }): Promise<PairingContext> {
    const { system, keyring } = this.#core;
    const { identity, patch } = keyring.identityOrNew(options.seed);
    const controller = options.controller ?? identity.did;
    const stream = pairingOf(controller);
    const event = {
      type: "JOINED",
      did: identity.did,
      controller,
      cluster: options.cluster,
      relay_url: options.relayUrl,
      registry_url: options.registryUrl,
      name: options.name,
      capabilities: [...options.capabilities],
    };
    const { durable } = system.commit([{ stream, event }], { secrets: patch });
    const settled = this.#settled(stream);
    await durable;
    return settled;
  }

  /** The next time, after all that is decided by now, that the pairing stands in `paired` or its token is refused. */
  #settled(stream: string, signal?: AbortSignal, waitMs = Number.POSITIVE_INFINITY): Promise<PairingContext> {
    const { clock } = this.#core.ports;
    const closing = this.#core.signal;
    const stop = signal ? AbortSignal.any([signal, closing]) : closing;
    const from = this.#core.system.decidedPosition;
    const settled = new Promise<PairingContext>((resolve, reject) => {
      const end = (settle: () => void) => {
        unsubscribe();
        disarm();
        stop.removeEventListener("abort", abort);
        settle();
      };
      const unanswered =
        "The controller has not answered yet, and goes on being asked while a process has this home open (kars-mesh run).";
      const tooLate = () => end(() => reject(new MeshError("cluster_unreachable", unanswered)));
      const abort = () => end(() => reject(new MeshError(closing.aborted ? "closed" : "aborted")));
      const unsubscribe = this.#core.system.subscribe((change) => {
        // What was decided before is on its way still, and says how an earlier attempt ended.
        if (change.stream !== stream || (change.commit?.number ?? 0) < from) return;
        const { snapshot } = change.state;
        const context: PairingContext = snapshot.context;
        if (change.event.type === "FAILED" && context.failure && !snapshot.matches("joining")) {
          const { code, detail } = context.failure;
          end(() => reject(new MeshError(code, detail || undefined)));
        } else if (snapshot.matches("paired")) end(() => resolve(context));
      });
      const disarm = waitMs === Number.POSITIVE_INFINITY ? () => undefined : clock.at(clock.now() + waitMs, tooLate);
      stop.addEventListener("abort", abort, { once: true });
    });
    // Nobody may be waiting: what could not even be begun has been told already.
    settled.catch(() => undefined);
    return settled;
  }

  #context(stream: string): PairingContext {
    const state = this.#core.system.state(stream);
    if (!state) throw new Error(`no pairing ${stream}`);
    return state.snapshot.context;
  }

  /**
   * Called before a request to a membership's registry. The returned function is called when the answer says that the registry does
   * not know this laptop, and gives the event for that. It gives none if the pairing has changed since, because then the answer
   * may be older than a registration.
   */
  whenForgotten(controller: string): () => Entry[] {
    const { system, note } = this.#core;
    const stream = pairingOf(controller);
    const before = system.decided(stream)?.snapshot;
    return () => {
      if (system.decided(stream)?.snapshot !== before) return [];
      note("The registry does not know this laptop any more. This laptop registers again, with new one-time prekeys.");
      return [{ stream, event: { type: "FORGOTTEN" } }];
    };
  }

  async #attempt(stream: string, work: () => Promise<void>, isLast: boolean): Promise<void> {
    const whenForgotten = this.whenForgotten(this.#context(stream).controller);
    try {
      await work();
    } catch (error) {
      const failure = asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      const forgotten = failure.code === "registry_forgot" ? whenForgotten() : [];
      if (forgotten.length > 0) {
        await this.#core.system.commit(forgotten).durable;
        return;
      }
      const { controller, asking, rejoining } = this.#context(stream);
      // No retry is worth it for a token that the controller has not been asked about yet.
      const final = isLast || (asking !== null && !rejoining);
      if (!final) this.#core.note(`Joining the cluster is being repeated: ${failure.message}`);
      const event = { type: "FAILED", code: failure.code, detail: particularsOf(failure), final };
      await this.#core.system.commit([{ stream, event }], {
        secrets: final ? Keyring.tokenPatch(controller, null) : undefined,
      }).durable;
    }
  }

  async #claim(stream: string): Promise<void> {
    const { keyring, system } = this.#core;
    const { pairUrl, controller, requestedName: name } = this.#context(stream);
    const secret = keyring.token(controller);
    if (!pairUrl || secret === undefined) throw new MeshError("token_invalid");
    const { identity } = keyring;
    const answer = await pair(this.#http, { pairUrl, secret, identity, name });
    const controllerKey = base64url.decode(answer.controller_key);
    const proof = utf8.encode(pairedProofText(identity.did, answer.relay_url, answer.registry_url, answer.timestamp));
    if (didOf(controllerKey) !== controller || !verify(controllerKey, proof, base64url.decode(answer.signature))) {
      throw new MeshError(
        "cluster_refused",
        "The answer to the pairing is not from the controller that the token names.",
      );
    }
    const { cluster, relay_url, registry_url, grant, vouches = false } = answer;
    const claimed = { type: "CLAIMED", cluster, relay_url, registry_url, grant, vouches };
    const others = askingEnds(this.#core, controller);
    await system.commit([{ stream, event: claimed }, ...plainEnds(this.#core, null), ...others.entries], {
      secrets: { ...others.secrets, ...Keyring.tokenPatch(controller, null) },
    }).durable;
  }

  async #register(stream: string): Promise<void> {
    const context = this.#context(stream);
    const { name } = context;
    if (name === null) throw new Error("registering without a name");
    const capabilities = [...new Set(context.capabilities)].filter((entry) => entry !== name);
    await register(this.#core, this.registryOf(context), { name, capabilities });
    const event = { type: "REGISTERED", name, capabilities, extensions: ANNOUNCED_EXTENSIONS };
    await this.#core.system.commit([{ stream, event }]).durable;
  }

  async #makePrekeys(stream: string): Promise<void> {
    const { keyring, ports, system } = this.#core;
    const { signed: freshId, oneTime: first } = freshIds(system);
    // The one-time prekeys that the registry had before it forgot them may be in use, so new ones are made. The signed prekey is
    // shared by all peers, and stays.
    const standing = this.#standingPreKey(stream);
    const signed = standing === undefined ? generateSignedPreKey(keyring.identity, freshId, ports.random) : undefined;
    const oneTime = generateOneTimePreKeys(first, ONE_TIME_PREKEYS, ports.random);
    const event = { type: "PREKEYS_MADE", signed: standing ?? freshId, first, count: ONE_TIME_PREKEYS };
    await system.commit([{ stream, event }], {
      secrets: {
        ...Keyring.preKeysPatch(signed, oneTime),
        ...keyring.droppedPreKeysPatch([], first - ONE_TIME_PREKEYS_KEPT),
      },
    }).durable;
  }

  /** The id of the signed prekey that a member who registers again has published; undefined when there is none. */
  #standingPreKey(stream: string): number | undefined {
    const { keyring, system } = this.#core;
    const { controller, prekeys, rejoining } = this.#context(stream);
    const id = preKeysContext(system, controller)?.signed ?? prekeys?.signed;
    return rejoining && id !== undefined && keyring.signedPreKey(id) ? id : undefined;
  }

  async #publish(stream: string): Promise<void> {
    const { keyring, system } = this.#core;
    const context = this.#context(stream);
    const { prekeys } = context;
    const signed = prekeys && keyring.signedPreKey(prekeys.signed);
    if (!prekeys || !signed) throw new MeshError("store_damaged", "The signed prekey is missing.");
    const oneTime = heldPreKeys(keyring, Math.max(prekeys.first, prekeys.next - ONE_TIME_PREKEYS), prekeys.next);
    await this.registryOf(context).publishPreKeys(keyring.identity, signed, oneTime);
    const event = { type: "PUBLISHED", signed: prekeys.signed };
    // Of a token that may still be refused nothing is looked after.
    const adoption = context.asking ? [] : this.preKeys.adoption(context);
    await system.commit([{ stream, event }, ...adoption]).durable;
    if (context.rejoining) this.#core.note("This laptop is registered again.");
  }

  /** Back to the cluster that counts now, if there is one. */
  async #leave(): Promise<void> {
    const { current } = this;
    if (current) await this.connect(pairingOf(current.controller));
    else this.#core.link.disconnect();
  }

  /** Brings the link up to the relay of a membership, if that is the current one. */
  async connect(stream: string): Promise<void> {
    const { link } = this.#core;
    const context = this.#context(stream);
    if (context === this.current && context.relayUrl) {
      const relayUrl = this.#places.relayUrl ?? context.relayUrl;
      const wanted = `${relayUrl.replace(/\/+$/, "")}/ws`;
      if (link.value !== "down" && link.context?.url !== wanted) link.disconnect();
      link.connect(relayUrl);
    }
    // Of a home that joined before they were looked after.
    const entries = this.preKeys.adoption(context);
    // An earlier version of this program registered this laptop, with other extensions.
    if (context === this.current && context.announced !== ANNOUNCED_EXTENSIONS && !context.rejoining)
      entries.push({ stream, event: { type: "OUTDATED" } });
    if (entries.length > 0) await this.#core.system.commit(entries).durable;
  }
}
