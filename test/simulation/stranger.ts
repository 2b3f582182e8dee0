import { uuidFrom } from "../../src/actors/uuid.ts";
import { asMeshError } from "../../src/errors.ts";
import type { ConversationContext } from "../../src/machines/conversation/events.ts";
import type { Dice } from "./dice.ts";
import type { Laptop } from "./laptop.ts";
import type { World } from "./world.ts";

// An agent that nobody let in knocks at the laptops. What it says is shown where the person has accepted it, and nowhere else.

type Decision = "accept" | "decline";

export class StrangerErrands {
  readonly #world: World;
  readonly #dice: Dice;
  readonly #sent = new Map<Laptop, { readonly id: string; isAccepted: boolean }[]>();
  /** What was begun: whether it was decided is on disk. */
  readonly #decisions = new Map<Laptop, Decision>();

  constructor(world: World) {
    this.#world = world;
    this.#dice = world.dice.of("stranger");
  }

  get #isThere(): boolean {
    return this.#world.plan.strangerMessages > 0;
  }

  plan(): void {
    if (!this.#isThere) return;
    const { clock, plan, laptops, stranger } = this.#world;
    stranger.start();
    const at = () => this.#dice.fraction() * plan.durationMs;
    for (let count = 0; count < plan.strangerMessages; count++)
      clock.in(at(), () => this.#say(this.#dice.pick(laptops)));
    for (const laptop of laptops) if (this.#dice.chance(0.6)) clock.in(at(), () => this.#decide(laptop));
  }

  #say(to: Laptop): void {
    const { stranger } = this.#world;
    if (!stranger.isMember || to.did === undefined) return;
    const message = { id: uuidFrom((length) => this.#dice.bytes(length)), isAccepted: false };
    this.#sent.set(to, [...(this.#sent.get(to) ?? []), message]);
    this.#world.trace(`${stranger.name} to ${to.name}: ${message.id}`);
    stranger.call("send", { to: to.did, message: "let me in", id: message.id }).then(
      () => {
        message.isAccepted = true;
      },
      (error: unknown) => this.#refused(stranger, error),
    );
  }

  /** The person looks who waits, and lets it in or turns it away. */
  #decide(laptop: Laptop): void {
    const { did } = this.#world.stranger;
    if (did === undefined || this.#context(laptop)?.admission !== "held") return;
    const decision = this.#dice.chance(0.7) ? "accept" : "decline";
    this.#decisions.set(laptop, decision);
    this.#world.trace(`${laptop.name}: ${decision}`);
    laptop.call(decision, { peer: did }).catch((error: unknown) => this.#refused(laptop, error));
  }

  #refused({ name, machine }: Laptop, error: unknown): void {
    const { code, message } = asMeshError(error);
    if (!machine.hadFault && code !== "closed") this.#world.violated(`${name}: ${message}`);
  }

  #context({ node }: Laptop): ConversationContext | undefined {
    return node?.core.system.state(`conversation/${this.#world.stranger.did}`)?.snapshot.context;
  }

  /** What the stranger still has to do before all is quiet. */
  restless(): string | undefined {
    const { stranger, laptops } = this.#world;
    if (!this.#isThere) return undefined;
    if (!stranger.node?.core.link.online) return `${stranger.name} is not online`;
    for (const to of laptops) {
      const out = stranger.node.core.system.state(`conversation/${to.did}`)?.snapshot;
      if (out && out.context.outbox.length > 0) return `${stranger.name} has mail for ${to.name}`;
      if (this.#context(to)?.admission === "held") continue;
      for (const { id } of this.#sent.get(to) ?? [])
        if (stranger.node.core.messages.outgoing(to.did ?? "", id)?.state === "sent" && this.#mayTalkTo(to))
          return `${id} of ${stranger.name} is on its way to ${to.name}`;
    }
    return undefined;
  }

  #mayTalkTo(laptop: Laptop): boolean {
    return this.#context(laptop)?.admission === "admitted";
  }

  check(): void {
    if (!this.#isThere) return;
    const { stranger, laptops } = this.#world;
    for (const to of laptops) {
      const admission = this.#context(to)?.admission;
      const sent = this.#sent.get(to) ?? [];
      if (admission === "unasked") this.#world.violated(`${to.name} was never asked about ${stranger.name}`);
      if (admission === "admitted" && this.#decisions.get(to) !== "accept")
        this.#world.violated(`${to.name} let ${stranger.name} in without being asked`);
      const entries = [...(to.node?.core.messages.received() ?? [])].filter(({ peer }) => peer === stranger.did);
      for (const { id, state } of entries)
        if (admission !== "admitted" && state !== "held")
          this.#world.violated(`${to.name} was shown ${id} of ${stranger.name}, which it has not let in`);
      if (admission !== "admitted") continue;
      const got = entries.map(({ id }) => id);
      const places = got.map((id) => sent.findIndex((each) => each.id === id));
      if (places.some((place, index) => place <= (places[index - 1] ?? -1)))
        this.#world.violated(`${stranger.name} to ${to.name}: ${got.join(" ")} came twice or out of order`);
      for (const { id, isAccepted } of sent)
        if (isAccepted && !got.includes(id))
          this.#world.violated(`${stranger.name} to ${to.name}: accepted and lost: ${id}`);
    }
  }
}
