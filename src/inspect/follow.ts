import { watch } from "node:fs/promises";
import { join } from "node:path";
import { MeshError } from "../errors.ts";
import { realDisk } from "../store/disk.ts";
import { tellingDisk } from "../store/disk-errors.ts";
import type { Commit } from "../store/journal.ts";
import { type ReadFrom, readJournal } from "../store/journal-reader.ts";

/**
 * The commits of a home, those that are there and then each as it comes, until the signal. Nothing is owned: the journal is read
 * on from where it ended whenever its directory changes.
 * @param caughtUp called whenever all that is there was given
 * @throws MeshError `input_invalid` where there is no journal; `store_damaged`, `store_io`
 */
export async function* followCommits(
  home: string,
  signal: AbortSignal,
  caughtUp: () => void = () => undefined,
): AsyncGenerator<Commit> {
  const directory = join(home, "journal");
  const disk = tellingDisk(realDisk);
  let last: ReadFrom | undefined;
  try {
    // Watched before it is read, so that nothing that comes meanwhile is missed.
    const changes = watch(directory, { signal });
    const iterator = changes[Symbol.asyncIterator]();
    const change = () => {
      const coming = iterator.next();
      // It ends with the signal, whether anybody waits for it or not.
      coming.catch(() => undefined);
      return coming;
    };
    let next = change();
    for (;;) {
      for await (const commit of readJournal(disk, directory, undefined, last)) {
        last = commit;
        yield commit;
      }
      caughtUp();
      const { done } = await next;
      if (done) return;
      next = change();
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw new MeshError("input_invalid", `There is no history at ${home}.`, { cause: error });
    throw error;
  }
}
