import { expect, it } from "vitest";
import { mainSession, originOf, parseOrigin } from "../../src/plugin/origin.ts";

it("a session comes back as it was written down, with its agent and its chat", () => {
  const deliveryContext = { channel: "telegram", to: "4711", accountId: "bot", threadId: 7 };
  const text = originOf({ sessionKey: "agent:a:b", agentId: "a", deliveryContext });
  expect(parseOrigin(text ?? null)).toEqual({ session: "agent:a:b", agent: "a", chat: deliveryContext });
  expect(parseOrigin(originOf({ sessionKey: "agent:a:b" }) ?? null)).toEqual({ session: "agent:a:b" });
});

it("none is written down where there is none, and none is read from what is none", () => {
  expect(originOf({})).toBeUndefined();
  expect(originOf({ sessionKey: "" })).toBeUndefined();
  for (const text of [null, "", "words", "[]", '{"session":""}', '{"session":1}']) expect(parseOrigin(text)).toBeNull();
});

it.each([
  ["nothing is configured", undefined, { session: "agent:main:main", agent: "main" }],
  ["something else stands there", { agents: 7, session: [] }, { session: "agent:main:main", agent: "main" }],
  [
    "agents are listed",
    { agents: { list: [{ id: "a" }, { id: "b", default: true }] } },
    { session: "agent:b:main", agent: "b" },
  ],
  [
    "none of them is the default",
    { agents: { list: [{ id: "a" }, { id: "b" }] } },
    { session: "agent:a:main", agent: "a" },
  ],
  [
    "agents are entries",
    { agents: { entries: { a: {}, b: { default: true, id: "x" } } } },
    { session: "agent:b:main", agent: "b" },
  ],
  ["the main session has a name", { session: { mainKey: "home" } }, { session: "agent:main:home", agent: "main" }],
  ["all chats are one session", { session: { scope: "global" } }, { session: "global", agent: "main" }],
])("the main session where %s", (_, config, expected) => {
  expect(mainSession(config)).toEqual(expected);
});
