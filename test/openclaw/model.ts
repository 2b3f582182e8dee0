import { once } from "node:events";
import { createServer } from "node:http";
import type { TestContext } from "node:test";
import { z } from "zod";
import { type Extra, freePort } from "./openclaw.ts";

// A model of the tests' own, as OpenClaw talks to one: it asks for tools, and sees what they answer.

const Request = z.object({
  tools: z.array(z.object({ function: z.object({ name: z.string(), description: z.string().optional() }) })).optional(),
  messages: z.array(z.object({ role: z.string(), content: z.unknown() })),
});
export type ModelRequest = z.infer<typeof Request>;

export interface ToolCall {
  readonly name: string;
  readonly arguments: object;
}

/** What the model says to a request: words, or the tools that it wants. */
export type Answer = (request: ModelRequest) => string | readonly ToolCall[];

export interface Model {
  /** OpenClaw's configuration for it. */
  readonly config: Extra;
  /** Every request so far. */
  readonly requests: ModelRequest[];
  answer: Answer;
  /** The first request of which this holds, among those that came and those that come. */
  asked(isIt: (request: ModelRequest) => boolean): Promise<ModelRequest>;
}

/** The results of tools among the messages of a request, as text. */
export const toolResults = ({ messages }: ModelRequest): string[] =>
  messages.filter(({ role }) => role === "tool").map(({ content }) => JSON.stringify(content));

/** What a request offers. */
export const offered = ({ tools = [] }: ModelRequest): string[] => tools.map((tool) => tool.function.name);

/** Asks for these tools, and ends with words when it has seen what any tool answered. */
export const callOnce =
  (...calls: readonly ToolCall[]): Answer =>
  (request) =>
    toolResults(request).length > 0 ? "All done." : calls;

export async function startModel(context: TestContext): Promise<Model> {
  const port = await freePort();
  const requests: ModelRequest[] = [];
  const looking = new Set<() => void>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const parsed = Request.parse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
    requests.push(parsed);
    for (const look of looking) look();
    const answer = model.answer(parsed);
    const isText = typeof answer === "string";
    const delta = isText
      ? { role: "assistant", content: answer }
      : {
          role: "assistant",
          tool_calls: answer.map((call, index) => ({
            index,
            id: `call_${requests.length}_${index}`,
            type: "function",
            function: { name: call.name, arguments: JSON.stringify(call.arguments) },
          })),
        };
    const chunk = (choice: object) =>
      `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, ...choice }] })}\n\n`;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk({ delta, finish_reason: null }));
    response.write(chunk({ delta: {}, finish_reason: isText ? "stop" : "tool_calls" }));
    response.end("data: [DONE]\n\n");
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const model: Model = {
    requests,
    answer: () => "Nothing to do.",
    config: configOf(port),
    async asked(isIt) {
      for (let seen = 0; ; ) {
        for (; seen < requests.length; seen++) {
          const request = requests[seen];
          if (request && isIt(request)) return request;
        }
        await new Promise<void>((resolve) => {
          const look = () => {
            looking.delete(look);
            resolve();
          };
          looking.add(look);
        });
      }
    },
  };
  return model;
}

const configOf = (port: number) => ({
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
