import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    globalSetup: "test/build.ts",
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["test/openclaw/**", "test/interop/**", "test/browser/**", "test/nats/**", "node_modules/**"],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // Processes that tests start keep what they have compiled: they are many, of the same sources.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL(".cache/compiled", import.meta.url)) },
    // A worker runs one file after the other: what they import is loaded once.
    isolate: false,
    maxWorkers: 3,
  },
});
