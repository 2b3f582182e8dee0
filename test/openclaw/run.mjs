// Proves the plugin in the real OpenClaw: installs it beside the project if it is not there, builds the plugin, and runs the
// tests of this folder. Not part of `npm test`: the first run downloads 650 MB.
//
//   node test/openclaw/run.mjs [load|command|agent|push|install|policy…]
import { install, layOutPackage, NEWEST, root, run } from "./installation.mjs";

install(NEWEST);
layOutPackage();
const SUITES = ["load", "command", "agent", "push", "peers", "runner", "restart", "install", "policy"];
const chosen = process.argv.slice(2);
const tests = (chosen.length > 0 ? chosen : SUITES).map((name) => `${root}test/openclaw/${name}.test.ts`);
run(process.execPath, ["--test", "--test-concurrency=2", "--test-timeout=300000", ...tests]);
