import { join } from "node:path";

// Where the parts of a local cluster lie in its directory.

export const controllerHome = (directory: string): string => join(directory, "controller");
