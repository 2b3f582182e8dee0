import { MeshError } from "../../errors.ts";
import { quoted } from "../../foreign.ts";
import { MeshPairParameters } from "../../wire/tool.ts";
import { JOIN_WAIT_MS } from "../limits.ts";
import { count, lines, paragraphs } from "../render.ts";
import { defineTool } from "../tool.ts";

export const meshPair = defineTool({
  name: "mesh_pair",
  label: "Pair with a cluster",
  description:
    "Use when the user gives a pairing token (kars-pair-… or azcp_1_…) or asks to pair or connect with a kars cluster. Once per cluster; every other mesh tool needs it.",
  parameters: MeshPairParameters,
  beforePairing: true,
  async run({ token, name = undefined }, { node, config, signal }) {
    const timeout = AbortSignal.timeout(JOIN_WAIT_MS);
    const chosen = name ?? config.name;
    const paired = await node
      .call(
        "pair",
        { token, ...(chosen === undefined ? {} : { name: chosen }) },
        { signal: signal ? AbortSignal.any([signal, timeout]) : timeout },
      )
      .catch((error: unknown) => {
        if (!timeout.aborted || signal?.aborted) throw error;
        throw new MeshError(
          "cluster_unreachable",
          "Pairing did not end in time; it goes on by itself, so look with discover before pairing again.",
        );
      });
    const { grant } = paired;
    const granted = grant && [
      count(grant.slots, "slot"),
      grant.capabilities.length > 0 ? `capabilities ${lines(grant.capabilities)}` : "no capabilities",
      grant.token_budget === null ? undefined : `a budget of ${grant.token_budget} tokens`,
      grant.expires_at === null ? undefined : `valid until ${grant.expires_at}`,
    ];
    return {
      text: paragraphs(
        `Paired with the cluster ${quoted(paired.cluster ?? "unnamed")} as ${quoted(paired.name ?? "unnamed")}.`,
        `This agent's identity is ${paired.did}.`,
        granted
          ? `The grant ${quoted(grant.name)} has ${granted.filter((part) => part !== undefined).join(", ")}.`
          : undefined,
        paired.plaintext
          ? "Tell the user: this cluster's controller speaks plaintext. It and its relay read the task and the file names of each offload, and could answer in its name; messages, files and results are sealed."
          : undefined,
      ),
      details: paired,
    };
  },
});
