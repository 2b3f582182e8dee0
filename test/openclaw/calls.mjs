// OpenClaw's own client of its gateway, in one process for many calls: `openclaw gateway call` takes seconds to start.
//
//   node calls.mjs <folder of the openclaw package>
//
// A line of standard input is a call, `["method", {…}]`; a line of standard output its answer, `{"result": …}` or `{"error": "…"}`.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const folder = pathToFileURL(`${process.argv[2]}/`);
const { callGatewayFromCli } = await import(new URL("dist/plugin-sdk/gateway-runtime.js", folder).href);

for await (const line of createInterface({ input: process.stdin })) {
  const [method, params] = JSON.parse(line);
  const answer = await callGatewayFromCli(method, { json: true, timeout: "60000" }, params).then(
    (result) => ({ result }),
    (error) => ({ error: error.message }),
  );
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit();
