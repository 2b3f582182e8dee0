import { MeshError } from "../errors.ts";
import { SETTLE_MS } from "../limits.ts";
import type { ChatCommand, CommandContext } from "./api.ts";
import {
  code,
  inboxInChat,
  offloadInChat,
  offloadsInChat,
  peerInChat,
  peersInChat,
  statusInChat,
  verificationInChat,
} from "./chat.ts";
import { CHAT_MESSAGES_MAX, CHAT_WORDS_LENGTH_MAX } from "./limits.ts";
import { type PluginNode, requirePaired } from "./node.ts";
import { count, isRunning, toolError } from "./render.ts";

// `/mesh` in a chat: what a person wants to know or decide without a model turn. OpenClaw lets only the owner use it, or a client
// of the gateway that may write; what decides about trust is for the owner or an administrator alone.

const SCOPE = "operator.write";
const SCOPE_OF_DECISIONS = "operator.admin";

interface Asked {
  readonly node: PluginNode;
  /** The words behind the subcommand, as many as its usage names at most. */
  readonly words: readonly string[];
  /** Call it right before what only the owner may do. @throws MeshError `owner_only` */
  readonly requireOwner: () => void;
}

interface Subcommand {
  /** What stands behind it: `<must>`, `[may]`. */
  readonly usage: readonly string[];
  readonly help: string;
  answer(asked: Asked): Promise<string>;
}

const reading = { repeatable: true } as const;

async function offloadsOf(node: PluginNode) {
  const found = await node.call("offload_status", {}, reading);
  return "offloads" in found ? found.offloads : [found];
}

/** The offload that is meant by its id or the beginning of it. */
async function idOf(node: PluginNode, text: string): Promise<string> {
  const ids = (await offloadsOf(node)).map(({ offload_id }) => offload_id);
  const [found, ...others] = ids.includes(text) ? [text] : ids.filter((id) => id.startsWith(text));
  return found === undefined || others.length > 0 ? text : found;
}

/** What a keyboard makes of two dashes, or leaves away. */
const isRecord = (word: string) => /^(?:--|—|–)?record$/i.test(word);

const SUBCOMMANDS: Readonly<Record<string, Subcommand>> = {
  status: {
    usage: [],
    help: "how this agent stands on the mesh",
    async answer({ node }) {
      const [whoami, inbox, offloads] = await Promise.all([
        node.call("whoami", {}, reading),
        node.call("inbox", { limit: 1 }, reading),
        offloadsOf(node),
      ]);
      return statusInChat(whoami, inbox, offloads);
    },
  },
  inbox: {
    usage: ["[all]"],
    help: "the unread messages, or those read before too; none is marked as read",
    async answer({ node, words: [which] }) {
      if (which !== undefined && which.toLowerCase() !== "all") throw usageError("inbox");
      const page = { limit: CHAT_MESSAGES_MAX, all: which !== undefined, characters: CHAT_WORDS_LENGTH_MAX };
      return inboxInChat(await node.call("inbox", page, reading));
    },
  },
  offloads: {
    usage: [],
    help: "the offloads, those that run first",
    answer: async ({ node }) => offloadsInChat(await offloadsOf(node)),
  },
  offload: {
    usage: ["<id>"],
    help: "one offload, by its id or the beginning of it",
    async answer({ node, words: [id = ""] }) {
      const view = await node.call("offload_status", { id: await idOf(node, id) }, reading);
      return "offloads" in view ? offloadsInChat(view.offloads) : offloadInChat(view);
    },
  },
  cancel: {
    usage: ["<id>"],
    help: "end an offload",
    async answer({ node, words: [typed = ""] }) {
      const id = await idOf(node, typed);
      await node.call("offload_cancel", { id });
      // The cluster confirms it as soon as it has heard of it.
      const view = await node.call("offload_status", { id, wait_ms: SETTLE_MS, until_over: true }, reading);
      return "offloads" in view || isRunning(view)
        ? `Offload ${code(id)} is being cancelled; the cluster has not confirmed it yet.`
        : offloadInChat(view);
    },
  },
  peers: {
    usage: [],
    help: "whom this agent talked to, and who waits to be accepted",
    answer: async ({ node }) => peersInChat((await node.call("peers", {}, reading)).peers),
  },
  verify: {
    usage: ["<peer>", "[--record]"],
    help: "the safety number with a peer; --record keeps that you compared it",
    async answer({ node, words: [peer = "", record], requireOwner }) {
      if (record === undefined) return verificationInChat(await node.call("verify", { peer }, reading));
      if (!isRecord(record)) throw usageError("verify");
      requireOwner();
      const { did, name } = await node.call("verify", { peer, record: "verified" });
      return `${peerInChat(did, name)} is verified.`;
    },
  },
  accept: {
    usage: ["<peer>"],
    help: "let a peer write to this agent",
    async answer({ node, words: [peer = ""], requireOwner }) {
      requireOwner();
      const { did, name, unread } = await node.call("accept", { peer });
      const waiting = unread === 0 ? "" : ` In the inbox of it: ${count(unread, "unread message")}.`;
      return `${peerInChat(did, name)} may write to this agent.${waiting}`;
    },
  },
  decline: {
    usage: ["<peer>"],
    help: "refuse a peer, and keep what it said out of sight",
    async answer({ node, words: [peer = ""], requireOwner }) {
      requireOwner();
      const { did, name } = await node.call("decline", { peer });
      return `${peerInChat(did, name)} is refused. To let it in all the same: /mesh accept ${did}`;
    },
  },
};

const usageOf = (name: string) => ["/mesh", name, ...(SUBCOMMANDS[name]?.usage ?? [])].join(" ");

const usageError = (name: string) => new MeshError("input_invalid", `It is ${usageOf(name)}.`);

const help = (): string =>
  Object.entries(SUBCOMMANDS)
    .map(([name, subcommand]) => `${usageOf(name)}: ${subcommand.help}`)
    .join("\n");

/** @throws MeshError `owner_only` */
function requireOwner({ gatewayClientScopes, senderIsOwner, assertOwnerCurrent }: CommandContext): void {
  if (gatewayClientScopes ? !gatewayClientScopes.includes(SCOPE_OF_DECISIONS) : senderIsOwner !== true)
    throw new MeshError("owner_only");
  try {
    assertOwnerCurrent?.();
  } catch (cause) {
    throw new MeshError("owner_only", undefined, { cause });
  }
}

async function answer(node: PluginNode, context: CommandContext): Promise<string> {
  const [typed = "status", ...words] = (context.args ?? "").split(/\s+/).filter((word) => word !== "");
  const name = typed.toLowerCase();
  if (name === "help") return help();
  const subcommand = Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined;
  if (!subcommand) throw new MeshError("input_invalid", `There is no /mesh ${code(typed)}: see /mesh help.`);
  const { usage } = subcommand;
  const needed = usage.filter((each) => each.startsWith("<")).length;
  if (words.length < needed || words.length > usage.length) throw usageError(name);
  return node.visit(async () => {
    await requirePaired(node, undefined);
    return subcommand.answer({ node, words, requireOwner: () => requireOwner(context) });
  });
}

export const meshCommand = (node: PluginNode): ChatCommand => ({
  name: "mesh",
  description: "The agent mesh: status, inbox, offloads, peers. /mesh help lists what there is.",
  acceptsArgs: true,
  requireAuth: true,
  requiredScopes: [SCOPE],
  async handler(context) {
    try {
      return { text: await answer(node, context) };
    } catch (error) {
      return { text: toolError(error).message, isError: true };
    }
  },
});
