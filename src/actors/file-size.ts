import { MeshError } from "../errors.ts";
import { FILE_MEGABYTES_MAX } from "../limits.ts";

// How large a file may be. Who has a laptop or a cluster says it in megabytes; it concerns one process alone, and is not kept.

const MEGABYTE = 1_000_000;

/** @param name what the caller calls it, for the error @returns bytes; undefined where nothing was said @throws MeshError `input_invalid` */
export function fileSizeMaxOf(megabytes: string | number | undefined, name: string): number | undefined {
  // An empty variable is none.
  if (megabytes === undefined || megabytes === "") return undefined;
  const number = Number(megabytes);
  if (!(Number.isInteger(number) && number >= 1 && number <= FILE_MEGABYTES_MAX))
    throw new MeshError(
      "input_invalid",
      `${name} must be a whole number of megabytes from 1 to ${FILE_MEGABYTES_MAX}.`,
    );
  return number * MEGABYTE;
}

/** @param raise what to do about it, a sentence */
export const tooLarge = (name: string, size: number, sizeMax: number, raise: string): MeshError =>
  new MeshError("file_too_large", `${name} has ${size} bytes, and at most ${sizeMax} are allowed. ${raise}`);

/** How a laptop allows more. */
export const RAISE_HERE =
  "Raise it with limits.megabytesPerFile of the plugin, or with --max-file or KARS_MESH_MAX_FILE.";
/** How its operator makes a cluster allow more. */
export const RAISE_THERE = "The operator of the cluster raises it with --max-file.";
/** Who takes files whole takes no larger ones. */
export const SENT_WHOLE = "The other side takes files whole, and none larger.";
