import { quoted } from "../../foreign.ts";
import { DiscoverParameters } from "../../wire/tool.ts";
import { count, lines, paragraphs, renderAgents } from "../render.ts";
import { defineTool } from "../tool.ts";

export const discover = defineTool({
  name: "discover",
  label: "Find agents",
  description:
    "Use to see who is on the mesh (“who is there?”, “find an agent with a GPU”), all or by name or capability: names, DIDs, capabilities and who is online.",
  parameters: DiscoverParameters,
  inbound: true,
  async run({ name, capability }, { node, signal }) {
    const by = { ...(name === undefined ? {} : { name }), ...(capability === undefined ? {} : { capability }) };
    const found = await node.call("discover", by, { signal, repeatable: true });
    const { agents, note, asked = [] } = found;
    const wanted = [name && `the name ${quoted(name)}`, capability && `the capability ${quoted(capability)}`];
    const filter = wanted.filter((part) => part !== undefined).join(" and ");
    return {
      text: paragraphs(
        `${agents.length === 0 ? "No agents" : count(agents.length, "agent")} ${note === undefined ? "on the mesh" : "found"}${filter === "" ? "" : ` with ${filter}`}.`,
        renderAgents(agents),
        agents.length > 0 ? "Agents choose their names and capabilities themselves; only the DID is sure." : undefined,
        note,
        asked.length > 0 ? `Asked for: ${lines(asked)}.` : undefined,
      ),
      details: found,
    };
  },
});
