/** The eight, in the order in which OpenClaw lists them. */
export const TOOLS: readonly string[] = [
  "mesh_pair",
  "cloud_offload",
  "offload_status",
  "offload_cancel",
  "mesh_send",
  "mesh_inbox",
  "mesh_await",
  "discover",
];
