import {
  generateOneTimePreKeys,
  generateSignedPreKey,
  type OneTimePreKey,
  type SignedPreKey,
} from "../crypto/index.ts";
import { asMeshError, MeshError, particularsOf } from "../errors.ts";
import { ONE_TIME_PREKEYS, ONE_TIME_PREKEYS_KEPT, ONE_TIME_PREKEYS_LOW } from "../limits.ts";
import type { PairingContext } from "../machines/pairing/events.ts";
import { droppable, type PreKeysContext, type Wanted } from "../machines/prekeys/events.ts";
import type { Entry } from "../store/journal.ts";
import type { SecretPatch } from "../store/secrets.ts";
import type { Core } from "./core.ts";
import { Keyring } from "./keyring.ts";
import type { Registry } from "./registry.ts";
import type { ActorSystem } from "./system.ts";

// The prekeys of a membership: the effects of the prekeys machine.

export const preKeysOf = (controller: string): string => `prekeys/${controller}`;

export const preKeysContext = (system: ActorSystem, controller: string): PreKeysContext | undefined =>
  system.state(preKeysOf(controller))?.snapshot.context;

/** Ids that were never used. They only ever grow, over every cluster: a stale knock never finds another key under its number. */
export function freshIds(system: ActorSystem): { readonly signed: number; readonly oneTime: number } {
  let [signed, oneTime] = [1, 1];
  const seen = (ids: { readonly signed: number | null; readonly next: number } | null) => {
    signed = Math.max(signed, (ids?.signed ?? 0) + 1);
    oneTime = Math.max(oneTime, ids?.next ?? 1);
  };
  // As decided: what is on its way to the disk is used as well.
  for (const [stream] of system.streams("pairing")) {
    const context: PairingContext | undefined = system.decided(stream)?.snapshot.context;
    seen(context?.prekeys ?? null);
  }
  for (const [stream] of system.streams("prekeys")) seen(system.decided(stream)?.snapshot.context ?? null);
  return { signed, oneTime };
}

/** The private halves that are still here of one-time prekeys with ids from `first` up to `next`. */
export const heldPreKeys = (keyring: Keyring, first: number, next: number): OneTimePreKey[] =>
  Array.from({ length: next - first }, (_, index) => keyring.oneTimePreKey(first + index)).filter(
    (key) => key !== undefined,
  );

/** How many one-time prekeys of the newest batch no knock has used, as far as this laptop knows. */
function unusedPreKeys(keyring: Keyring, { first, next }: PreKeysContext): number {
  // Pairing makes the first batch, and records only where it ends.
  const begin = first < next ? first : Math.max(1, next - ONE_TIME_PREKEYS);
  return keyring.oneTimePreKeysHeld(begin, next);
}

/** The part of the memberships that this actor needs. */
export interface Memberships {
  registryOf(controller: string): Registry;
  /** See `Membership.whenForgotten`. */
  whenForgotten(controller: string): () => Entry[];
}

export class PreKeys {
  readonly #core: Core;
  readonly #memberships: Memberships;

  constructor(core: Core, memberships: Memberships) {
    this.#core = core;
    this.#memberships = memberships;
    core.system.perform("prekeys", {
      check: ({ controller }: Of) => this.#attempt(controller, () => this.#check(controller)),
      make: ({ controller, wanted }: Of & { readonly wanted: Wanted }) => this.#make(controller, wanted),
      publish: ({ controller }: Of) => this.#attempt(controller, () => this.#publish(controller)),
    });
  }

