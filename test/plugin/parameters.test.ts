import { describe, expect, it } from "vitest";
import { MeshError } from "../../src/errors.ts";
import { FILES_MAX, MESSAGE_SIZE_MAX } from "../../src/limits.ts";
import {
  CloudOffloadParameters,
  DiscoverParameters,
  MeshAwaitParameters,
  MeshInboxParameters,
  MeshPairParameters,
  MeshSendParameters,
  OffloadCancelParameters,
  OffloadStatusParameters,
  type ToolParameters,
} from "../../src/wire/tool.ts";

const refusal = (parameters: ToolParameters<unknown>, raw: unknown): string => {
  try {
    parameters.parse(raw);
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError);
    expect(error).toMatchObject({ code: "input_invalid" });
    return error instanceof Error ? error.message : "";
  }
  throw new Error("it was accepted");
};

type Case = [
  parameters: ToolParameters<unknown>,
  name: string,
  value: unknown,
  parsed: object,
  others?: Readonly<Record<string, unknown>>,
];

describe("names that mean the same", () => {
  it.each([
    ...["task", "prompt", "description", "instructions", "Task"].map(
      (name) => [CloudOffloadParameters, name, "x", { task: "x" }] as Case,
    ),
    ...["to", "target", "recipient", "agent", "peer", "sandbox"].map(
      (name) => [MeshSendParameters, name, "bob", { to: "bob", message: "m" }, { message: "m" }] as Case,
    ),
    ...["message", "text", "content", "body"].map(
      (name) => [MeshSendParameters, name, "m", { to: "bob", message: "m" }, { to: "bob" }] as Case,
    ),
    ...["from", "sender", "senders", "agents"].map(
      (name) => [MeshAwaitParameters, name, "bob", { from: ["bob"], timeout_seconds: 60 }] as Case,
    ),
    ...["id", "offload_id", "offloadId", "offload-id"].map(
      (name) => [OffloadCancelParameters, name, "o1", { offload_id: "o1" }] as Case,
    ),
    ...["files", "file", "attachments", "paths"].map(
      (name) => [CloudOffloadParameters, name, "a, b.txt", { task: "t", files: ["a, b.txt"] }, { task: "t" }] as Case,
    ),
    ...["timeout", "timeout_seconds", "wait_seconds", "timeoutSeconds"].map(
      (name) => [MeshAwaitParameters, name, "5", { from: ["bob"], timeout_seconds: 5 }, { from: "bob" }] as Case,
    ),
    ...["timeout", "timeout_seconds", "wait_seconds"].map(
      (name) =>
        [
          OffloadStatusParameters,
          name,
          5,
          { offload_id: "o", wait_seconds: 5, until_done: false },
          { id: "o" },
        ] as Case,
    ),
  ])("%# %o takes %s", (parameters, name, value, parsed, others = {}) => {
    expect(parameters.parse({ ...others, [name]: value })).toEqual(parsed);
  });

  it("takes milliseconds for what they are", () => {
    expect(MeshAwaitParameters.parse({ from: "bob", timeoutMs: "1500" })).toEqual({
      from: ["bob"],
      timeout_seconds: 1.5,
    });
    expect(CloudOffloadParameters.parse({ task: "t", timeout_seconds: 600 })).toEqual({
      task: "t",
      timeout_minutes: 10,
    });
  });

  it("prefers a field's own name over its use as another's alias", () => {
    expect(DiscoverParameters.parse({ name: "bob", capability: "gpu" })).toEqual({ name: "bob", capability: "gpu" });
    expect(OffloadStatusParameters.parse({ offload_id: "a", wait_seconds: 1 })).toMatchObject({ wait_seconds: 1 });
  });

  it("refuses two names that contradict each other, and takes two that agree", () => {
    expect(refusal(CloudOffloadParameters, { task: "a", prompt: "b" })).toContain("task and prompt contradict");
    expect(CloudOffloadParameters.parse({ task: "a", prompt: "a" })).toEqual({ task: "a" });
  });

  it("is what prepareArguments turns them into", () => {
    const prepared = MeshSendParameters.prepare({ recipient: "bob", body: "hi", stray: 1 });
    expect(prepared).toEqual({ to: "bob", message: "hi" });
    expect(MeshSendParameters.parse(prepared)).toEqual(prepared);
  });
});

describe("forms that mean the same", () => {
  it("takes one text for a list of one, a list in JSON, and senders between commas", () => {
    expect(MeshAwaitParameters.parse({ from: '["a","b"]' }).from).toEqual(["a", "b"]);
    expect(MeshAwaitParameters.parse({ from: "a, b" }).from).toEqual(["a", "b"]);
    expect(CloudOffloadParameters.parse({ task: "t", files: '["x y"]' }).files).toEqual(["x y"]);
    expect(CloudOffloadParameters.parse({ task: "t", files: "[draft].txt" }).files).toEqual(["[draft].txt"]);
  });

  it("takes numbers and flags that are texts, and null or an empty text as nothing said", () => {
    expect(MeshInboxParameters.parse({ limit: "10", all: "true", mark_read: "false", from: null })).toEqual({
      limit: 10,
      all: true,
      mark_read: false,
    });
    expect(MeshPairParameters.parse({ token: "kars-pair-x", name: "" })).toEqual({ token: "kars-pair-x" });
    expect(MeshInboxParameters.parse(undefined)).toEqual({ limit: 50, all: false, mark_read: true });
  });
});

describe("what is refused", () => {
  it("names the field and what is allowed", () => {
    expect(refusal(MeshSendParameters, { to: "bob" })).toMatch(/^message: is required\. message is The text/);
    expect(refusal(MeshAwaitParameters, { from: "bob", timeout: 601 })).toMatch(/^timeout_seconds: .*600/);
    expect(refusal(MeshInboxParameters, { limit: "many" })).toMatch(/^limit: .*1 to 200/);
    expect(refusal(CloudOffloadParameters, { task: "t", files: ["a", 7] })).toMatch(/^files\.1: .*list of at most 64/);
    expect(refusal(MeshPairParameters, { token: "t", name: "no spaces" })).toMatch(/^name: a name is letters/);
    expect(refusal(MeshSendParameters, ["bob", "hi"])).toContain("An object is expected, with to, message");
  });

  it("is whatever exceeds a bound", () => {
    refusal(MeshSendParameters, { to: "bob", message: "x".repeat(MESSAGE_SIZE_MAX + 1) });
    refusal(MeshSendParameters, { to: "bob", message: " \n" });
    refusal(MeshAwaitParameters, { from: Array.from({ length: 33 }, (_, index) => `a${index}`) });
    refusal(CloudOffloadParameters, { task: "t", files: Array.from({ length: FILES_MAX + 1 }, () => "f") });
    refusal(CloudOffloadParameters, { task: "t", timeout_minutes: 0 });
    refusal(OffloadCancelParameters, { offload_id: "two words" });
  });
});
