import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type TestContext, test } from "node:test";
import { z } from "zod";
import { openMesh } from "../../src/actors/mesh.ts";
import { freePort, openOpenClaw, startCluster, temporaryFolder } from "./openclaw.ts";

// The real agent loop: a model of the test's own asks for tools, and sees what they answer.

const Request = z.object({
  tools: z.array(z.object({ function: z.object({ name: z.string() }) })).optional(),
  messages: z.array(z.object({ role: z.string(), content: z.unknown() })),
});

interface ToolCall {
  readonly name: string;
  readonly arguments: object;
}

/** Asks once for these tools, then ends; keeps every request. */
async function startModel(context: TestContext, port: number, calls: () => readonly ToolCall[]) {
  const requests: z.infer<typeof Request>[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const parsed = Request.parse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
    requests.push(parsed);
    const isAnswered = parsed.messages.some(({ role }) => role === "tool");
    const delta = isAnswered
      ? { role: "assistant", content: "All done." }
      : {
          role: "assistant",
          tool_calls: calls().map((call, index) => ({
            index,
            id: `call_${index}`,
            type: "function",
            function: { name: call.name, arguments: JSON.stringify(call.arguments) },
          })),
        };
    const chunk = (choice: object) =>
      `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, ...choice }] })}\n\n`;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk({ delta, finish_reason: null }));
    response.write(chunk({ delta: {}, finish_reason: isAnswered ? "stop" : "tool_calls" }));
    response.end("data: [DONE]\n\n");
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { requests };
}

const modelConfig = (port: number) => ({
  models: {
    providers: {
      fake: {
        baseUrl: `http://127.0.0.1:${port}/v1`,
        apiKey: "none",
        api: "openai-completions",
        models: [
          {
            id: "m",
            name: "m",
            reasoning: false,
            input: ["text"],
            cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
            contextWindow: 128_000,
            maxTokens: 4096,
          },
        ],
      },
    },
  },
  agents: { defaults: { model: { primary: "fake/m" }, skipBootstrap: true } },
});

test("a model reaches the mesh from a one-shot run, which ends, and from a gateway", async (context) => {
  const port = await freePort();
  const { token } = await startCluster(context);
  const openclaw = await openOpenClaw(context, modelConfig(port));
  const alice = await openMesh({ home: openclaw.home });
  await alice.call("pair", { token: await token("alice-laptop"), name: "alice" });
  await alice.close();
  const bob = await openMesh({ home: await temporaryFolder(context) });
  context.after(() => bob.close());
  await bob.call("pair", { token: await token("bob-laptop"), name: "bob" });

  let calls: ToolCall[] = [];
  const { requests } = await startModel(context, port, () => calls);
  const ask = async (where: readonly string[], ...wanted: ToolCall[]) => {
    calls = wanted;
    requests.length = 0;
    const session = `agent:main:${wanted.map(({ name }) => name).join("-")}`;
    const { code, stdout, stderr } = await openclaw.run([
      "agent",
      ...where,
      "--session-key",
      session,
      "--message",
      "go",
    ]);
    assert.equal(code, 0, `${stdout}\n${stderr}`);
    const last = requests.at(-1);
    return (last?.messages ?? []).filter(({ role }) => role === "tool").map(({ content }) => JSON.stringify(content));
  };

  const answers = await ask(["--local"], { name: "mesh_send", arguments: { recipient: "bob", text: "from the loop" } });
  assert.match(answers.join(), /It is sent\./);
  assert.ok(requests[0]?.tools?.some((tool) => tool.function.name === "cloud_offload"));
  assert.match(JSON.stringify(requests[0]?.messages), /mesh-federation/);
  const { messages } = await bob.call("await", { from: ["alice"], timeout_ms: 20_000 });
  assert.equal(messages[0]?.body, "from the loop");

  await bob.call("send", { to: "alice", message: "to the loop" });
  const gateway = await openclaw.gateway();
  const read = await ask(
    [],
    { name: "mesh_await", arguments: { sender: "bob", timeout: "20" } },
    { name: "mesh_send", arguments: { to: "bob" } },
  );
  assert.match(read.join(), /to the loop/);
  assert.match(read.join(), /message/);
  await gateway.stop();
});
