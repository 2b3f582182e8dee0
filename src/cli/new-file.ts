import { writeFile } from "node:fs/promises";
import { MeshError } from "../errors.ts";

/**
 * Writes a new file that only its owner can read.
 * @param option the command's option that names the file, for the error message
 * @throws MeshError `input_invalid`
 */
export async function writeNewFile(path: string, content: string | Uint8Array, option: string): Promise<void> {
  await writeFile(path, content, { flag: "wx", mode: 0o600 }).catch((cause: NodeJS.ErrnoException) => {
    const why =
      cause.code === "EEXIST"
        ? `exists already; name another file with ${option}`
        : `cannot be written (${cause.code})`;
    throw new MeshError("input_invalid", `${path} ${why}.`, { cause });
  });
}
