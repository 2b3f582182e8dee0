import { z } from "zod";
import { WAIT_MAX_MS } from "../limits.ts";
import { type ConversationContext, isHeld } from "../machines/conversation/events.ts";
import type { NoticeContext } from "../machines/notice/events.ts";
import type { Entry } from "../store/journal.ts";
import { type Core, conversationOf } from "./core.ts";
import { nameOfPeer } from "./directory.ts";
import { until } from "./inbox.ts";
import { NEWS_KNOWN_MAX } from "./limits.ts";
import { isOver, type OffloadStatus, offloadOf, phaseOf, statusOf } from "./offload-view.ts";
import { operation } from "./operation.ts";

// What there is to tell whoever works here: messages that were not read, strangers that wait, offloads that ended. What is read is no
// news any more; what was told once stays told, however often this process or the one that tells it is started.

const NOTICE = "notice/";

/** The stream that keeps to whom news of a conversation or an offload goes. */
export const noticeOf = (subject: string): string => `${NOTICE}${subject}`;

const noticed = ({ system }: Core, subject: string): NoticeContext | undefined =>
  system.decided(noticeOf(subject))?.snapshot.context;

/**
 * What keeps that news of something goes to where it was asked for; nothing when that is known.
 * @param subject the stream of a conversation or an offload
 */
export const asking = (core: Core, subject: string, origin: string | undefined): Entry[] =>
  origin === undefined || noticed(core, subject)?.origin === origin
    ? []
    : [{ stream: noticeOf(subject), event: { type: "ASKED", origin } }];

interface Told {
  /** The stream that this is about. */
  readonly subject: string;
  /** How far it has come: what TOLD says when this was told. */
  readonly mark: number;
  /** Where it was asked for; null when it came by itself. */
  readonly origin: string | null;
}
export type News = Told &
  (
    | { readonly kind: "messages"; readonly did: string; readonly name: string; readonly unread: number }
    | { readonly kind: "stranger"; readonly did: string; readonly name: string }
    | { readonly kind: "offload"; readonly offload_id: string; readonly status: OffloadStatus }
  );

/** A stranger is told of before any message of it counts. */
const STRANGER_MARK = 0;
/** An offload ends once. */
export const OVER_MARK = 1;

function ofConversation(core: Core, context: ConversationContext): News | undefined {
  const { peer, unread, received, admission } = context;
  // Of most there is none.
  if (unread === 0 && admission !== "held") return undefined;
  const subject = conversationOf(peer);
  const { told = null, origin = null } = noticed(core, subject) ?? {};
  const about = () => ({ subject, origin, did: peer, name: nameOfPeer(core, peer) });
  if (admission === "held" && told === null) return { ...about(), kind: "stranger", mark: STRANGER_MARK };
  if (isHeld(context) || unread === 0 || received <= (told ?? 0)) return undefined;
  return { ...about(), kind: "messages", unread, mark: received };
}

/** Of an offload that was asked for by whoever can be told. Who cancelled one knows that it ended. */
function ofOffload(core: Core, id: string): News | undefined {
  const subject = offloadOf(id);
  const { told = null, origin = null } = noticed(core, subject) ?? {};
  const state = core.system.state(subject);
  if (!state || origin === null || told !== null) return undefined;
  const status = statusOf(phaseOf(state));
  return isOver(status) && status !== "cancelled"
    ? { kind: "offload", subject, mark: OVER_MARK, origin, offload_id: id, status }
    : undefined;
}

/** All that is news now. */
function newsOf(core: Core): News[] {
  const found: (News | undefined)[] = [];
  for (const [, { snapshot }] of core.system.streams("conversation"))
    found.push(ofConversation(core, snapshot.context));
  for (const [, { snapshot }] of core.system.streams("offload")) found.push(ofOffload(core, snapshot.context.id));
  return found.filter((news) => news !== undefined);
}

/** What there can be news of. */
const ABOUT = /^(?:conversation|offload)\//;
const Known = z.object({ subject: z.string().max(200).regex(ABOUT), mark: z.int().min(0) });

export const newsOperations = {
  /** What there is to tell, as soon as something is among it that the caller does not know, or after `wait_ms`. */
  news: operation(
    z.object({
      known: z.array(Known).max(NEWS_KNOWN_MAX).default([]),
      wait_ms: z.number().min(0).max(WAIT_MAX_MS).default(0),
    }),
    async ({ known, wait_ms }, { node, signal }) => {
      const marks = new Map(known.map(({ subject, mark }) => [subject, mark]));
      const isNew = ({ subject, mark }: News) => mark > (marks.get(subject) ?? -1);
      await until(node, () => newsOf(node.core).some(isNew), {
        timeoutMs: wait_ms,
        signal,
        concerns: (stream) => ABOUT.test(stream),
      });
      return { news: newsOf(node.core) };
    },
  ),

  /** This was told: it is no news any more. */
  told: operation(z.object({ told: z.array(Known).max(NEWS_KNOWN_MAX) }), async ({ told }, { node }) => {
    const { system } = node.core;
    const entries = told
      // Of an offload that nobody asked to be told of there is no news.
      .filter(({ subject }) => system.state(subject.startsWith("offload/") ? noticeOf(subject) : subject))
      .map(({ subject, mark }) => ({ stream: noticeOf(subject), event: { type: "TOLD", mark } }));
    await system.commit(entries).durable;
    return {};
  }),
} as const;
