/** Waiting for what a scenario expects. The test's own timeout bounds it. */
import { onTestFailed } from "vitest";

/** Waits for `work`. A test that fails meanwhile says what it waited for. */
export async function awaited<T>(what: () => string, work: Promise<T>): Promise<T> {
  let isOver = false;
  onTestFailed(() => {
    if (!isOver) console.error(`It waited for this: ${what()}.`);
  });
  try {
    return await work;
  } finally {
    isOver = true;
  }
}
