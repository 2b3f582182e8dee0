/** Tells at the end of a live test what was run, what was left out and why, and what failed. */
import type { Reporter, TestCase } from "vitest/node";

/** The scenario's name, without the servers that are the same for all. */
const nameOf = (test: TestCase) => test.fullName.split(" > ").slice(1).join(" > ");

export default class Told implements Reporter {
  readonly #lines: Record<"passed" | "failed" | "skipped", string[]> = { passed: [], failed: [], skipped: [] };

  onTestCaseResult(test: TestCase): void {
    const result = test.result();
    const note = result.state === "skipped" && result.note !== undefined ? `: ${result.note}` : "";
    if (result.state !== "pending") this.#lines[result.state].push(`${nameOf(test)}${note}`);
  }

  onTestRunEnd(): void {
    const { passed, failed, skipped } = this.#lines;
    console.info(`\nRun at ${process.env.AGT_RELAY_URL} and ${process.env.AGT_REGISTRY_URL}`);
    for (const line of passed) console.info(`  passed   ${line}`);
    for (const line of skipped) console.info(`  left out ${line}`);
    for (const line of failed) console.info(`  FAILED   ${line}`);
    console.info(`${passed.length} passed, ${skipped.length} left out, ${failed.length} failed`);
  }
}
