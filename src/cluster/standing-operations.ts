import { z } from "zod";
import { until } from "../actors/inbox.ts";
import { type CallContext, operation } from "../actors/operation.ts";
import { MeshError } from "../errors.ts";
import { Capabilities, Name } from "../wire/text.ts";
import { STANDING_WAIT_MS } from "./limits.ts";
import { type StandingSandboxes, standingOf } from "./standing.ts";

/** What the operator asks of the sandboxes that stand. */
export const standingOperations = (standing: StandingSandboxes, isUp: boolean) => ({
  /** Resolves when it is up, or with the reason why it is not yet. */
  sandbox_start: operation(
    z.object({ name: Name, capabilities: Capabilities.default([]) }),
    async ({ name, capabilities }, { node, signal }: CallContext) => {
      if (!isUp) throw new MeshError("cluster_unreachable", "It is not up: kars-local up starts it.");
      await standing.open(name, capabilities);
      const concerns = (stream: string) => stream === standingOf(name);
      const isSettled = () => ["ready", "resting", undefined].includes(standing.find(name)?.state);
      await until(node, isSettled, { timeoutMs: STANDING_WAIT_MS, signal, concerns });
      return standing.find(name) ?? standing.unknown(name);
    },
  ),
  /** Resolves when nothing of it is left; what it was doing has failed then. */
  sandbox_stop: operation(z.object({ name: Name }), async ({ name }, { node, signal }: CallContext) => {
    await standing.close(name);
    const concerns = (stream: string) => stream === standingOf(name);
    const isGone = () => standing.find(name) === undefined;
    // While the cluster is down nothing runs; what is left is removed when it is up again.
    if (isUp) await until(node, isGone, { timeoutMs: STANDING_WAIT_MS, signal, concerns });
    return { name, stopped: isGone() };
  }),
});
