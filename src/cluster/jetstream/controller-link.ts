import { setTimeout as pause } from "node:timers/promises";
import { type Msg, RequestError } from "@nats-io/transport-node";
import { z } from "zod";
import { asMeshError, isErrorCode, MeshError } from "../../errors.ts";
import { safeParse } from "../../parse.ts";
import { ErrorResponse, PairRequest, PairResponse } from "../../wire/pair.ts";
import { Membership } from "../../wire/registry.ts";
import { Did } from "../../wire/text.ts";
import { type Bus, unavailable } from "./bus.ts";
import {
  CONTROLLER_ANSWER_MS,
  CONTROLLER_MESSAGE_SIZE_MAX,
  CONTROLLER_QUESTIONS_MAX,
  CONTROLLER_WAIT_MS,
  RETRY_REST_MS,
  VOUCH_KEPT_MS,
  VOUCHES_KEPT_MAX,
} from "./limits.ts";

// What replicas ask the one whose controller is active, by requests of core NATS, in JSON:
//
//   kars.<cluster>.controller.pair      a PairRequest          -> {"result": PairResponse}
//   kars.<cluster>.controller.vouch     {"did"}                -> {"result": Membership or null}
//   kars.<cluster>.controller.operate   {"name", "params"}     -> {"result": what the operation gives}
//
// or {"error":{"code","message"}}. Nobody answers while no controller is active: then it is asked again for a while, in
// which another may take over.

const Vouching = z.object({ did: Did });
const Operating = z.object({ name: z.string().max(64), params: z.unknown() });
const Answer = z.union([ErrorResponse, z.object({ result: z.unknown() })]);

/** What an active controller answers. */
export interface ControllerAnswers {
  /** @throws MeshError */
  pair(request: PairRequest): Promise<PairResponse>;
  vouch(did: string): Membership | undefined | Promise<Membership | undefined>;
  /** Runs an operation of the cluster: see `runOperation`. @throws MeshError */
  operate(name: string, params: unknown): Promise<unknown>;
}

/** A message of NATS as JSON; undefined when it is none, or too long. */
function jsonOf({ data }: Pick<Msg, "data">): unknown {
  if (data.length > CONTROLLER_MESSAGE_SIZE_MAX) return undefined;
  try {
    return JSON.parse(Buffer.from(data).toString("utf8"));
  } catch {
    return undefined;
  }
}

function parsed<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const { success, data, error } = safeParse(schema, value);
  if (success) return data;
  const [issue] = error.issues;
  throw new MeshError("input_invalid", `${issue?.path.join(".") || "The question"}: ${issue?.message ?? "not valid"}.`);
}

const encoded = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value), "utf8");

/**
 * Answers the other replicas for a controller that is active here.
 * @returns what ends it; who asked last is answered still
 */
export function answerForController(bus: Bus, answers: ControllerAnswers): () => void {
  const asked: Readonly<Record<string, (question: unknown) => unknown>> = {
    pair: (question) => answers.pair(parsed(PairRequest, question)),
    vouch: (question) => answers.vouch(parsed(Vouching, question).did),
    operate: (question) => {
      const { name, params } = parsed(Operating, question);
      return answers.operate(name, params);
    },
  };
  let underWay = 0;
  async function answerTo(message: Msg): Promise<Uint8Array> {
    if (underWay >= CONTROLLER_QUESTIONS_MAX) throw new MeshError("limit_reached", "The controller is asked too much.");
    const kind = message.subject.split(".").at(-1) ?? "";
    const answer = Object.hasOwn(asked, kind) ? asked[kind] : undefined;
    if (!answer) throw new MeshError("input_invalid", `Nothing is known of ${kind}.`);
    underWay++;
    try {
      const bytes = encoded({ result: (await answer(jsonOf(message))) ?? null });
      if (bytes.length > CONTROLLER_MESSAGE_SIZE_MAX)
        throw new MeshError("limit_reached", `The answer has ${bytes.length} bytes; ask for less at once.`);
      return bytes;
    } finally {
      underWay--;
    }
  }
  const respond = (message: Msg, bytes: Uint8Array) => {
    try {
      message.respond(bytes);
    } catch (error) {
      // Who asked asks again.
      bus.log(`nats: an answer of the controller was lost: ${unavailable(error).message}`);
    }
  };
  const subscription = bus.nats.subscribe(bus.subject("controller", "*"), {
    callback: (failure, message) => {
      if (failure) return;
      answerTo(message).then(
        (bytes) => respond(message, bytes),
        (error: unknown) => {
          const { code, message: text } = asMeshError(error);
          respond(message, encoded({ error: { code, message: text.slice(0, 1000) } }));
        },
      );
    },
  });
  return () => {
    if (!bus.nats.isClosed()) subscription.unsubscribe();
  };
}

