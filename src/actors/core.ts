import type { Bodies } from "./bodies.ts";
import type { Keyring } from "./keyring.ts";
import type { Lanes } from "./lanes.ts";
import type { Link } from "./link.ts";
import type { Ports } from "./ports.ts";
import type { MessagesProjection } from "./projections/messages.ts";
import type { Registry } from "./registry.ts";
import type { ActorSystem } from "./system.ts";

/** What the effects of one node share. */
export interface Core {
  readonly system: ActorSystem;
  readonly ports: Ports;
  readonly keyring: Keyring;
  readonly bodies: Bodies;
  readonly link: Link;
  readonly lanes: Lanes;
  readonly messages: MessagesProjection;
  /** The registry of the cluster this node belongs to. @throws MeshError `not_paired` */
  readonly registry: () => Registry;
  /** Aborts when the node closes. */
  readonly signal: AbortSignal;
  /** A line for whoever watches the node. Never words or secrets. */
  readonly note: (text: string) => void;
}

export const isoNow = ({ ports }: Pick<Core, "ports">): string => new Date(ports.clock.now()).toISOString();
export const conversationOf = (peer: string): string => `conversation/${peer}`;
export const sessionOf = (id: string): string => `session/${id}`;
