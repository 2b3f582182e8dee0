/**
 * What is used of `node:http`. Imported by name, Node would load everything that module gives, the whole of its fetch among it,
 * longer than Node itself takes to start. Where a Node is too old to have this call, the opening of a home says so.
 */
export const { createServer, request, STATUS_CODES }: typeof import("node:http") =
  process.getBuiltinModule?.("node:http") ?? {};
