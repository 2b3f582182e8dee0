/** The same against servers that are already there: a reference relay and registry, or a cluster that runs. */
import { describe } from "vitest";
import { z } from "zod";
import { wantsProof } from "./published.ts";
import { interop } from "./suite.ts";

const title = "the published client, at the servers of AGT_RELAY_URL and AGT_REGISTRY_URL";

if (process.env.AGT_LIVE_TEST === "1") {
  const url = z.url().transform((text) => text.replace(/\/+$/, ""));
  const servers = z
    .object({ AGT_RELAY_URL: url, AGT_REGISTRY_URL: url })
    .transform(({ AGT_RELAY_URL: relayUrl, AGT_REGISTRY_URL: registryUrl }) => ({ relayUrl, registryUrl }))
    .parse(process.env);
  const proves = await wantsProof(servers);
  console.info(`Live test at ${servers.relayUrl} and ${servers.registryUrl}: ${proves ? "with" : "without"} proofs.`);
  describe(title, () => interop(async () => servers, proves));
} else {
  console.warn("SKIPPED: the live test. Set AGT_LIVE_TEST=1, AGT_RELAY_URL and AGT_REGISTRY_URL to run it.");
  describe.skip(title, () => interop(async () => ({ relayUrl: "", registryUrl: "" }), false));
}
