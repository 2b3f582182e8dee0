import { NODE_DEFINITIONS } from "../actors/opening.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import { grantDefinition } from "../machines/grant/machine.ts";
import { refusalDefinition } from "../machines/refusal/machine.ts";
import { runDefinition } from "../machines/run/machine.ts";
import { standingDefinition } from "../machines/standing/machine.ts";

// Every machine there is: a laptop's and a cluster's.

/** What a controller runs beyond what every node does, in the order in which its node is given them. */
export const CLUSTER_DEFINITIONS: readonly MachineDefinition[] = [
  grantDefinition,
  runDefinition,
  refusalDefinition,
  standingDefinition,
];

/** The machines by kind. */
export const DEFINITIONS: ReadonlyMap<string, MachineDefinition> = new Map(
  [...NODE_DEFINITIONS, ...CLUSTER_DEFINITIONS].map((definition) => [definition.kind, definition]),
);

/** The kind and the id in a stream's name, `<kind>/<id>`. */
export function partsOf(stream: string): { readonly kind: string; readonly id: string } {
  const slash = stream.indexOf("/");
  return slash === -1 ? { kind: stream, id: "" } : { kind: stream.slice(0, slash), id: stream.slice(slash + 1) };
}

/** The machine behind a stream; undefined when this program has none of its kind. */
export const definitionOf = (stream: string): MachineDefinition | undefined => DEFINITIONS.get(partsOf(stream).kind);
