import { InvalidArgumentError } from "commander";
import { asAddress, Name } from "../wire/text.ts";

// Arguments and options as people write them. Each parser throws a usage error that says what would be right.

const MILLISECONDS_OF = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
type Unit = keyof typeof MILLISECONDS_OF;

const isUnit = (text: string): text is Unit => Object.hasOwn(MILLISECONDS_OF, text);

/**
 * Durations such as 90s, 45m, 12h or 30d, in milliseconds.
 * @param options.unit what a bare number counts; without it a bare number is refused
 * @param options.max the longest that is taken, as a duration
 */
export function duration(options: { readonly unit?: Unit; readonly max: string; readonly zero?: boolean }) {
  const inMilliseconds = (text: string): number | undefined => {
    const [, number, given = ""] = /^(\d+(?:\.\d+)?)([a-z]?)$/.exec(text.trim().toLowerCase()) ?? [];
    const unit = given === "" ? options.unit : given;
    return number === undefined || unit === undefined || !isUnit(unit)
      ? undefined
      : Number(number) * MILLISECONDS_OF[unit];
  };
  const longest = inMilliseconds(options.max) ?? 0;
  return (text: string): number => {
    const milliseconds = inMilliseconds(text);
    if (milliseconds === undefined) throw new InvalidArgumentError("Give a duration such as 90s, 45m, 12h or 30d.");
    if (milliseconds === 0 && !options.zero) throw new InvalidArgumentError("Give a duration longer than nothing.");
    if (milliseconds > longest) throw new InvalidArgumentError(`At most ${options.max} are possible.`);
    return milliseconds;
  };
}

/** A time, or how long ago: 2026-05-01, 2026-05-01T12:00, 12h, 30d; epoch milliseconds. */
export function moment(text: string): number {
  const at = Date.parse(text);
  if (/^\d{4}-/.test(text) && !Number.isNaN(at)) return at;
  try {
    return Date.now() - duration({ max: "3650d" })(text);
  } catch {
    throw new InvalidArgumentError("Give a time such as 2026-05-01 or 2026-05-01T12:00, or how long ago: 12h, 30d.");
  }
}

/** Whole numbers from `min` to `max`. */
export const integer = (min: number, max: number) => (text: string) => {
  const number = /^\d{1,15}$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (!(number >= min && number <= max))
    throw new InvalidArgumentError(
      `Give a whole number from ${min} to ${max === Number.MAX_SAFE_INTEGER ? "as many as you like" : max}.`,
    );
  return number;
};

/** The origin of a web server: scheme, host, and a port where it is not the scheme's own. */
export function origin(text: string): string {
  const url = URL.parse(text);
  const isOrigin = url && /^https?:$/.test(url.protocol) && url.hostname !== "" && url.href === `${url.origin}/`;
  if (!isOrigin)
    throw new InvalidArgumentError(
      "Give scheme, host and port alone, such as https://mesh.example.org or http://192.0.2.7:7780.",
    );
  return url.origin;
}

/** A name as Kubernetes has it for namespaces (RFC 1123). */
export function label(text: string): string {
  if (!/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text))
    throw new InvalidArgumentError("Give lower-case letters, digits and dashes between them, at most 63.");
  return text;
}

/** The name of a cluster: its controller is found under it with `-controller` behind. */
export function clusterName(text: string): string {
  if (!Name.safeParse(`${text}-controller`).success)
    throw new InvalidArgumentError(
      "Give letters, digits, dots, dashes and underscores, beginning with a letter or digit, at most 53.",
    );
  return text;
}

/** A container image as Kubernetes names it: a name, and a tag or a digest. */
export function image(text: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$/.test(text))
    throw new InvalidArgumentError("Give an image such as registry.example.org/kars-sandbox:0.1.0.");
  return text;
}

/** Whole numbers from 1 to `max`, or 0 for no bound, which is written `none` too. */
export const bound = (max: number) => (text: string) =>
  text.trim().toLowerCase() === "none" ? 0 : integer(0, max)(text);

/** `a,b` as a list. */
export function list(text: string): string[] {
  const entries = [...new Set(text.split(",").map((entry) => entry.trim()))].filter((entry) => entry !== "");
  if (entries.length === 0) throw new InvalidArgumentError("Give one or more words, with commas between them.");
  return entries;
}

/** Names or DIDs, one after the other. */
export const addresses = (typed: string, earlier: readonly string[] = []): string[] => [...earlier, asAddress(typed)];

/** An option that may be given several times. */
export const repeated = (value: string, earlier: readonly string[] = []): string[] => [...earlier, value];
