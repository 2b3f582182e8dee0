import { z } from "zod";
import { asMeshError, MeshError } from "../errors.ts";
import { PEER_LENGTH_MAX, WAIT_MAX_MS } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { asAddress } from "../wire/text.ts";
import type { MeshNode } from "./node.ts";

// What callers may ask of a node: the same whether they own it or reach it in another process. Everything that goes in and
// comes out is JSON; what goes in is parsed here.

export interface CallContext {
  readonly node: MeshNode;
  readonly signal: AbortSignal;
  /** Tells the caller something before the result. */
  readonly progress: (news: unknown) => void;
}

export interface Operation<P extends z.ZodType, R> {
  readonly params: P;
  run(params: z.output<P>, context: CallContext): Promise<R>;
}
/** What a node can be asked, by name. */
export type OperationTable = Readonly<Record<string, Operation<z.ZodType, unknown>>>;

export const operation = <P extends z.ZodType, R>(params: P, run: Operation<P, R>["run"]): Operation<P, R> => ({
  params,
  run,
});

/** A name or a DID as it was typed: inside, a DID has the form of the wire. */
export const Peer = z.string().min(1).max(PEER_LENGTH_MAX).transform(asAddress);
/** How long a call waits, in milliseconds. */
export const Wait = z.number().min(0).max(WAIT_MAX_MS);

/** The cluster that the node belongs to. @throws MeshError `not_paired` */
export const membershipOf = (node: MeshNode) => {
  const pairing = node.membership.current;
  if (!pairing) throw new MeshError("not_paired");
  return pairing;
};

export type ParamsOf<T extends OperationTable, N extends keyof T> = z.input<T[N]["params"]>;
export type ResultOf<T extends OperationTable, N extends keyof T> = Awaited<ReturnType<T[N]["run"]>>;

/** Runs one operation on a node. @throws MeshError always of ours; `input_invalid` names the field */
export async function runOperation(
  table: OperationTable,
  name: string,
  params: unknown,
  context: CallContext,
): Promise<unknown> {
  const found = Object.hasOwn(table, name) ? table[name] : undefined;
  if (!found) throw new MeshError("input_invalid", `There is no operation ${name}.`);
  const parsed = safeParse(found.params, params);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new MeshError("input_invalid", `${issue?.path.join(".") || "The input"}: ${issue?.message ?? "not valid"}.`);
  }
  try {
    return await found.run(parsed.data, context);
  } catch (error) {
    throw asMeshError(error);
  }
}
