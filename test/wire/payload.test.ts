/** What of a peer's words is acted on, and what a person or a model reads of the rest: all of it. */
import { describe, expect, it } from "vitest";
import { contentOf, textOf } from "../../src/wire/content.ts";
import { isChat, parsePayload } from "../../src/wire/payload.ts";

const utf8 = (text: string) => new Uint8Array(Buffer.from(text, "utf8"));
const shown = (text: string) => contentOf(text);
const inbox = (content: string) => ({ type: "message", content });

describe("text that is shown as it came", () => {
  const WHOLE: readonly (readonly [string, string])[] = [
    ["text that is no JSON", "Good morning, and <b>hello</b>"],
    ["JSON that was cut off", '{"type":"message","content":"half'],
    ["a list", '["a", 1, null]'],
    ["an empty list", "[]"],
    ["a number", "42"],
    ["a number that no double holds", "123456789012345678901234567890"],
    ["null", "null"],
    ["true", "true"],
    ["an empty object", "{}"],
    ["an object without a type", '{"message":"hi","task":"look"}'],
    ["a type that is no text", '{"type":7,"content":"x"}'],
    ["a type that nobody knows", '{"type":"poem","lines":["a","b"]}'],
    ["a type of a later protocol", '{"type":"mesh:typing","who":"bob"}'],
    ["a handoff", '{"type":"handoff_request","mode":"cloud"}'],
    ["progress of a deployed agent", '{"type":"task_progress","stage":"executing","tick":3}'],
    ["content that is an object", '{"type":"message","content":{"a":[1,2]}}'],
    ["content that is a list", '{"type":"task_request","content":[{"type":"text","text":"x"}]}'],
    ["content that is null", '{"type":"message","content":null}'],
    ["content that is a number", '{"type":"message","content":1e400}'],
    ["a message without content", '{"type":"message","text":"in another field"}'],
    ["a request without content", '{"type":"task_request","from_agent":"a"}'],
    ["a further field beside the content", '{"type":"message","content":"see","attachments":["a.png"]}'],
    ["a name that comes twice", '{"type":"message","content":"first","content":"second"}'],
    ["a sender's name that is too long", `{"type":"task_request","content":"x","from_agent":"${"a".repeat(201)}"}`],
    ["known work in another form", '{"type":"offload_status","phase":"ready"}'],
    ["a file without its bytes", '{"type":"file_transfer","file_name":"a","file_data":"<base64>","size_bytes":3}'],
    ["bytes that are no base64", '{"raw_b64":"not base64!"}'],
    ["bytes among other things", '{"raw_b64":"AAEC","name":"x"}'],
    ["bytes that are no text at all", '{"raw_b64":5}'],
    ["a name of JavaScript's own", '{"__proto__":{"type":"message"},"content":"x"}'],
    ["space around it", '  {"a": 1}\n'],
    ["deep nesting", `${"[".repeat(100_000)}${"]".repeat(100_000)}`],
    ["deep nesting in a message", `{"type":"message","content":${"[".repeat(50_000)}${"]".repeat(50_000)}}`],
    ["control characters", "a\u0000b\u001b[31mred\u202e"],
  ];
  it.each(WHOLE)("%s", (_, text) => {
    expect(shown(text)).toEqual({ text });
    expect(isChat(parsePayload(text))).toBe(true);
  });

  it("however long it is", () => {
    const text = JSON.stringify({ type: "poem", lines: "x".repeat(3_000_000) });
    expect(parsePayload(text)).toEqual(inbox(text));
    const content = "y".repeat(3_000_000);
    expect(parsePayload(content)).toEqual(inbox(content));
    expect(shown(JSON.stringify(content))).toEqual({ text: content });
    expect(shown(JSON.stringify({ type: "message", content }))).toEqual({ text: content });
  });
});

