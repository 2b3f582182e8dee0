import { z } from "zod";
import { asMeshError } from "../../errors.ts";
import {
  ACKED_FRAMES_KEPT_MAX,
  FRAME_TEXT_SIZE_MAX,
  MAIL_SIZE_MAX,
  MAILBOX_AGE_MAX_MS,
  MAILBOX_FRAMES_MAX,
  MAILBOX_SIZE_MAX,
} from "../../limits.ts";
import type { Disk } from "../../store/disk.ts";
import { joinPath } from "../../store/disk.ts";
import type { Commit, Draft } from "../../store/journal.ts";
import type { FrameText } from "../../wire/frame-text.ts";
import type { Mail, Mailboxes, MailFeed, OpenOptions } from "../state.ts";
import { Generations, type Piece } from "./generations.ts";
import { Mailbox } from "./mailbox.ts";

// The relay's mail: what was routed to an agent and not yet acked by it. Every frame is on disk before anyone is told, and
// its text is kept in memory besides, so that delivering reads no file. What is kept is what the relay saw: ciphertext.

/** What a frame is counted as beyond its text, so that many small frames count too. */
const MAIL_OVERHEAD = 256;

const STREAM = "mail/";

const MailEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("PUT"), from: z.string(), id: z.string(), frame: z.string().optional() }),
  z.object({ type: z.literal("ACKED"), from: z.string(), id: z.string() }),
  /** It is about to be handed to a reader that must not get it twice. */
  z.object({ type: z.literal("NOTED"), from: z.string(), id: z.string() }),
  /** It was noted and did not arrive. */
  z.object({ type: z.literal("RELEASED"), from: z.string(), id: z.string() }),
]);
type MailEvent = z.infer<typeof MailEvent>;

export interface MailLimits {
  readonly frames: number;
  readonly bytes: number;
  readonly bytesOfAll: number;
}

