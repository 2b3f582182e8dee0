import { z } from "zod";

/** What a schema made of a value: the value as it is typed, or why it is none. */
export type Parsed<T> =
  | { readonly success: true; readonly data: T; readonly error?: never }
  | { readonly success: false; readonly data?: never; readonly error: Pick<z.ZodError, "issues"> };

/**
 * Reads a value from outside. It never throws, as a schema's own `safeParse` may: zod measures a value before it says that
 * its type is wrong, and where a text or a list with bounds is expected, {"length":{"toString":null}} cannot be measured,
 * nor can what is nested deeper than the stack.
 */
export function safeParse<S extends z.ZodType>(schema: S, value: unknown): Parsed<z.output<S>> {
  try {
    const { success, data, error } = schema.safeParse(value);
    return success ? { success, data } : { success, error };
  } catch {
    // Whatever it is, it is not what was expected.
    return { success: false, error: z.never().safeParse(value).error ?? new z.ZodError([]) };
  }
}
