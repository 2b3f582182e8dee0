import type { z } from "zod";

/** The first thing that is wrong with an input, with the field that it is about before it. */
export function firstIssue(error: Pick<z.ZodError, "issues">): string {
  const issue = error.issues[0];
  const field = issue?.path.join(".") ?? "";
  const message = issue?.message ?? "not valid";
  return field === "" ? message : `${field}: ${message}`;
}
