import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

// The files of the page, as the build laid them out: they hold nothing of anybody.

/** The same from a source and from what was compiled of it. */
const DIRECTORY = fileURLToPath(new URL("../../dist/page/", import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
};

/** A name in the directory, and no way out of it. */
const FILE = /^[a-z][a-z-]{0,31}\.(html|css|js|json)$/;

export interface SiteFile {
  readonly body: Buffer;
  readonly type: string;
}

const known = new Map<string, SiteFile>();

/** A file of the page by its name; undefined when there is none. */
export async function siteFile(name: string): Promise<SiteFile | undefined> {
  const file = known.get(name) ?? (await read(name));
  if (file) known.set(name, file);
  return file;
}

async function read(name: string): Promise<SiteFile | undefined> {
  const [, ending = ""] = FILE.exec(name) ?? [];
  const type = TYPES[ending];
  if (type === undefined) return undefined;
  return readFile(DIRECTORY + name).then(
    (body) => ({ body, type }),
    () => undefined,
  );
}

/**
 * What every answer says of what a page may do: run its own script, and speak with where it came from.
 * @param authority host and port of this server
 */
export const headersOf = (authority: string, type: string): Readonly<Record<string, string>> => ({
  "content-type": type,
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    `connect-src 'self' ws://${authority}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; "),
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
});