/** The active controller, wherever it is. All of it rejects with MeshError `cluster_unreachable` when there is none. */
export interface ControllerLink {
  /** As `Grants.pair`. */
  pair(request: PairRequest): Promise<PairResponse>;
  /** Its word for an agent, as it gave it less than VOUCH_KEPT_MS ago; undefined for one that it does not know. */
  vouch(did: string): Promise<Membership | undefined>;
  /** As `runOperation` on the active controller; it is not asked twice. */
  operate(name: string, params: unknown): Promise<unknown>;
}

/** It was just ending, or just beginning, and did nothing. */
const isBetween = ({ code }: MeshError) => code === "closed" || code === "cluster_unreachable";

export interface LinkOptions {
  /** How long a controller is waited for, in milliseconds. */
  readonly waitMs?: number | undefined;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
  /** What is said when none is active. */
  readonly nobody?: string | undefined;
}

export function askController(
  bus: Bus,
  { waitMs = CONTROLLER_WAIT_MS, now = () => performance.now(), nobody = "No controller is active." }: LinkOptions = {},
): ControllerLink {
  let underWay = 0;
  /** Words that were given, the oldest first. */
  const vouched = new Map<string, { readonly word: Membership; readonly at: number }>();
  const asking = new Map<string, Promise<Membership | undefined>>();

  async function once(kind: string, question: Uint8Array): Promise<unknown> {
    const subject = bus.subject("controller", kind);
    const { data, error } = safeParse(
      Answer,
      jsonOf(await bus.nats.request(subject, question, { timeout: CONTROLLER_ANSWER_MS })),
    );
    if (error) throw new MeshError("internal", `The controller's answer to ${kind} is none.`);
    if (!("error" in data)) return data.result;
    const { code, message } = data.error;
    const told = new MeshError(isErrorCode(code) ? code : "internal");
    told.message = message;
    throw told;
  }

  /** Asks until somebody answers, or for long enough. */
  async function ask(kind: string, question: unknown): Promise<unknown> {
    const bytes = encoded(question);
    if (bytes.length > CONTROLLER_MESSAGE_SIZE_MAX)
      throw new MeshError("limit_reached", `The question has ${bytes.length} bytes.`);
    if (underWay >= CONTROLLER_QUESTIONS_MAX) throw new MeshError("limit_reached", "The controller is asked too much.");
    underWay++;
    try {
      for (const deadline = Date.now() + waitMs; ; await pause(RETRY_REST_MS)) {
        try {
          return await once(kind, bytes);
        } catch (cause) {
          const isNobody =
            cause instanceof MeshError ? isBetween(cause) : cause instanceof RequestError && cause.isNoResponders();
          if (isNobody && Date.now() < deadline && !bus.nats.isClosed()) continue;
          if (cause instanceof MeshError && !isNobody) throw cause;
          // Also when it was reached and did not answer: then it may have done what it was asked.
          const detail = isNobody ? nobody : unavailable(cause).message;
          throw new MeshError("cluster_unreachable", detail, { cause });
        }
      }
    } finally {
      underWay--;
    }
  }

  function understood<S extends z.ZodType>(schema: S, result: unknown): z.output<S> {
    const { success, data } = safeParse(schema, result);
    if (!success) throw new MeshError("internal", "The controller's answer is not understood.");
    return data;
  }

  async function vouchAnew(did: string): Promise<Membership | undefined> {
    const at = now();
    const word = understood(Membership.nullable(), await ask("vouch", { did }));
    vouched.delete(did);
    // Whom it does not know it may know in a moment.
    if (!word) return undefined;
    vouched.set(did, { word, at });
    const oldest = vouched.size > VOUCHES_KEPT_MAX ? vouched.keys().next().value : undefined;
    if (oldest !== undefined) vouched.delete(oldest);
    return word;
  }

  return {
    pair: async (request) => understood(PairResponse, await ask("pair", request)),
    async vouch(did) {
      const kept = vouched.get(did);
      if (kept && now() - kept.at < VOUCH_KEPT_MS) return kept.word;
      const begun = asking.get(did) ?? vouchAnew(did).finally(() => asking.delete(did));
      asking.set(did, begun);
      return begun;
    },
    operate: (name, params) => ask("operate", { name, params }),
  };
}
