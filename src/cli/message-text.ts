import type { InboxMessage } from "../actors/inbox.ts";
import { WORDS_PAGE_MAX } from "../actors/limits.ts";
import type { Mesh } from "../actors/mesh.ts";
import { MeshError } from "../errors.ts";
import { asShellWord } from "../wire/text.ts";
import { writeNewFile } from "./new-file.ts";
import { age, block, line, styled, time } from "./output.ts";

// Messages as a person sees them. A long message comes in parts from the process that owns the home; this file joins them.

/** Remarks for the reader of a message: its note, and the command that shows the rest of it or saves its bytes. */
export function remarksOn({ id, body, note, bytes, offset = 0, length }: InboxMessage): string[] {
  const command = `kars-mesh inbox --id ${asShellWord(id)}`;
  const end = offset + body.length;
  const remarks = [
    note,
    bytes === undefined ? undefined : `Write the bytes to a file: ${command} --save <file>`,
    bytes === undefined && length !== undefined && end < length
      ? `${length - end} of ${length} characters are left out here. See all: ${command}`
      : undefined,
  ];
  return remarks.filter((remark) => remark !== undefined);
}

const fromLine = ({ name, from, at, read }: InboxMessage): string => {
  const sender = styled("bold", line(name));
  const did = name === from ? "" : `  ${styled("dim", from)}`;
  return `${sender}${did}  ${time(at)} (${age(at)})${read ? "" : `  ${styled("green", "new")}`}`;
};

const showOne = (message: InboxMessage): string =>
  [
    fromLine(message),
    message.body === "" ? `  ${styled("dim", "(empty)")}` : block(message.body),
    ...remarksOn(message).map((remark) => `  ${styled("dim", remark)}`),
  ].join("\n");

export const showMessages = (messages: readonly InboxMessage[]): string => messages.map(showOne).join("\n\n");

/** The whole message, if the answer holds only a part of it. */
export async function wholeOf(mesh: Mesh, message: InboxMessage, signal: AbortSignal): Promise<InboxMessage> {
  const { offset, length, ...whole } = message;
  if (length === undefined) return message;
  const words = (part: InboxMessage) => part.raw_b64 ?? part.body;
  const parts = [words(message)];
  let end = words(message).length;
  while (end < length) {
    const { messages } = await mesh.call(
      "inbox",
      { from: message.from, id: message.id, offset: end, characters: WORDS_PAGE_MAX },
      { signal },
    );
    const [part] = messages;
    // The conversation may have been forgotten meanwhile.
    if (!part || part.length !== length || words(part) === "") throw new MeshError("message_unknown");
    parts.push(words(part));
    end += words(part).length;
  }
  const joined = parts.join("");
  return message.raw_b64 === undefined ? { ...whole, body: joined } : { ...whole, raw_b64: joined };
}

/** Writes the text or the bytes of a message to a new file. Returns the file's size. @throws MeshError `input_invalid` */
export async function saveMessage({ body, raw_b64 }: InboxMessage, path: string): Promise<number> {
  const content = raw_b64 === undefined ? Buffer.from(body, "utf8") : Buffer.from(raw_b64, "base64");
  await writeNewFile(path, content, "--save");
  return content.length;
}
