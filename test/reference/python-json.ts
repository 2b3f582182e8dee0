/** JSON as Python's `json.dumps` writes it: a space behind each comma and colon, and nothing but ASCII. */

type Value = string | number | boolean | null | readonly Value[] | { readonly [name: string]: Value };

const text = (value: string): string =>
  JSON.stringify(value).replaceAll(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

function write(value: Value): string {
  if (typeof value === "string") return text(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(write).join(", ")}]`;
  return `{${Object.entries(value)
    .map(([name, field]) => `${text(name)}: ${write(field)}`)
    .join(", ")}}`;
}

/** @param value what JSON can hold; fields that are undefined are left out */
export const pythonJson = (value: unknown): string => write(JSON.parse(JSON.stringify(value)));
