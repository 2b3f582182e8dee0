/** What ends with a test; outside of one, when whoever began it says so. */
import { onTestFinished } from "vitest";

const begun: (() => unknown)[] = [];

export function atTheEnd(end: () => unknown): void {
  if (process.env.VITEST === undefined) begun.push(end);
  else onTestFinished(async () => void (await end()));
}

/** Ends what was begun outside of a test, the newest first. */
export async function endAll(): Promise<void> {
  for (const end of begun.splice(0).reverse()) await end();
}