describe("chat that is shown by its words", () => {
  const SAID: readonly (readonly [string, unknown, string])[] = [
    ["a message", { type: "message", content: "hi" }, "hi"],
    ["a JSON string", "hi\nthere", "hi\nthere"],
    ["an empty JSON string", "", ""],
    ["a message that says nothing", { type: "message", content: "" }, ""],
    ["a string that is JSON itself", '{"type":"offload_error"}', '{"type":"offload_error"}'],
    ["half a character", "\ud83d", "\ud83d"],
    [
      "a request with who sent it, when, and a signature",
      {
        type: "task_request",
        content: "look",
        from_agent: "a",
        timestamp: "now",
        __signature: "s",
        __sender_amid: "x",
        __signed_at: 1,
      },
      "look",
    ],
    ["a response", { type: "task_response", content: "done", in_reply_to: "1", timestamp: "now" }, "done"],
    ["quotation marks and backslashes", { type: "message", content: '\\"{:[,' }, '\\"{:[,'],
  ];
  it.each(SAID)("%s", (_, value, text) => {
    expect(shown(JSON.stringify(value))).toEqual({ text });
    // A byte order mark is no part of the JSON.
    expect(shown(`\ufeff${JSON.stringify(value)}`)).toEqual({ text });
  });

  it("may be JSON in a JSON string, as a Python sandbox sends it", () => {
    const wrapped = JSON.stringify(JSON.stringify({ type: "task_response", content: "done", from_agent: "hermes" }));
    expect(shown(wrapped)).toEqual({ text: "done" });
    expect(parsePayload(wrapped)).toMatchObject({ type: "task_response", content: "done" });
    const file = { type: "file_transfer", file_name: "a", file_data: "AAEC", size_bytes: 3 };
    expect(parsePayload(JSON.stringify(JSON.stringify(file)))).toEqual(file);
    // Once: what is said in a message's content is said to a person.
    const twice = JSON.stringify(wrapped);
    expect(parsePayload(twice)).toEqual(inbox(wrapped));
    const content = JSON.stringify(file);
    expect(parsePayload(JSON.stringify({ type: "message", content }))).toEqual(inbox(content));
  });

  it("says nothing where it says null", () => {
    const request = '{"type":"task_request","content":"x","from_agent":null}';
    expect(parsePayload(request)).toEqual({ type: "task_request", content: "x" });
  });
});

describe("bytes that are no text", () => {
  const BYTES = [
    ["the start of a PNG", [0x89, 0x50, 0x4e, 0x47]],
    ["a lone continuation", [0x61, 0x80]],
    ["half a surrogate pair", [0xed, 0xa0, 0x80]],
    ["what looks like a piece of a file", [0xfe, 0x00, 0x01, 0x02]],
    ["what looks deflated", [0xff, 0x00]],
    ["UTF-16", [0xff, 0xfe, 0x68, 0x00]],
  ] as const;
  it.each(BYTES)("are kept: %s", (_, bytes) => {
    const text = textOf(Uint8Array.from(bytes));
    const content = contentOf(text);
    expect("base64" in content && [...Buffer.from(content.base64, "base64")]).toEqual(bytes);
    expect(parsePayload(text)).toEqual(inbox(text));
  });

  it("are those of the envelope that the Python client makes", () => {
    expect(contentOf('{"raw_b64": "AAEC/w=="}')).toEqual({ base64: "AAEC/w==" });
    expect(contentOf('{"raw_b64": ""}')).toEqual({ base64: "" });
  });

  it("are not taken for what they are not: text stays text", () => {
    for (const text of ["", "héllo 😀", "\ufeffmarked"]) expect(textOf(utf8(text))).toBe(text);
  });
});

describe("work", () => {
  it("of deployed agents is understood where it says less or more than it should", () => {
    expect(parsePayload('{"type":"file_transfer_ack","file_name":"a","saved_to":"/x","size_bytes":3}')).toMatchObject({
      type: "file_transfer_ack",
      success: true,
    });
    const progress = { type: "offload_progress", request_id: "r", stage: "s".repeat(100), pct: 250 };
    expect(parsePayload(JSON.stringify(progress))).toMatchObject({ pct: 100, stage: "s".repeat(64) });
  });
});
