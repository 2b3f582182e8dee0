import type { InboxMessage } from "../actors/inbox.ts";
import type { OffloadView } from "../actors/offloads.ts";
import type { ResultOf } from "../actors/operation.ts";
import type { Operations } from "../actors/operations.ts";
import type { PeerView } from "../actors/peers.ts";
import { type Forgetting, forgettingText } from "../actors/registry-forgot.ts";
import type { Verification } from "../actors/verification.ts";
import { oneLine, visible } from "../foreign.ts";
import { CHAT_LINES_MAX, CHAT_WORDS_LENGTH_MAX } from "./limits.ts";
import { count, isRunning, paragraphs, type Quotation, quote } from "./render.ts";

// Results as a person reads them in a chat. A chat renders Markdown, and OpenClaw attaches the file that a line `MEDIA:…` of a
// reply names: what others wrote stands as code, where it is neither.

/** Foreign text as one line of code. */
export const code = (text: string, max = 80): string => {
  const plain = text.replaceAll("`", "'").trim();
  return `\`${oneLine(plain.length > max ? `${plain.slice(0, max - 1)}…` : plain)}\``;
};

/**
 * Foreign text as a block of code, behind a fence that it does not contain.
 * @param whole the command that shows all of the text @param missing how many characters of the whole are not in `text`
 */
