import { quoted as quotedWords } from "../foreign.ts";
import { QUOTE_LENGTH_MAX } from "./limits.ts";

// The sentences with which a relay or a registry refuses this laptop. They are foreign text, so they are quoted, next
// to advice on what a person can do.

/** A server's words in quotation marks, on one line, cut to QUOTE_LENGTH_MAX. */
export const quoted = (words: string): string => quotedWords(words.trim(), QUOTE_LENGTH_MAX);

const CLOCK = /outside replay window|too far from the \w+'s clock/i;

/** Whether a server refused a signature because of the time in it, which means that its clock and this machine's differ. */
export const blamesClock = (words: string): boolean => CLOCK.test(words);

export const CLOCK_ADVICE =
  "this machine's clock differs from the server's by more than 5 minutes: set it by the network";
