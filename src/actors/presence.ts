import { asMeshError, type MeshError, particularsOf } from "../errors.ts";
import type { PresenceContext } from "../machines/presence/machine.ts";
import type { Entry } from "../store/journal.ts";
import type { Core } from "./core.ts";
import { LINK } from "./link.ts";
import { type Membership, pairingOf } from "./membership.ts";
import type { Registry } from "./registry.ts";

// The presence of this laptop at the registry of its cluster. This actor performs the effects of the presence machine, and notices
// when the registry has forgotten this laptop.

export const PRESENCE = "presence/registry";

/** Where this laptop is present: the link is up, and its registration stands. */
interface Place {
  readonly controller: string;
  readonly registryUrl: string;
}

export class Presence {
  readonly #core: Core;
  readonly #membership: Membership;

  constructor(core: Core, membership: Membership) {
    this.#core = core;
    this.#membership = membership;
    core.system.perform("presence", {
      look: () =>
        this.#ask(async (registry) => {
          const left = await registry.preKeysLeft(core.keyring.identity);
          return { type: "LOOKED", ours: left !== null };
        }),
      beat: () =>
        this.#ask(async (registry) => {
          await registry.beat(core.keyring.identity);
          return { type: "BEATEN" };
        }),
    });
    core.system.subscribe(({ stream }) => {
      if (stream === LINK || stream.startsWith("pairing/")) this.#follow();
    });
  }

  get value(): string {
    const value = this.#core.system.state(PRESENCE)?.snapshot.value;
    return typeof value === "string" ? value : "away";
  }
  get context(): PresenceContext | undefined {
    return this.#core.system.state(PRESENCE)?.snapshot.context;
  }

  #place(): Place | undefined {
    const { link, system } = this.#core;
    const { current } = this.#membership;
    if (!current?.registryUrl || link.value !== "online") return undefined;
    const pairing = system.state(pairingOf(current.controller))?.snapshot;
    const isRegistered = pairing?.matches("paired") || pairing?.matches("asking");
    return isRegistered ? { controller: current.controller, registryUrl: current.registryUrl } : undefined;
  }

  #chance(): number {
    return (this.#core.ports.random(1)[0] ?? 0) / 255;
  }

  #tell(event: Entry["event"]): void {
    this.#core.system.commit([{ stream: PRESENCE, event }]);
  }

  /** The link or the pairing changed. */
  #follow(): void {
    const place = this.#place();
    const isAway = this.value === "away";
    if (!place) {
      if (!isAway) this.#tell({ type: "DOWN" });
      return;
    }
    if (!isAway && this.context?.registryUrl === place.registryUrl) return;
    if (!isAway) this.#tell({ type: "DOWN" });
    const tells = this.#core.link.context?.extensions.includes("accepted") === true;
    this.#tell({ type: "UP", registry_url: place.registryUrl, tells, chance: this.#chance() });
  }

  /** Sends a request to the registry. The answer is ignored if the link or the cluster has changed meanwhile. */
  async #ask(question: (registry: Registry) => Promise<Entry["event"]>): Promise<void> {
    const { system } = this.#core;
    const place = this.#place();
    if (!place) return;
    const asked = system.state(PRESENCE);
    const whenForgotten = this.#membership.whenForgotten(place.controller);
    let failure: MeshError | undefined;
    let event: Entry["event"];
    try {
      event = await question(this.#membership.registryOf(this.#membership.current));
    } catch (error) {
      failure = asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      event = { type: "FAILED", code: failure.code, detail: particularsOf(failure), chance: this.#chance() };
    }
    if (system.state(PRESENCE) !== asked) return;
    if (failure) this.#note(failure);
    this.#tell(event);
    // This is a commit of its own, because the presence is live only and may have moved on before the pairing's event is on the disk.
    if (failure?.code === "registry_forgot") await system.commit(whenForgotten()).durable;
  }

  /** Logs once why the registry cannot be told, because each heartbeat would log it again. */
  #note({ code, message }: MeshError): void {
    if (code !== "registry_forgot" && this.context?.failure?.code !== code)
      this.#core.note(`The registry could not be told that this laptop is online. It is tried again: ${message}`);
  }
}
