import { createHash } from "node:crypto";
import type { MeshNode } from "../../src/actors/node.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import { uuidFrom } from "../../src/actors/uuid.ts";
import { asMeshError } from "../../src/errors.ts";
import type { ConversationContext } from "../../src/machines/conversation/events.ts";
import type { PreKeysContext } from "../../src/machines/prekeys/events.ts";
import type { RunContext } from "../../src/machines/run/events.ts";
import { resultOf, tokensOf } from "./cluster.ts";
import type { Dice } from "./dice.ts";
import type { Laptop } from "./laptop.ts";
import type { World } from "./world.ts";

// What the people of a world ask for, and what they may rely on: an accepted message arrives once and in its place, an
// offload comes to an honest end, and when all is calm everyone reaches everyone.

interface Sent {
  readonly id: string;
  readonly text: string;
  isAccepted: boolean;
}
interface Errand {
  readonly laptop: Laptop;
  readonly id: string;
  readonly task: string;
  readonly files: readonly { readonly name: string; readonly bytes: Buffer }[];
  isAccepted: boolean;
  isCancelled: boolean;
}

/** Most files are small, some do not fit into a line of the journal, some not into one piece or one pull. */
const FILE_SIZES: readonly (readonly [number, number])[] = [
  ...Array<[number, number]>(7).fill([0, 2_000]),
  ...Array<[number, number]>(2).fill([20_000, 60_000]),
  [270_000, 800_000],
];

/** Whether its sender knows that it arrived. */
const hasArrived = (from: Laptop, to: Laptop, id: string) =>
  ["delivered", "read"].includes(from.node?.core.messages.outgoing(to.did ?? "", id)?.state ?? "");

const wayOf = (from: Laptop, to: Laptop) => `${from.name} to ${to.name}`;

export class Errands {
  accepted = 0;
  readonly #world: World;
  readonly #dice: Dice;
  /** What each asked to be sent to each, in that order. */
  readonly #sent = new Map<string, Sent[]>();
  readonly #errands: Errand[] = [];
  #fresh: { readonly to: Laptop; readonly from: Laptop; readonly id: string }[] = [];

  constructor(world: World) {
    this.#world = world;
    this.#dice = world.dice.of("errands");
  }

  get offloads(): number {
    return this.#errands.length;
  }

  /** The operator gives each laptop a token, once the cluster can make one. */
  handOutTokens(): void {
    const { clock, cluster, laptops, plan } = this.#world;
    const next = laptops.find(({ token }) => token === undefined);
    if (!next) return;
    cluster.issue(plan.slots).then((token) => {
      next.token ??= token;
      if (token !== undefined) clock.in(0, () => this.handOutTokens());
    });
    // The cluster may have died over it.
    clock.in(1_000, () => next.token === undefined && this.handOutTokens());
  }