function fenced(text: string, whole: string, missing = 0): string {
  const plain = visible(text);
  const shown = plain.length > CHAT_WORDS_LENGTH_MAX ? plain.slice(0, CHAT_WORDS_LENGTH_MAX) : plain;
  const longest = Math.max(2, ...[...shown.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  const left = plain.length - shown.length + missing;
  return `${fence}\n${shown}\n${fence}${left > 0 ? `\n(${count(left, "more character")}: ${whole})` : ""}`;
}

const quoteInChat = (quotations: readonly Quotation[], whole: string): string =>
  quote(quotations.map(({ heading, words }) => ({ heading, words: fenced(words, whole) })));

/** A message, cut to what a chat takes. */
function quotationOf(message: InboxMessage): Quotation {
  const { id, body, bytes, length = body.length } = message;
  const missing = bytes === undefined ? length - body.length : 0;
  // A peer chose the id; other characters in it might be read as Markdown.
  const which = /^[A-Za-z0-9.-]+$/.test(id) ? `--id ${id}` : "--all";
  return { heading: messageHeading(message), words: fenced(body, `openclaw mesh inbox ${which}`, missing) };
}

export const peerInChat = (did: string, name: string | null): string =>
  name === null || name === did ? code(did) : `${code(name)} (${code(did)})`;

/** One list line each, as many as a chat takes. */
function list<T>(entries: readonly T[], show: (entry: T) => string, rest: string): string {
  const left = entries.length - CHAT_LINES_MAX;
  return paragraphs(
    ...entries.slice(0, CHAT_LINES_MAX).map((entry) => `- ${show(entry)}`),
    left > 0 ? `${left} more: ${rest}.` : undefined,
  );
}

const LINKS: Readonly<Record<string, string>> = {
  online: "online",
  connecting: "connecting to the relay",
  waiting: "offline, trying again",
  refused: "refused by the relay",
};

export function statusInChat(
  { did, name, clusters, link, store }: ResultOf<Operations, "whoami">,
  inbox: ResultOf<Operations, "inbox">,
  offloads: readonly OffloadView[],
): string {
  const running = offloads.filter(isRunning).length;
  const where = clusters.map(({ cluster }) => code(cluster ?? "unnamed")).join(", ");
  const reason = link.state !== "online" && link.closed?.reason ? `: ${code(link.closed.reason, 200)}` : "";
  return paragraphs(
    `${code(name ?? "unnamed")} on ${where}: ${LINKS[link.state] ?? "offline"}${reason}.`,
    did === null ? undefined : `Identity: ${code(did)}`,
    ...clusters.map(({ forgotten }) => forgottenInChat(forgotten)),
    `Inbox: ${inbox.unread} unread. See /mesh inbox`,
    waitingInChat(inbox.strangers),
    `Offloads: ${running} running, ${offloads.length - running} ended. See /mesh offloads`,
    store.state === "ok" ? undefined : `The state directory fails since ${store.since}: ${code(store.reason, 200)}`,
  );
}

const forgottenInChat = (forgotten: Forgetting | null) =>
  forgettingText(forgotten && { ...forgotten, problem: forgotten.problem && code(forgotten.problem, 400) }, Date.now());

const waitingInChat = (strangers: number) =>
  strangers > 0 ? `Waiting to be accepted: ${count(strangers, "agent")}. See /mesh peers` : undefined;

const messageHeading = ({ from, name, at, read, note }: InboxMessage) =>
  `message from ${peerInChat(from, name)} at ${at}${read ? ", read before" : ""}${note === undefined ? "" : `. ${note}`}`;

export const inboxInChat = ({ messages, unread, more, strangers }: ResultOf<Operations, "inbox">): string =>
  paragraphs(
    messages.length === 0
      ? "No unread messages. See /mesh inbox all"
      : `${count(messages.length, "message")}; ${unread} unread. Looking here marks none as read.`,
    more > 0 ? `${more} more: openclaw mesh inbox` : undefined,
    waitingInChat(strangers),
    messages.length === 0 ? undefined : quote(messages.map(quotationOf)),
  );

function stateOf(view: OffloadView): string {
  const { status, phase, position, progress } = view;
  if (!isRunning(view)) return status;
  if (position !== null) return `${status}, number ${position} in the queue`;
  return `${status}, phase ${phase}${progress.pct === null ? "" : `, ${Math.round(progress.pct)} %`}`;
}

export function offloadsInChat(offloads: readonly OffloadView[]): string {
  if (offloads.length === 0) return "There are no offloads.";
  const newestFirst = offloads.toReversed();
  const sorted = [...newestFirst.filter(isRunning), ...newestFirst.filter((view) => !isRunning(view))];
  const show = (view: OffloadView) =>
    `${code(view.offload_id)} ${stateOf(view)}${view.task === null ? "" : `: ${code(view.task)}`}`;
  return paragraphs(
    `${count(offloads.length, "offload")}, ${offloads.filter(isRunning).length} running.`,
    list(sorted, show, "openclaw mesh status"),
    "One of them: /mesh offload <id>",
  );
}

export function offloadInChat(view: OffloadView): string {
  const { offload_id, task, folder, files, error, summary, progress, sandbox } = view;
  const by = sandbox === null ? "the cluster" : `the sandbox ${code(sandbox)}`;
  const quotations: Quotation[] = [];
  if (isRunning(view) && progress.message)
    quotations.push({ heading: `progress, from ${by}`, words: progress.message });
  if (error) quotations.push({ heading: `failure ${error.code}, from ${by}`, words: error.message });
  if (summary) quotations.push({ heading: `summary, from ${by}`, words: summary });
  return paragraphs(
    `Offload ${code(offload_id)}: ${stateOf(view)}.`,
    task === null ? undefined : `Task: ${code(task, 200)}`,
    files.length === 0 ? undefined : `${count(files.length, "result file")} in ${code(folder, 400)}:`,
    list(files, ({ name, size }) => `${code(name)}, ${size} bytes`, `openclaw mesh status ${offload_id}`),
    isRunning(view) ? `End it with /mesh cancel ${offload_id}` : undefined,
    quotations.length > 0 ? quoteInChat(quotations, `openclaw mesh status ${offload_id}`) : undefined,
  );
}

const standing = ({ admission, verified_at }: PeerView) => {
  if (verified_at !== null) return "verified";
  if (admission === "held") return "waits to be accepted";
  return admission === "unasked" ? undefined : admission;
};

/** Those that wait for the person first, then those with something unread. */
export function peersInChat(peers: readonly PeerView[]): string {
  if (peers.length === 0) return "Nobody has written or was written to yet.";
  const isHeld = ({ admission }: PeerView) => Number(admission === "held");
  const sorted = peers.toSorted((a, b) => isHeld(b) - isHeld(a) || b.unread - a.unread);
  const show = (peer: PeerView) =>
    [
      peerInChat(peer.did, peer.name),
      standing(peer),
      peer.unread > 0 ? `${peer.unread} unread` : undefined,
      peer.queued > 0 ? `${peer.queued} queued` : undefined,
    ]
      .filter((part) => part !== undefined)
      .join(", ");
  return paragraphs(
    `${count(peers.length, "peer")}. They choose their names themselves; only the DID is sure.`,
    list(sorted, show, "openclaw mesh peers"),
    peers.some(isHeld) ? "Let one in with /mesh accept <peer>, or turn it away with /mesh decline <peer>" : undefined,
  );
}

/** Twelve groups of five, four in a line. */
const digitsOf = (number: string): string =>
  (number.match(/.{20}/g) ?? []).map((row) => (row.match(/.{5}/g) ?? []).join(" ")).join("\n");

export const verificationInChat = ({ did, name, number, verified_at }: Verification): string =>
  paragraphs(
    `The safety number with ${peerInChat(did, name)}:`,
    `\`\`\`\n${digitsOf(number)}\n\`\`\``,
    verified_at === null
      ? "Not verified. Compare it with what the other side shows, by another way than the mesh. If it is the same: /mesh verify <peer> --record"
      : `Verified at ${verified_at}.`,
  );
