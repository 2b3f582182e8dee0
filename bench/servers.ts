import { spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Servers } from "./laptop.ts";

/** Gives `work` a relay and a registry in a process of their own, which ends afterwards. */
export async function withServers<T>(directory: string, work: (servers: Servers) => Promise<T>): Promise<T> {
  await mkdir(directory, { recursive: true });
  const script = fileURLToPath(new URL("relay-process.ts", import.meta.url));
  const child = spawn(process.execPath, [script, directory], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("close", resolve));
  try {
    const said = await new Promise<string>((resolve, reject) => {
      createInterface(child.stdout).once("line", resolve);
      child.on("error", reject);
      child.on("close", (status) => reject(new Error(`The relay ended with ${status}.`)));
    });
    return await work(JSON.parse(said));
  } finally {
    child.stdin.end();
    await ended;
  }
}
