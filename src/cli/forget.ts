import type { Command } from "commander";
import type { Forgotten } from "../actors/forgetting.ts";
import { MeshError } from "../errors.ts";
import { asAddress } from "../wire/text.ts";
import { confirmed, someoneIsThere } from "./ask.ts";
import { atHome } from "./home.ts";
import { count, line } from "./output.ts";
import { action, type Io } from "./program.ts";

export function addForget(program: Command): void {
  program
    .command("forget")
    .description("make what was said with a peer unreadable, for ever")
    .argument("<peer>", "a name or a DID", asAddress)
    .option("-y, --yes", "do not ask")
    .addHelpText(
      "after",
      `
The key of that conversation's words is destroyed here; who, when and how much stays, with "(forgotten)" in place of words.
What still waits to be sent is not sent, though a frame on its way at that moment may arrive. Offloads that the peer ran or
managed lose their task and summary; those that it ran lose their result files too. The peer stays known and can be written
to. What the peer itself keeps, and copies of this home made before, are not touched.`,
    )
    .action(action(forget));
}

const nameOf = ({ name, did }: Forgotten) => (name === null ? did : `${line(name)} (${did})`);

function contentsOf({ messages, undelivered, offloads, folders }: Forgotten): string {
  return [
    count(messages, "message"),
    ...(undelivered > 0 ? [`${undelivered} not sent yet`] : []),
    ...(offloads > 0 ? [count(offloads, "offload")] : []),
    ...(folders > 0 ? [`the result files of ${folders}`] : []),
  ].join(", ");
}

async function forget(io: Io, peer: string, { yes }: { yes?: true }): Promise<void> {
  await atHome(io, async ({ mesh, signal }) => {
    const found = await mesh.call("forget", { peer, preview: true }, { signal });
    if (!yes) {
      if (!someoneIsThere())
        throw new MeshError("input_invalid", "There is no terminal to ask whether you are sure. Add --yes if you are.");
      io.note(`The conversation with ${nameOf(found)}: ${contentsOf(found)}.`);
      if (!(await confirmed("Make it unreadable for ever?"))) throw new MeshError("aborted", "Nothing was forgotten.");
    }
    const forgotten = await mesh.call("forget", { peer: found.did }, { signal });
    io.result(forgotten, `Forgotten: ${contentsOf(forgotten)} with ${nameOf(forgotten)}.`);
  });
}
