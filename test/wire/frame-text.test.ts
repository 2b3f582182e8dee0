import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_TEXT_SIZE_MAX } from "../../src/limits.ts";
import { Message } from "../../src/wire/frame.ts";
import { readFrame, writeFrame } from "../../src/wire/frame-text.ts";

const about = {
  v: 1,
  type: "message",
  from: "did:mesh:alice",
  to: 'did:mesh:"bob"',
  id: "m-1",
  header: { dh: "A", pn: 1, n: 2 },
};
const LONG = 3 * FRAME_TEXT_SIZE_MAX;

/** The text of a message whose ciphertext is written as it is given. */
const textOf = (ciphertext: string, frame: object = about) => Buffer.from(JSON.stringify({ ...frame, ciphertext }));

describe("the text of a frame with a ciphertext", () => {
  it("is JSON that holds it as base64, whatever its size, and comes back", () => {
    const sizes = fc.oneof(fc.nat(100), fc.integer({ min: FRAME_TEXT_SIZE_MAX - 3, max: LONG + 3 }));
    fc.assert(
      fc.property(sizes, (size) => {
        const ciphertext = new Uint8Array(randomBytes(size));
        const text = writeFrame({ ...about, ciphertext });
        const base64 = Buffer.from(ciphertext).toString("base64");
        expect(JSON.parse(text.toString())).toEqual({ ...about, ciphertext: base64 });
        const read = readFrame(text);
        expect(read).toMatchObject(about);
        const { ciphertext: found } = read as { readonly ciphertext: string | Uint8Array };
        expect(typeof found === "string" ? found : Buffer.from(found).toString("base64")).toBe(base64);
      }),
    );
  });

  it("is read without a string of its size when it is long", () => {
    const ciphertext = randomBytes(LONG);
    expect(readFrame(textOf(ciphertext.toString("base64")))).toMatchObject({ ciphertext: expect.any(Uint8Array) });
  });

  const whole = randomBytes(LONG).toString("base64");
  it.each([
    ["a blank in it", `${whole.slice(0, 40)} ${whole.slice(41)}`],
    ["a letter of the other alphabet", `-${whole.slice(1)}`],
    ["a letter that no alphabet has", `é${whole.slice(1)}`],
    ["padding in the middle", `${whole.slice(0, 30_000)}====${whole.slice(30_004)}`],
    ["a letter too few", whole.slice(1)],
    ["stray bits at its end", `${whole.slice(0, -4)}AB==`],
    ["an escape in it", `${whole.slice(0, 40_000)}\n${whole}`],
  ])("is left to whoever decodes it when it has %s", (_, ciphertext) => {
    expect(readFrame(textOf(ciphertext))).toEqual({ ...about, ciphertext });
  });

  it("is only that of the message itself", () => {
    const inner = { ciphertext: whole };
    for (const frame of [
      { ...about, more: inner },
      { ...about, more: inner, ciphertext: "AAAA" },
      { ...about, type: "knock", ciphertext: whole },
      [{ ...about, ciphertext: whole }],
      { ...about, note: `"ciphertext":"${whole}"` },
    ])
      expect(readFrame(Buffer.from(JSON.stringify(frame)))).toEqual(frame);
  });

  it("is none when it is no JSON", () => {
    const text = textOf(whole).toString();
    for (const broken of [text.slice(0, -1), text.slice(1), text.replace('"}', ""), `${text}x`])
      expect(readFrame(Buffer.from(broken))).toBeUndefined();
  });

  it("may be bytes for whoever takes a message", () => {
    const shape = Message.shape.ciphertext;
    expect(shape.safeParse(new Uint8Array(3)).success).toBe(true);
    expect(shape.safeParse("AAAA").success).toBe(true);
    expect(shape.safeParse({ length: 3 }).success).toBe(false);
  });
});
