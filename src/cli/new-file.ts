import { writeFile } from "node:fs/promises";
import { MeshError } from "../errors.ts";

/**
 * Writes a file that is not there yet, readable by its owner alone.
 * @param option with which a person names another one
 * @throws MeshError `input_invalid`
 */
export async function writeNewFile(path: string, content: string | Uint8Array, option: string): Promise<void> {
  await writeFile(path, content, { flag: "wx", mode: 0o600 }).catch((cause: NodeJS.ErrnoException) => {
    const why =
      cause.code === "EEXIST" ? `is there already; name another with ${option}` : `cannot be written (${cause.code})`;
    throw new MeshError("input_invalid", `${path} ${why}.`, { cause });
  });
}
