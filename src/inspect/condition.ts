import { MeshError } from "../errors.ts";
import { stateText } from "./fold.ts";
import type { Moment } from "./moments.ts";
import { isObject } from "./show.ts";

// A condition on a moment of a stream, as people write it: `state=open.ready`, `event=SEALED`, `effect=transmit`,
// `accepts=SEND`, `unread>3`, `sandbox.name=box`. What is compared is what is shown.

const OPERATORS = {
  "!=": (one: string, other: string) => one !== other,
  "<=": (one: string, other: string) => Number(one) <= Number(other),
  ">=": (one: string, other: string) => Number(one) >= Number(other),
  "=": (one: string, other: string) => one === other,
  "<": (one: string, other: string) => Number(one) < Number(other),
  ">": (one: string, other: string) => Number(one) > Number(other),
} as const;
type Operator = keyof typeof OPERATORS;
const isOperator = (text: string): text is Operator => Object.hasOwn(OPERATORS, text);

/** `open.established` is `open`, `established` and `open.established`; of regions side by side each. */
const statesOf = (text: string): string[] =>
  text.split(" ").flatMap((region) => {
    const parts = region.split(".");
    return parts.flatMap((_, from) =>
      parts.slice(from).map((__, more) => parts.slice(from, from + more + 1).join(".")),
    );
  });

/** What a field of the context is as text; of a list its length is `length`. */
function fieldOf(context: unknown, path: readonly string[]): string | undefined {
  const [field, ...rest] = path;
  if (field === undefined) return typeof context === "object" && context !== null ? undefined : String(context);
  if (Array.isArray(context) && field === "length") return String(context.length);
  if (Array.isArray(context)) return fieldOf(context[Number(field)], rest);
  return isObject(context) && Object.hasOwn(context, field) ? fieldOf(context[field], rest) : undefined;
}

/** The values that a name stands for at a moment; none when it has none. */
function valuesOf(name: string, { type, replay }: Moment): readonly string[] {
  const { value, context, effects, accepts } = replay();
  if (name === "event") return [type];
  if (name === "state") return statesOf(stateText(value));
  if (name === "effect") return effects;
  if (name === "accepts") return accepts;
  const found = fieldOf(context, name.replace(/^context\./, "").split("."));
  return found === undefined ? [] : [found];
}

/** @throws MeshError `input_invalid` for what is no condition */
export function parseCondition(text: string): (moment: Moment) => boolean {
  const [, name = "", operator = "", value = ""] = /^\s*([\w.]+)\s*(!=|<=|>=|=|<|>)\s*(.+?)\s*$/.exec(text) ?? [];
  if (!isOperator(operator))
    throw new MeshError(
      "input_invalid",
      `${text} is no condition. Write state=open, event=SEND, effect=transmit, accepts=SEND, or a field such as unread>3.`,
    );
  if (/[<>]/.test(operator) && Number.isNaN(Number(value)))
    throw new MeshError("input_invalid", `${text} is no condition: ${value} is no number.`);
  const compare = OPERATORS[operator];
  return (moment) => {
    const values = valuesOf(name, moment);
    return operator === "!="
      ? values.every((each) => compare(each, value))
      : values.some((each) => compare(each, value));
  };
}
