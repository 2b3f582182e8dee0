import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const isLive = process.env.AGT_LIVE_TEST === "1";

export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    // A live test waits where the others have a clock that leaps, and tells at its end what it ran.
    include: [isLive ? "test/interop/live.test.ts" : "test/interop/**/*.test.ts"],
    reporters: isLive ? ["default", "./test/interop/told.ts"] : ["default"],
    testTimeout: isLive ? 300_000 : 60_000,
    hookTimeout: 30_000,
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL("../../.cache/compiled", import.meta.url)) },
  },
});
