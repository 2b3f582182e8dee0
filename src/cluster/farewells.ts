import { CLOSE } from "../wire/frame.ts";
import type { Refusal } from "./admission.ts";

// What a relay says when it ends a connection that it had let in.

type Farewell = Pick<Refusal, "code" | "message">;
export const IDLE: Farewell = { code: CLOSE.idle, message: "No heartbeat for 90 s." };
export const NOT_NOW: Farewell = { code: CLOSE.tryLater, message: "The relay cannot serve now. Come again at once." };
export const CUT: Farewell = { code: CLOSE.tooSlow, message: "Nothing of what waits for you was taken. It stays." };