  plan(): void {
    const { clock, plan, laptops } = this.#world;
    const at = () => this.#dice.fraction() * plan.durationMs;
    for (let count = 0; count < plan.messages; count++) {
      const moment = at();
      const burst = this.#dice.chance(0.2) ? this.#dice.between(2, 8) : 1;
      const [from, to] = this.#pair();
      for (let each = 0; each < burst; each++) clock.in(moment, () => this.#send(from, to));
    }
    for (let count = 0; count < plan.offloads; count++) clock.in(at(), () => this.#offload(this.#dice.pick(laptops)));
    for (let count = 0; count < plan.messages / 4; count++) clock.in(at(), () => this.#read(this.#dice.pick(laptops)));
  }

  #pair(): [Laptop, Laptop] {
    const { laptops } = this.#world;
    const from = this.#dice.pick(laptops);
    return [from, this.#dice.pick(laptops.filter((laptop) => laptop !== from))];
  }

  #send(from: Laptop, to: Laptop): string | undefined {
    if (!from.isMember || to.did === undefined) return undefined;
    const way = wayOf(from, to);
    const list = this.#sent.get(way) ?? [];
    this.#sent.set(way, list);
    const id = uuidFrom((length) => this.#dice.bytes(length));
    const size = this.#dice.chance(0.03) ? this.#dice.between(1_000, 40_000) : this.#dice.between(0, 200);
    const sent: Sent = { id, text: `${way}, ${list.length}${".".repeat(size)}`, isAccepted: false };
    list.push(sent);
    this.#world.trace(`${way}: ${id}`);
    from.call("send", { to: to.did, message: sent.text, id }).then(
      () => {
        sent.isAccepted = true;
        this.accepted++;
        const isDurable = this.#world.witness.nodes
          .get(from.name)
          ?.has(`conversation/${to.did}`, (event) => event.type === "SEND" && event.id === id);
        if (!isDurable) this.#world.violated(`${way}: ${id} was accepted before it was on disk`);
      },
      (error: unknown) => this.#refused(from, "send", error),
    );
    return id;
  }

  /** A call may fail while something is wrong; when nothing is, it may not. */
  #refused(laptop: Laptop, what: string, error: unknown): void {
    const { code, message } = asMeshError(error);
    this.#world.trace(`${laptop.name}: ${what}: ${code}`);
    const isExcused = laptop.machine.hadFault || code === "closed" || code === "registry_unreachable";
    if (!isExcused) this.#world.violated(`${laptop.name}: ${what} failed: ${message}`);
  }

  #read(laptop: Laptop): void {
    if (!laptop.isMember) return;
    const others = this.#world.laptops.filter(({ did }) => did !== undefined && did !== laptop.did);
    const from = others.map(({ did }) => did ?? "");
    const asked =
      this.#dice.chance(0.5) || from.length === 0
        ? laptop.call("inbox", { mark_read: this.#dice.chance(0.5) })
        : laptop.call("await", { from, timeout_ms: this.#dice.between(0, 30_000) });
    asked.catch((error: unknown) => this.#refused(laptop, "inbox", error));
  }

  #offload(laptop: Laptop): void {
    if (!laptop.isMember) return;
    const { clock } = this.#world;
    const dice = this.#dice.of(`offload ${this.#errands.length}`);
    const id = uuidFrom((length) => dice.bytes(length));
    const task = `${dice.chance(0.1) ? "fail" : "work"} ${id}`;
    const { files } = laptop.machine;
    const given = Array.from({ length: dice.between(0, 3) }, (_, index) => {
      const name = `file-${this.#errands.length}-${index}`;
      const bytes = Buffer.from(dice.bytes(dice.between(...dice.pick(FILE_SIZES))));
      files.put(`/${laptop.name}/files/${name}`, bytes);
      return { name, bytes };
    });
    const errand: Errand = { laptop, id, task, files: given, isAccepted: false, isCancelled: false };
    this.#errands.push(errand);
    this.#world.trace(`${laptop.name} offloads ${id}`);
    laptop
      .call("offload", {
        id,
        task,
        files: given.map(({ name }) => `/${laptop.name}/files/${name}`),
        timeout_minutes: dice.between(4, 12),
      })
      .then(
        () => {
          errand.isAccepted = true;
        },
        (error: unknown) => this.#refused(laptop, "offload", error),
      );
    if (dice.chance(0.25))
      clock.in(dice.skewed(10, 60_000), () => {
        if (!laptop.node || !errand.isAccepted) return;
        errand.isCancelled = true;
        laptop.call("offload_cancel", { id }).catch((error: unknown) => {
          const { code } = asMeshError(error);
          if (code !== "offload_over") this.#refused(laptop, "cancel", error);
        });
      });
  }

  // When all is calm

  /** Nobody waits for anything any more. */
  isQuiet(): boolean {
    return this.#restless() === undefined;
  }

  #restless(): string | undefined {
    const { laptops, cluster } = this.#world;
    if (!cluster.household) return "the cluster is not up";
    for (const { name, node } of [...laptops, { name: "cluster", node: cluster.node }]) {
      if (!node) return `${name} is not up`;
      if (!node.membership.current) return `${name} is not paired`;
      if (!node.core.link.online) return `${name} is not online`;
      for (const [stream, { snapshot }] of node.core.system.streams("conversation")) {
        const { admission, outbox, unconfirmed, handling, owed }: ConversationContext = snapshot.context;
        if (owed.delivered.length > 0 && snapshot.matches("open") && this.#isOfLaptop(stream))
          return `${name} owes a receipt to ${stream}`;
        if (outbox.length > 0 && this.#isOfLaptop(stream)) return `${name} has mail for ${stream}`;
        if (unconfirmed.some(({ resend }) => resend) && this.#isOfLaptop(stream))
          return `${name} does not know whether all arrived at ${stream}`;
        if (handling.length > 0 && admission !== "held") return `${name} handles something of ${stream}`;
      }
      for (const [stream, { snapshot }] of node.core.system.streams("offload"))
        if (["queued", "active", "cancelling"].some((state) => snapshot.matches(state)))
          return `${name} waits for ${stream}`;
      for (const [stream, { snapshot }] of node.core.system.streams("run"))
        if (!snapshot.context.settled) return `the cluster runs ${stream}`;
    }
    return this.#underway();
  }

  /** What was accepted arrives, and its sender learns of it, without anybody saying anything more. */
  #underway(): string | undefined {
    for (const from of this.#world.laptops)
      for (const to of this.#world.laptops)
        for (const { id, isAccepted } of this.#sent.get(wayOf(from, to)) ?? [])
          if (isAccepted && !hasArrived(from, to, id)) return `${id} has not arrived from ${wayOf(from, to)}`;
    return undefined;
  }

  /** Mail for a sandbox that is gone waits for ever. */
  #isOfLaptop(stream: string): boolean {
    return this.#world.laptops.some(({ did }) => stream === `conversation/${did}`);
  }

  /** @param other why somebody else is not quiet */
  checkQuiet(other?: string): void {
    const restless = this.#restless() ?? other;
    if (restless !== undefined && this.#world.violations.length === 0)
      this.#world.violated(`still not quiet when all was calm: ${restless}`);
  }

  /** One more message from everyone to everyone. */
  sendFresh(): void {
    const { laptops } = this.#world;
    for (const from of laptops)
      for (const to of laptops) if (from !== to) this.#fresh.push({ from, to, id: this.#send(from, to) ?? "never" });
  }
  hasFresh(): boolean {
    return this.#fresh.every(
      ({ from, to, id }) => from.node?.core.messages.outgoing(to.did ?? "", id)?.state === "delivered",
    );
  }
  checkFresh(): void {
    for (const { from, to, id } of this.#fresh)
      if (!to.node?.core.messages.incoming(from.did ?? "", id))
        this.#world.violated(`the session between ${from.name} and ${to.name} did not heal: ${id} did not arrive`);
  }

  hasNewPreKeys(): boolean {
    return this.#world.laptops.every(({ node }) => signedPreKeyOf(node) >= 2);
  }
  checkPreKeys(): void {
    for (const { name, node } of this.#world.laptops)
      if (signedPreKeyOf(node) < 2) this.#world.violated(`${name} has not replaced its signed prekey`);
  }

  // What may be relied on

  async check(): Promise<void> {
    for (const to of this.#world.laptops) await this.#checkMail(to);
    for (const errand of this.#errands) await this.#checkErrand(errand);
    for (const grant of this.#world.cluster.household?.grants.list() ?? [])
      if (grant.slots_used > 0) this.#world.violated(`${grant.name} has lost ${grant.slots_used} slots`);
  }

  async #checkMail(to: Laptop): Promise<void> {
    const { node } = to;
    if (!node) throw new Error(`${to.name} is down`);
    for (const from of this.#world.laptops) {
      if (from === to) continue;
      const way = wayOf(from, to);
      const sent = this.#sent.get(way) ?? [];
      const received = [...node.core.messages.received()].filter(({ peer }) => peer === from.did).map(({ id }) => id);
      const places = new Map(sent.map(({ id }, index) => [id, index]));
      if (new Set(received).size !== received.length) this.#world.violated(`${way}: a message is twice in the inbox`);
      for (const { id, isAccepted } of sent)
        if (isAccepted && !received.includes(id)) this.#world.violated(`${way}: accepted and lost: ${id}`);
      for (const id of received) {
        if (!hasArrived(from, to, id)) this.#world.violated(`${way}: ${id} arrived, and who sent it does not know`);
      }
      for (const [index, id] of received.entries()) {
        const place = places.get(id);
        if (place === undefined) this.#world.violated(`${way}: ${id} came from nowhere`);
        const before = places.get(received[index - 1] ?? "");
        if (place !== undefined && before !== undefined && place < before)
          this.#world.violated(`${way}: ${id} came after a later one`);
      }
      const { messages } = await this.#now(
        to.call("inbox", { all: true, limit: 200, ...(from.did !== undefined && { from: from.did }) }),
      );
      for (const { id, body } of messages) {
        const text = sent[places.get(id) ?? -1]?.text;
        if (body !== text) this.#world.violated(`${way}: ${id} says something else`);
      }
    }
  }

  async #checkErrand({ laptop, id, task, files, isAccepted, isCancelled }: Errand): Promise<void> {
    const { world } = { world: this.#world };
    let view: OffloadView;
    try {
      view = await this.#now(laptop.node?.offloads.view(id) ?? Promise.reject(new Error("down")));
    } catch (error) {
      if (isAccepted) world.violated(`offload ${id} was accepted and is unknown: ${String(error)}`);
      return;
    }
    world.trace(`offload ${id} ended ${view.status} ${view.error?.code ?? ""}`);
    if (world.plan.isCalm && !isCancelled) {
      const wanted = task.startsWith("fail") ? "error" : "done";
      if (view.status !== wanted)
        world.violated(`offload ${id} is ${view.status} though nothing went wrong: ${view.error?.message}`);
    }
    const run: RunContext | undefined = world.cluster.node?.core.system.state(`run/${id}`)?.snapshot.context;
    const used = tokensOf(task, world);
    if (run && run.tokens > used) world.violated(`offload ${id} used ${used} tokens, and ${run.tokens} are counted`);
    if (view.status !== "done") return;
    if (run?.tokens !== used || run.result?.ok !== true)
      world.violated(`the controller does not know what the offload ${id} used, or how it ended`);
    if (view.files.length !== files.length)
      world.violated(`offload ${id} has ${view.files.length} of ${files.length} files`);
    for (const { name, bytes } of files) {
      const expected = createHash("sha256")
        .update(resultOf(task, name, bytes))
        .digest("hex");
      const file = view.files.find((each) => each.name === `${name}.result`);
      const node = file && laptop.machine.files.node(file.path, true);
      const held = node?.kind === "file" ? createHash("sha256").update(node.durable).digest("hex") : undefined;
      if (file?.sha256 !== expected || held !== expected)
        world.violated(`offload ${id}: the result of ${name} is not what it should be`);
    }
  }

  /** The outcome of something that needs time to pass. */
  async #now<T>(asked: Promise<T>): Promise<T> {
    let isOver = false;
    const over = () => {
      isOver = true;
    };
    asked.then(over, over);
    await this.#world.clock.run(60_000, () => isOver);
    if (!isOver) throw new Error("there was no answer");
    return asked;
  }
}

/** The id of the signed prekey that a node has published; 0 when none. */
function signedPreKeyOf(node: MeshNode | undefined): number {
  const ids = [...(node?.core.system.streams("prekeys") ?? [])].map(([, { snapshot }]) =>
    snapshot.value === "fresh" ? (snapshot.context as PreKeysContext).signed : 0,
  );
  return Math.max(0, ...ids.map((id) => id ?? 0));
}
