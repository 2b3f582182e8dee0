import { MeshError } from "../errors.ts";
import { partsOf } from "./definitions.ts";
import { type Folded, foldJournal } from "./fold.ts";
import type { HistoryLine } from "./history.ts";
import { isObject } from "./show.ts";

// Which lines of a history are wanted. What is looked at is what is shown: nobody finds here what viewers are not shown.

export interface Filter {
  /** Types of events, in whatever case; `after` for deadlines. */
  readonly types?: readonly string[] | undefined;
  /** Epoch milliseconds, both included. */
  readonly since?: number | undefined;
  readonly until?: number | undefined;
  /** A peer by its DID or a name that it was known by. */
  readonly peer?: string | undefined;
  /** A part of the line, in whatever case. */
  readonly text?: string | undefined;
}

export type Wanted = (folded: Folded, line: () => HistoryLine) => boolean;

/** The DIDs that a peer's name was ever known for. @throws MeshError `peer_unknown` */
async function didsOf(home: string, peer: string): Promise<ReadonlySet<string>> {
  if (peer.startsWith("did:mesh:")) return new Set([peer]);
  const found = new Set<string>();
  for await (const { stream, step } of foldJournal(home)) {
    const { kind, id } = partsOf(stream);
    if (kind !== "conversation" || !step) continue;
    const { name, address } = step.state.snapshot.context;
    if (name === peer || address === peer) found.add(id);
  }
  if (found.size === 0) throw new MeshError("peer_unknown", `Nothing here concerns ${peer}.`);
  return found;
}

/** Fields in which machines keep whom they deal with. */
const PARTIES = ["peer", "controller", "laptop", "did"] as const;

/** Whether a stream has to do with one of these. */
function concerns({ stream, before, step }: Folded, dids: ReadonlySet<string>): boolean {
  if (dids.has(partsOf(stream).id)) return true;
  const context: Record<string, unknown> = (step?.state ?? before).snapshot.context;
  const sandbox = isObject(context.sandbox) ? context.sandbox.did : undefined;
  return [...PARTIES.map((field) => context[field]), sandbox].some((did) => typeof did === "string" && dids.has(did));
}

/** @throws MeshError `peer_unknown` for a name that nobody bore here */
export async function wantedBy(home: string, { types, since, until, peer, text }: Filter): Promise<Wanted> {
  const dids = peer === undefined ? undefined : await didsOf(home, peer);
  const wanted = types && new Set(types.map((type) => type.toUpperCase().replace(/^AFTER$/, "@TIMER")));
  const part = text?.toLowerCase();
  return (folded, line) =>
    (since === undefined || folded.commit.at >= since) &&
    (until === undefined || folded.commit.at <= until) &&
    (wanted === undefined || wanted.has(folded.event.type.toUpperCase())) &&
    (dids === undefined || concerns(folded, dids)) &&
    (part === undefined || JSON.stringify(line()).toLowerCase().includes(part));
}
