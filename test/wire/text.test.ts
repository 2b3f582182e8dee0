/** The small shapes that the schemas are made of, and what people type. */
import { describe, expect, it } from "vitest";
import { asAddress, asShellWord } from "../../src/wire/text.ts";

const id = "0123456789abcdef0123456789abcdef";

describe("an address", () => {
  it.each([`did:mesh:${id}`, `did:agentmesh:${id}`, `  did:mesh:${id}\n`, `DID:AgentMesh:${id.toUpperCase()}`])(
    "%j is a DID as a person may write it",
    (typed) => expect(asAddress(typed)).toBe(`did:mesh:${id}`),
  );

  it.each(["", "alice", "Alice", id, `did:web:${id}`, `did:mesh:${id}0`, `did:mesh:${id.slice(1)}`, `did:mesh: ${id}`])(
    "%j is none, and stays what it is",
    (typed) => expect(asAddress(typed)).toBe(typed),
  );

  it("that is a name loses the blanks around it", () => expect(asAddress(" bob\n")).toBe("bob"));
});

describe("an id in a command", () => {
  it.each([
    [id, id],
    ["a.b:c/d", "a.b:c/d"],
    ["$(x)", "'$(x)'"],
    ["it's;x", "'it'\\''s;x'"],
    ["`x`", "'`x`'"],
  ])("%j is the word %s", (given, word) => expect(asShellWord(given)).toBe(word));
});
