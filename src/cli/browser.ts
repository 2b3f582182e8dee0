import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// Opens an address that is a secret in the person's browser. What a program is started with can be read by everybody on this
// machine: so the browser is given a file that only its owner can read, and that leads there.

const OPENERS: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  darwin: ["open"],
  win32: ["rundll32", "url.dll,FileProtocolHandler"],
};

/** Resolves with what takes the file away again; undefined when no browser could be started. */
export async function openBrowser(url: string): Promise<(() => Promise<void>) | undefined> {
  const directory = await mkdtemp(join(tmpdir(), "kars-mesh-"));
  const remove = () => rm(directory, { recursive: true, force: true });
  const path = join(directory, "inspect.html");
  await writeFile(path, `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=${url}">`, {
    mode: 0o600,
  });
  const [program = "xdg-open", ...words] = OPENERS[process.platform] ?? ["xdg-open"];
  const isOpened = await new Promise<boolean>((resolve) => {
    const child = spawn(program, [...words, pathToFileURL(path).href], { stdio: "ignore", detached: true });
    child.once("error", () => resolve(false));
    child.once("spawn", () => resolve(true));
    child.unref();
  });
  if (isOpened) return remove;
  await remove();
  return undefined;
}
