import { emitKeypressEvents } from "node:readline";
import { MeshError } from "../errors.ts";
import type { Moment, Replay } from "../inspect/moments.ts";
import { changesBetween } from "../inspect/moments.ts";
import { formatChanges } from "./changes.ts";
import { styled } from "./output.ts";
import type { Io } from "./program.ts";

// A stream's past, walked through with the keys: a moment a screen, with what its event changed.

const KEYS = "→ next  ← back  PgDn/PgUp ten  Home/End  q ends";
const PAGE = 10;

interface Key {
  readonly name?: string;
  readonly ctrl?: boolean;
}

/** Where a key leads from here; undefined when it ends the walk. */
export function led(from: number, last: number, { name = "", ctrl = false }: Key): number | undefined {
  if (name === "q" || name === "escape" || (ctrl && name === "c")) return undefined;
  const steps: Readonly<Record<string, number>> = {
    right: 1,
    down: 1,
    space: 1,
    n: 1,
    left: -1,
    up: -1,
    p: -1,
    pagedown: PAGE,
    pageup: -PAGE,
    home: -last,
    end: last,
  };
  return Math.min(last, Math.max(0, from + (steps[name] ?? 0)));
}

/** One screen: where this is, what its event changed, and how it stands. */
export function screen(
  moments: readonly Moment[],
  at: number,
  show: (replay: Replay, event?: string) => string,
): string {
  const [before, moment] = [moments[at - 1], moments[at]];
  if (!moment) return "";
  const replay = moment.replay();
  const changes = before ? formatChanges(changesBetween(before.replay(), replay)).map((text) => `  ${text}`) : [];
  return [
    styled("dim", `${at} of ${moments.length - 1}   ${KEYS}`),
    ...(changes.length > 0 ? ["", "changed", ...changes] : []),
    "",
    show(replay, moment.type),
  ].join("\n");
}

/** @throws MeshError `input_invalid` when there is no terminal */
export async function walk(
  io: Io,
  moments: readonly Moment[],
  show: (replay: Replay, event?: string) => string,
): Promise<void> {
  const { stdin, stdout } = process;
  if (!stdin.isTTY || !stdout.isTTY || io.json)
    throw new MeshError("input_invalid", "--step needs a terminal; use --at, --diff or --until instead.");
  const last = moments.length - 1;
  let at = last;
  const draw = () => {
    const rows = screen(moments, at, show)
      .split("\n")
      .slice(0, Math.max(1, stdout.rows - 1));
    stdout.write(`\x1b[2J\x1b[H${rows.join("\n")}\n`);
  };
  // A screen of its own, so that what was there before comes back.
  stdout.write("\x1b[?1049h");
  stdin.setRawMode(true);
  emitKeypressEvents(stdin);
  try {
    await new Promise<void>((resolve) => {
      const onKey = (_: string, key: Key) => {
        const next = led(at, last, key);
        if (next === undefined) {
          stdin.off("keypress", onKey);
          resolve();
        } else {
          at = next;
          draw();
        }
      };
      stdin.on("keypress", onKey).resume();
      stdout.on("resize", draw);
      draw();
    });
  } finally {
    stdout.off("resize", draw);
    stdin.setRawMode(false);
    stdin.pause();
    stdout.write("\x1b[?1049l");
  }
}