  /** The event by which what pairing has published is taken over; none when that is known. */
  adoption({ controller, prekeys }: PairingContext): Entry[] {
    const known = preKeysContext(this.#core.system, controller);
    const signed = known?.signed ?? -1;
    if (!prekeys || signed > prekeys.signed) return [];
    if (known && signed === prekeys.signed && known.next >= prekeys.next) return [];
    const event = { type: "ADOPTED", signed: prekeys.signed, next: prekeys.next };
    return [{ stream: preKeysOf(controller), event }];
  }

  /** The signed prekeys that a knock may mean that names none: the published one, and those that were before it. */
  candidates(pairing: PairingContext | undefined): SignedPreKey[] {
    const { system, keyring } = this.#core;
    const context = pairing && preKeysContext(system, pairing.controller);
    const ids = context ? [context.signed, ...context.kept.map(({ id }) => id).reverse()] : [pairing?.prekeys?.signed];
    return ids
      .map((id) => (id === undefined || id === null ? undefined : keyring.signedPreKey(id)))
      .filter((key) => key !== undefined);
  }

  /** A knock was taken. @param used the one-time prekey that it used; null when it came without one */
  async taken({ controller }: PairingContext, used: number | null): Promise<void> {
    const { system, keyring } = this.#core;
    const context = preKeysContext(system, controller);
    if (!context) return;
    if (used === null) await this.#tell(controller, { type: "DRAINED" });
    else if (unusedPreKeys(keyring, context) < ONE_TIME_PREKEYS_LOW) await this.#tell(controller, { type: "USED_UP" });
  }

  async #attempt(controller: string, work: () => Promise<void>): Promise<void> {
    const whenForgotten = this.#memberships.whenForgotten(controller);
    try {
      await work();
    } catch (error) {
      const failure = asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      this.#core.note(`The prekeys are seen to later: ${failure.message}`);
      const failed = { type: "FAILED", code: failure.code, detail: particularsOf(failure) };
      await this.#core.system.commit([
        { stream: preKeysOf(controller), event: failed },
        // Registering again publishes new prekeys.
        ...(failure.code === "registry_forgot" ? whenForgotten() : []),
      ]).durable;
    }
  }

  async #tell(
    controller: string,
    event: { readonly type: string; readonly [field: string]: unknown },
    secrets?: SecretPatch,
  ) {
    await this.#core.system.commit([{ stream: preKeysOf(controller), event }], { secrets }).durable;
  }

  async #check(controller: string): Promise<void> {
    const { keyring, system } = this.#core;
    const left = await this.#memberships.registryOf(controller).preKeysLeft(keyring.identity);
    const context = preKeysContext(system, controller);
    if (!context) return;
    await this.#tell(controller, { type: "CHECKED", left, ours: unusedPreKeys(keyring, context) });
  }

  async #make(controller: string, { rotate, count }: Wanted): Promise<void> {
    const { keyring, ports, system } = this.#core;
    const context = preKeysContext(system, controller);
    if (!context) return;
    const ids = freshIds(system);
    const signed = rotate ? generateSignedPreKey(keyring.identity, ids.signed, ports.random) : undefined;
    const oneTime = generateOneTimePreKeys(ids.oneTime, count, ports.random);
    const dropped = droppable(context, ports.clock.now());
    const event = { signed: signed?.keyId ?? context.signed, first: ids.oneTime, count, dropped };
    await this.#tell(
      controller,
      { type: "MADE", ...event },
      {
        ...Keyring.preKeysPatch(signed, oneTime),
        ...keyring.droppedPreKeysPatch(dropped, ids.oneTime - ONE_TIME_PREKEYS_KEPT),
      },
    );
  }

  async #publish(controller: string): Promise<void> {
    const { keyring, system } = this.#core;
    const context = preKeysContext(system, controller);
    if (!context || context.signed === null) return;
    const signed = keyring.signedPreKey(context.signed);
    if (!signed) throw new MeshError("store_damaged", "The signed prekey is missing.");
    const oneTime = heldPreKeys(keyring, context.first, context.next);
    await this.#memberships.registryOf(controller).publishPreKeys(keyring.identity, signed, oneTime);
    await this.#tell(controller, { type: "PUBLISHED", signed: context.signed });
  }
}

interface Of {
  readonly controller: string;
}