export interface MailboxesOptions {
  readonly disk: Disk;
  /** The mail lies in its folder `mail`. */
  readonly directory: string;
  readonly now: () => number;
  readonly limits?: Partial<MailLimits>;
  /** Bytes of journal below which it is never rewritten. */
  readonly rewriteSizeMin?: number | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

export interface EmbeddedMailboxes extends Mailboxes {
  /** The durable frames of a mailbox after a position (0 is before all), in order. To be read at once. */
  from(to: string, afterPosition: number): Iterable<Mail>;
  /** As the feed's `ack`. */
  ack(to: string, id: string, from?: string): Mail | undefined;
  /** Removes what is older than 72 hours. */
  expire(now: number): void;
  /** Rewrites the journal when most of it no longer matters. */
  tidy(): Promise<void>;
  close(): Promise<void>;
}

const keyOf = (to: string, from: string, id: string) => `${to} ${from} ${id}`;
const sizeOf = (frame: FrameText) => Buffer.byteLength(frame) + MAIL_OVERHEAD;

/** Frames that were read from the disk are strings, however long. */
function textOf(event: MailEvent): FrameText | undefined {
  if (event.type !== "PUT" || event.frame === undefined) return undefined;
  return event.frame.length > FRAME_TEXT_SIZE_MAX ? Buffer.from(event.frame) : event.frame;
}

const aboutFrame = (to: string, type: "ACKED" | "NOTED" | "RELEASED", { from, id }: Pick<Mail, "from" | "id">) => ({
  stream: STREAM + to,
  event: { type, from, id },
});

function putting(to: string, from: string, id: string, frame: FrameText, at: number): Draft {
  const stream = STREAM + to;
  const event = { type: "PUT", from, id };
  if (typeof frame === "string") return { at, entries: [{ stream, event: { ...event, frame } }] };
  return { at, entries: [{ stream, event, long: { field: "frame", text: frame } }] };
}

/** Opens the mail of a directory, beginning it when there is none. @throws MeshError `store_damaged` */
export async function openMailboxes(options: MailboxesOptions): Promise<EmbeddedMailboxes> {
  const { disk, directory, now, log } = options;
  const limits: MailLimits = {
    frames: MAILBOX_FRAMES_MAX,
    bytes: MAILBOX_SIZE_MAX,
    bytesOfAll: MAIL_SIZE_MAX,
    ...options.limits,
  };
  const mailboxes = new Map<string, Mailbox>();
  /** Whom to tell of mail that has come, by recipient. */
  const readers = new Map<string, () => void>();
  /** Puts that are not durable yet, by key. */
  const pending = new Map<string, Promise<unknown>>();
  /** When a frame was acked, by key, oldest first. */
  const handled = new Map<
    string,
    { readonly to: string; readonly from: string; readonly id: string; readonly at: number }
  >();
  /** Frames that an earlier process had noted when it died. */
  const orphaned = new Set<Mail>();
  /** Frames whose last note was not followed by an ack or a release. */
  const noted = new Set<Mail>();
  let position = 0;
  let bytesOfAll = 0;

  function mailboxOf(to: string): Mailbox {
    const found = mailboxes.get(to);
    if (found) return found;
    const made = new Mailbox();
    mailboxes.set(to, made);
    return made;
  }

  function dropIfEmpty(to: string, mailbox: Mailbox): void {
    if (mailbox.isEmpty) mailboxes.delete(to);
  }

  function remember(to: string, from: string, id: string, at: number): void {
    const key = keyOf(to, from, id);
    handled.delete(key);
    handled.set(key, { to, from, id, at });
    const oldest = handled.size > ACKED_FRAMES_KEPT_MAX ? handled.keys().next().value : undefined;
    if (oldest !== undefined) handled.delete(oldest);
  }

  function remove(to: string, mailbox: Mailbox, mail: Mail): void {
    bytesOfAll -= mail.size;
    noted.delete(mail);
    orphaned.delete(mail);
    mailbox.remove(mail);
    dropIfEmpty(to, mailbox);
  }

  function fold(to: string, event: MailEvent, at: number, text: FrameText | undefined): void {
    if (event.type === "PUT") {
      if (text === undefined) return;
      const size = sizeOf(text);
      mailboxOf(to).add({ position: ++position, from: event.from, id: event.id, text, size, at });
      bytesOfAll += size;
      readers.get(to)?.();
      return;
    }
    const mailbox = mailboxes.get(to);
    const mail = mailbox?.find(event.id, event.from);
    if (event.type === "NOTED") {
      if (mail) noted.add(mail);
      return;
    }
    if (event.type === "RELEASED") {
      if (mail) noted.delete(mail);
      return;
    }
    if (mailbox && mail) remove(to, mailbox, mail);
    remember(to, event.from, event.id, at);
  }

  function onCommit(commit: Commit): void {
    for (const { stream, event, long } of commit.entries) {
      const { data } = MailEvent.safeParse(event);
      // An event that this version does not know is a later version's: it says nothing about the mail of this one.
      if (!data || !stream.startsWith(STREAM)) continue;
      fold(stream.slice(STREAM.length), data, commit.at, long?.text ?? textOf(data));
    }
  }

  function* pieces(): Generator<Piece> {
    for (const { to, from, id, at } of handled.values()) {
      yield {
        draft: { at, entries: [aboutFrame(to, "ACKED", { from, id })] },
        size: MAIL_OVERHEAD,
      };
    }
    for (const [to, mailbox] of mailboxes) {
      for (const mail of mailbox.after(0)) {
        const { from, id, text, at, size } = mail;
        yield { draft: putting(to, from, id, text, at), size };
        if (noted.has(mail)) yield { draft: { at, entries: [aboutFrame(to, "NOTED", mail)] }, size: MAIL_OVERHEAD };
      }
    }
  }

  function expire(now: number): void {
    const oldest = now - MAILBOX_AGE_MAX_MS;
    for (const [key, { at }] of handled) {
      if (at >= oldest) break;
      handled.delete(key);
    }
    for (const [to, mailbox] of mailboxes) {
      for (const mail of mailbox.after(0)) {
        if (mail.at >= oldest) break;
        remove(to, mailbox, mail);
      }
    }
  }

  const generations = await Generations.open({
    disk,
    directory: joinPath(directory, "mail"),
    onCommit,
    pieces,
    liveSize: () => bytesOfAll + handled.size * MAIL_OVERHEAD,
    rewriteSizeMin: options.rewriteSizeMin,
    log,
  });
  for (const mail of noted) orphaned.add(mail);
  expire(now());

  async function store(to: string, from: string, id: string, frame: FrameText): Promise<"stored"> {
    const mailbox = mailboxOf(to);
    const size = sizeOf(frame);
    const key = keyOf(to, from, id);
    mailbox.reserve(size);
    bytesOfAll += size;
    try {
      const durable = generations.append(putting(to, from, id, frame, now()));
      pending.set(key, durable);
      await durable;
      return "stored";
    } finally {
      pending.delete(key);
      bytesOfAll -= size;
      mailbox.release(size);
      dropIfEmpty(to, mailbox);
    }
  }

  function* after(to: string, position: number): Generator<Mail> {
    yield* mailboxes.get(to)?.after(position) ?? [];
  }

  function ack(to: string, id: string, from?: string): Mail | undefined {
    const mailbox = mailboxes.get(to);
    const mail = mailbox?.find(id, from);
    if (!mailbox || !mail) return undefined;
    remove(to, mailbox, mail);
    remember(to, mail.from, id, now());
    generations.append({ at: now(), entries: [aboutFrame(to, "ACKED", mail)] }).catch((error) => {
      // A lost ack costs a redelivery, which the recipient knows by its id.
      log?.(`mail: an ack could not be written: ${asMeshError(error).message}`);
    });
    return mail;
  }

  /** Removes what an earlier process may have handed over. Gives how many frames those were. */
  function dropOrphans(to: string): number {
    const dropped = [...after(to, 0)].filter((mail) => orphaned.has(mail));
    for (const { id, from } of dropped) ack(to, id, from);
    return dropped.length;
  }

  function release(to: string, frames: readonly Mail[]): void {
    const left = frames.filter((mail) => mailboxes.get(to)?.find(mail.id, mail.from) === mail);
    if (left.length === 0) return;
    generations.append({ at: now(), entries: left.map((mail) => aboutFrame(to, "RELEASED", mail)) }).catch((error) => {
      // They are given again all the same, unless this process dies.
      log?.(`mail: a release could not be written: ${asMeshError(error).message}`);
    });
  }

  function open(to: string, onMail: () => void, { givesOnce = false }: OpenOptions): MailFeed {
    let given = 0;
    /** What this feed noted and nobody acked. */
    const own = new Set<Mail>();
    const doubted = givesOnce && orphaned.size > 0 ? dropOrphans(to) : 0;
    readers.set(to, onMail);
    return {
      pending: after(to, 0).reduce((count) => count + 1, 0),
      doubted,
      next() {
        const mail = mailboxes.get(to)?.first(given);
        if (mail) given = mail.position;
        return mail;
      },
      ack(id, from) {
        const mail = ack(to, id, from);
        if (mail) own.delete(mail);
      },
      async note(frames) {
        for (const mail of frames) own.add(mail);
        await generations.append({ at: now(), entries: frames.map((mail) => aboutFrame(to, "NOTED", mail)) });
      },
      release() {
        release(to, [...own]);
        own.clear();
      },
      close: async () => {
        if (readers.get(to) === onMail) readers.delete(to);
      },
    };
  }

  return {
    async put(to, from, id, frame) {
      const key = keyOf(to, from, id);
      const underway = pending.get(key);
      if (underway) {
        await underway;
        return "duplicate";
      }
      const mailbox = mailboxes.get(to);
      if (handled.has(key) || mailbox?.find(id, from)) return "duplicate";
      const size = sizeOf(frame);
      const isFull =
        bytesOfAll + size > limits.bytesOfAll ||
        (mailbox?.bytes ?? 0) + size > limits.bytes ||
        (mailbox?.frames ?? 0) >= limits.frames;
      return isFull ? "full" : store(to, from, id, frame);
    },
    open: async (to, onMail, options = {}) => open(to, onMail, options),
    from: after,
    ack,
    expire,
    tidy: () => generations.rewrite(),
    close: () => generations.close(),
  };
}
