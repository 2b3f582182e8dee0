import { asMeshError } from "../../errors.ts";

// What the doctor says about one thing: one or two sentences, with the next step where there is one.

export type Status = "ok" | "note" | "problem";

export interface Check {
  readonly name: string;
  readonly status: Status;
  readonly message: string;
}

/** A check without its name. */
export type Finding = Omit<Check, "name">;

export const ok = (message: string): Finding => ({ status: "ok", message });
export const note = (message: string): Finding => ({ status: "note", message });
export const problem = (message: string): Finding => ({ status: "problem", message });

/** The error's own sentence. */
export const failed = (error: unknown): Finding => problem(asMeshError(error).message);

/** Looks; what cannot be looked at is a problem and not the end. */
export async function look(name: string, finding: () => Finding | Promise<Finding>): Promise<Check> {
  try {
    return { name, ...(await finding()) };
  } catch (error) {
    return { name, ...failed(error) };
  }
}

export const counted = (number: number, one: string, many = `${one}s`): string =>
  `${number} ${number === 1 ? one : many}`;

export const SALVAGE = "kars-mesh doctor --repair salvages what is sound.";
