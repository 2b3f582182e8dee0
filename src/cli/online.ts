import type { Command } from "commander";
import { MeshError } from "../errors.ts";
import { openHome } from "./home.ts";
import { interruption } from "./interruption.ts";
import { count, line } from "./output.ts";
import { action, type Io } from "./program.ts";

// Staying online in the foreground, and telling what happens.

export function addRun(program: Command): void {
  program
    .command("run")
    .description("stay online: receive, continue offloads, print what happens")
    .addHelpText(
      "after",
      "\nOther commands find this process and go through it. Ctrl-C ends it; what comes then waits at the relay.",
    )
    .action(action(run));
}

async function run(io: Io): Promise<void> {
  const signal = interruption();
  const { createFeed } = await import("./feed.ts");
  let announced = false;
  while (!signal.aborted) {
    const mesh = await openHome(io);
    try {
      const { did, name, clusters } = await mesh.call("whoami", {});
      if (io.json && !announced) io.result({ did, name, role: mesh.role, home: io.directory }, "");
      announced = true;
      io.note(
        mesh.role === "owner"
          ? `${line(name ?? "This laptop")} stays online here. Ctrl-C ends it.`
          : "Another process keeps this home online: this one follows what happens there.",
      );
      if (clusters.some(({ registry_url }) => registry_url !== null)) {
        const { unread } = await mesh.call("inbox", { limit: 1 });
        if (unread > 0) io.note(`${count(unread, "unread message")}: see kars-mesh inbox.`);
      } else io.note(new MeshError("not_paired").message);
      const feed = createFeed(mesh, (text) => (io.json ? io.note(text) : process.stdout.write(`${text}\n`)));
      await mesh.call("watch", {}, { signal, onProgress: feed.take });
      await feed.idle();
    } catch (error) {
      const ownerEnded = mesh.role === "caller" && error instanceof MeshError && error.code === "closed";
      if (!ownerEnded) throw error;
      io.note("The process that kept this home online has ended.");
    } finally {
      await mesh.close();
    }
  }
}
