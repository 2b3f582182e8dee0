import { conversationOf } from "../actors/core.ts";
import { compose, type Draft } from "../actors/drafts.ts";
import { until } from "../actors/inbox.ts";
import type { MeshNode } from "../actors/node.ts";
import { asMeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { TaskNews } from "../wire/payload.ts";
import type { SandboxConfig } from "./sandboxes.ts";

// What a sandbox tells its controller of its task where it is no process of the controller's machine: messages like all others,
// durable here, then at the relay, then there. So neither a cut nor a restart of the cluster loses or repeats any of it.

export class Account {
  readonly #node: MeshNode;
  readonly #config: SandboxConfig;
  readonly #persist: (draft: () => Draft) => Promise<void>;
  /** Tokens used until now, and those that the controller was told of. */
  #used = 0;
  #saidUsed = 0;
  #telling: Promise<void> | undefined;

  /** @param persist commits what must be said, as often as it takes */
  constructor(node: MeshNode, config: SandboxConfig, persist: (draft: () => Draft) => Promise<void>) {
    this.#node = node;
    this.#config = config;
    this.#persist = persist;
  }

  /** Whether anything was told. */
  get isKept(): boolean {
    return this.#telling !== undefined;
  }

  /** Resolves when the relay has all that was told so far, in a session that the controller has, or the sandbox closes. */
  get told(): Promise<void> {
    return this.#telling ?? Promise.resolve();
  }

  readonly tell = (news: TaskNews): void => {
    if (news.type === "used") this.#used = Math.max(this.#used, news.tokens);
    this.#telling = this.told
      .then(() => this.#say(news))
      .catch((error: unknown) => {
        const { code, message } = asMeshError(error);
        if (code !== "closed") this.#node.core.note(`The controller could not be told of the task: ${message}`);
      });
  };

  async #say(given: TaskNews): Promise<void> {
    // The latest sum says all: those that were told while one was on its way are one message.
    const news = given.type === "used" ? { ...given, tokens: this.#used } : given;
    if (news.type === "used" && news.tokens <= this.#saidUsed) return;
    const { core } = this.#node;
    const { controller, run: request_id, timeout_minutes } = this.#config;
    const id = `${request_id}.${news.type}${news.type === "used" ? `.${news.tokens}` : ""}`;
    await this.#persist(() => compose(core, controller, { type: "mesh:task_news", request_id, news }, id));
    this.#saidUsed = news.type === "used" ? news.tokens : this.#saidUsed;
    const stream = conversationOf(controller);
    const isThere = () => {
      const context: ConversationContext | undefined = core.system.state(stream)?.snapshot.context;
      return context !== undefined && [...context.outbox, ...context.unconfirmed].every((item) => item.id !== id);
    };
    const concerns = (changed: string) => changed === stream;
    // Longer than its time no run lasts.
    await until(this.#node, isThere, { timeoutMs: timeout_minutes * 60_000, signal: this.#node.signal, concerns });
  }
}
