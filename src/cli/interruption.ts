// Ctrl-C and its kin: whatever runs is asked to end, once. A second one does not wait for it.

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

const stop = new AbortController();
let listening = false;
let code: number | undefined;

/**
 * Aborts when the person or the system wants the process to end. From the first call on, ending is this signal's affair.
 * @param except a signal that the first caller gives another meaning
 */
export function interruption(except?: keyof typeof SIGNALS): AbortSignal {
  if (!listening) {
    listening = true;
    for (const [signal, exitCode] of Object.entries(SIGNALS)) {
      if (signal === except) continue;
      process.on(signal, () => {
        if (code !== undefined) process.exit(exitCode);
        code = exitCode;
        stop.abort();
      });
    }
  }
  return stop.signal;
}

/** Nobody reads any more: what only writes may end. */
export function unread(): void {
  stop.abort();
}

/** The exit code of the signal that came, if one came. */
export const interruptedBy = (): number | undefined => code;

/** Resolves when the process is to end. */
export function interrupted(): Promise<void> {
  const signal = interruption();
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
