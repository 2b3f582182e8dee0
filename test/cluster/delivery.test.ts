import { expect, test } from "vitest";
import { Delivery, type Outlet } from "../../src/cluster/delivery.ts";
import { Mailbox } from "../../src/cluster/embedded/mailbox.ts";
import type { Mail, MailFeed } from "../../src/cluster/state.ts";
import { SEND_BUFFER_SIZE_MAX } from "../../src/limits.ts";

/** A socket that takes bytes out of its buffer only when it is told to. */
class SlowSocket implements Outlet {
  readonly OPEN = 1;
  readyState = 1;
  readonly sent: string[] = [];
  #buffer: { text: string; flushed: () => void }[] = [];
  get bufferedAmount(): number {
    return this.#buffer.reduce((sum, { text }) => sum + text.length, 0);
  }
  send(text: string, flushed: (error?: Error | null) => void): void {
    this.sent.push(text);
    this.#buffer.push({ text, flushed });
  }
  drain(): void {
    for (const { flushed } of this.#buffer.splice(0)) flushed();
  }
}

const mail = (position: number, text: string): Mail => ({
  position,
  from: "a",
  id: String(position),
  text,
  size: text.length,
  at: 0,
});

/** A reader's way through a mailbox, as the embedded mail gives it. */
function feedOf(mailbox: Mailbox): MailFeed {
  let given = 0;
  return {
    pending: 0,
    doubted: 0,
    next() {
      const mail = mailbox.first(given);
      if (mail) given = mail.position;
      return mail;
    },
    ack: () => undefined,
    note: async () => undefined,
    release: () => undefined,
    close: async () => undefined,
  };
}

test("a socket's buffer stays bounded, and delivery goes on in order when it drains", () => {
  const mailbox = new Mailbox();
  const texts = Array.from({ length: 64 }, (_, n) => String.fromCharCode(65 + n).repeat(1024 * 1024));
  const socket = new SlowSocket();
  const delivery = new Delivery(socket, feedOf(mailbox));
  let most = 0;
  for (const [index, text] of texts.entries()) {
    mailbox.add(mail(index + 1, text));
    delivery.pump();
    most = Math.max(most, socket.bufferedAmount);
  }
  expect(socket.sent.length).toBeLessThan(texts.length);
  while (socket.bufferedAmount > 0) {
    socket.drain();
    most = Math.max(most, socket.bufferedAmount);
  }
  expect(most).toBeLessThanOrEqual(SEND_BUFFER_SIZE_MAX + 1024 * 1024);
  expect(socket.sent).toEqual(texts);
});

test("what was removed while it waited is not sent", () => {
  const mailbox = new Mailbox();
  const socket = new SlowSocket();
  const delivery = new Delivery(socket, feedOf(mailbox));
  for (const position of [1, 2, 3]) mailbox.add(mail(position, String(position).repeat(SEND_BUFFER_SIZE_MAX)));
  delivery.pump();
  const second = mailbox.find("2");
  if (second) mailbox.remove(second);
  while (socket.bufferedAmount > 0) socket.drain();
  expect(socket.sent.map((text) => text[0])).toEqual(["1", "3"]);
});

test("nothing is sent to a socket that is closing", () => {
  const mailbox = new Mailbox();
  const socket = new SlowSocket();
  mailbox.add(mail(1, "a"));
  socket.readyState = 2;
  new Delivery(socket, feedOf(mailbox)).pump();
  expect(socket.sent).toEqual([]);
});
