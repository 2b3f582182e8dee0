import { z } from "zod";
import type { Mesh } from "../actors/mesh.ts";
import { asMeshError } from "../errors.ts";
import { FEED_WORDS_LENGTH_MAX } from "./limits.ts";
import { remarksOn } from "./message-text.ts";
import { isOver, progressOf, shortOf } from "./offload-text.ts";
import { block, line, momentOf, styled } from "./output.ts";

// What happens at a home, as lines for people.

/** What `watch` tells: first how every stream stands (no event), then each change of one. */
const News = z.object({
  stream: z.string(),
  state: z.object({ value: z.unknown(), context: z.unknown() }),
  event: z.looseObject({ type: z.string() }).nullable(),
});
type News = z.infer<typeof News>;

const Conversation = z.object({ peer: z.string(), name: z.string().nullable(), admission: z.string() });
const Message = z.object({ id: z.string(), kind: z.string() });
const Messages = z.object({ ids: z.array(z.string()) });
const Pairing = z.object({ cluster: z.string().nullable(), rejoining: z.boolean() });
const LinkState = z.object({ closed: z.object({ reason: z.string() }).nullable() });

function linkText({ value, context }: News["state"]): string | undefined {
  if (typeof value === "object") return "online";
  const closed = LinkState.safeParse(context).data?.closed;
  const reason = closed?.reason ? ` (${line(closed.reason)})` : "";
  if (value === "waiting") return `offline${reason}, trying again`;
  return value === "refused" ? `refused by the relay${reason}` : undefined;
}

/** Turns news into lines. Words are fetched where there are any: the news itself carries none. */
export function createFeed(mesh: Mesh, print: (text: string) => void) {
  const names = new Map<string, string>();
  const nameOf = (did: string) => styled("bold", line(names.get(did) ?? did));
  const say = (text: string) => print(`${styled("dim", momentOf(new Date()))}  ${text}`);
  /** Chat that was handed in while this feed ran and has not left yet. */
  const leaving = new Set<string>();
  /** What was said last about the link and each offload that goes on. */
  const said = new Map<string, string>();
  const ended = new Set<string>();
  /** Pairings that are registering again. */
  const registering = new Set<string>();

  let work = Promise.resolve();
  const later = (task: () => Promise<void>) => {
    work = work.then(task).catch((error: unknown) => {
      const { code, message } = asMeshError(error);
      // The end of the home is told where it was opened.
      if (code !== "closed" && code !== "aborted") say(line(message));
    });
  };

  const tellMessage = async (peer: string, id: string) => {
    const { messages } = await mesh.call("inbox", { from: peer, id, characters: FEED_WORDS_LENGTH_MAX });
    for (const message of messages) {
      const { body } = message;
      say(`${nameOf(peer)}:${body.includes("\n") ? `\n${block(body)}` : ` ${line(body)}`}`);
      for (const remark of remarksOn(message)) print(`  ${styled("dim", remark)}`);
    }
  };

  const tellOffload = async (id: string) => {
    const view = await mesh.call("offload_status", { id });
    if (!("offload_id" in view) || ended.has(id)) return;
    const text = progressOf(view);
    if (said.get(id) === text) return;
    said.set(id, text);
    if (isOver(view)) {
      ended.add(id);
      said.delete(id);
    }
    say(`offload ${shortOf(id)}  ${text}`);
    for (const { path } of view.status === "done" ? view.files : []) print(`  ${line(path)}`);
    if (view.error) print(block(view.error.message));
  };

  const takeConversation = ({ state, event }: News) => {
    const { peer, name, admission } = Conversation.parse(state.context);
    if (name !== null) names.set(peer, name);
    if (event?.type === "SEND") {
      const { id, kind } = Message.parse(event);
      if (kind === "chat") leaving.add(id);
    } else if (event?.type === "TRANSMITTED") {
      for (const id of Messages.parse(event).ids) if (leaving.delete(id)) say(`sent to ${nameOf(peer)}`);
    } else if (event?.type === "UNDELIVERABLE") {
      for (const id of Messages.parse(event).ids)
        if (leaving.delete(id)) say(`a message to ${nameOf(peer)} cannot be delivered`);
    } else if (event?.type === "RECEIVED") {
      const { id, kind } = Message.parse(event);
      // What one says that is held is not in the inbox.
      if (kind === "chat" && admission !== "held") later(() => tellMessage(peer, id));
    }
  };

  const takeLink = ({ state }: News) => {
    const text = linkText(state);
    if (text === undefined || said.get("link") === text) return;
    said.set("link", text);
    say(text);
  };

  const takePairing = ({ stream, state, event }: News) => {
    const { cluster, rejoining } = Pairing.parse(state.context);
    if (rejoining) registering.add(stream);
    // The last step is CLAIMED, not PUBLISHED, if the controller is asked over the relay.
    if (state.value !== "paired" || (event?.type !== "PUBLISHED" && event?.type !== "CLAIMED")) return;
    // A member that registers again was paired before, and the node logs why.
    if (!registering.delete(stream)) say(`paired with ${line(cluster ?? "the cluster")}`);
  };

  return {
    /** Takes what `watch` tells. */
    take(told: unknown): void {
      const news = News.parse(told);
      const [kind, id = ""] = news.stream.split("/", 2);
      if (kind === "conversation") takeConversation(news);
      else if (kind === "link") takeLink(news);
      else if (kind === "pairing") takePairing(news);
      else if (kind === "offload") {
        // Those that had ended before are no news.
        if (news.event === null && typeof news.state.value === "string" && news.state.value !== "cancelling")
          ended.add(id);
        else later(() => tellOffload(id));
      }
    },
    /** Resolves when all that was taken has been told. */
    idle: () => work,
  };
}
