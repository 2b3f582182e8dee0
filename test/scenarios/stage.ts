/** Where a scenario takes place: a relay and a registry, and what can be done to them. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { z } from "zod";
import { startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import { atTheEnd } from "../ending.ts";
import { openServers, type Places, type Servers } from "../reference/servers.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { LeapClock, type SceneClock, unhurried } from "./clock.ts";

export interface Stage extends Places {
  /** The clock of everyone who takes part and can be given one. */
  readonly clock: SceneClock;
  /** The servers, when they are stand-ins: they do what a test asks of them. */
  readonly standIns?: Servers;
  /** The relay keeps every frame until it is acked, and knows a frame that it is given twice. */
  readonly keeps?: true;
  /** Each ends a server's process and begins another one, which knows nothing of what was before. */
  readonly restartRelay?: () => Promise<void>;
  readonly restartRegistry?: () => Promise<void>;
}

/** Opens the stage of one test. */
export type OpenStage = () => Promise<Stage>;

/**
 * Stand-ins of the reference relay and registry, on a clock that leaps.
 * @param truly how much of each wait passes in truth, in milliseconds, for peers with clocks of their own
 */
export async function openStandIns(truly = 0): Promise<Stage & Required<Pick<Stage, "standIns">>> {
  // Until nobody asks the registry anything: a leap would end questions that are under way.
  const clock = new LeapClock(async () => {
    for (let isQuiet = false; !isQuiet; ) {
      const { length } = standIns.registry.asked.all;
      await (await fetch(`${registryUrl}/health`)).text();
      isQuiet = standIns.registry.asked.all.length === length + 1;
    }
  }, truly);
  const standIns = await openServers({ clock });
  const { relayUrl, registryUrl } = standIns;
  return {
    relayUrl,
    registryUrl,
    clock,
    standIns,
    restartRelay: async () => standIns.relay.restart(),
    restartRegistry: async () => standIns.registry.forget(),
  };
}

/** A relay and a registry of this project, which take clients that prove nothing, on a clock that leaps; see `openStandIns`. */
export async function openLocal(truly = 0): Promise<Stage> {
  const clock = new LeapClock(async () => void (await (await fetch(`${server.url}/health`)).text()), truly);
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: await temporaryDirectory(),
    allowUnproven: true,
    now: () => clock.now(),
    pair: () => Promise.reject(new MeshError("token_invalid")),
  });
  atTheEnd(() => server.close());
  return { relayUrl: server.relayUrl, registryUrl: server.url, clock, keeps: true };
}

const url = z.url().transform((text) => text.replace(/\/+$/, ""));
const command = z.string().min(1).optional();
const LiveEnvironment = z.object({
  AGT_RELAY_URL: url,
  AGT_REGISTRY_URL: url,
  /** Shell commands that restart these, and end when they are up again. */
  AGT_RESTART_RELAY: command,
  AGT_RESTART_REGISTRY: command,
});

const shell = (line: string) => async () => void (await promisify(execFile)("/bin/sh", ["-c", line]));

/** Servers that are there already, as the environment names them. */
export function liveStage(environment: NodeJS.ProcessEnv): Stage {
  const { AGT_RELAY_URL, AGT_REGISTRY_URL, AGT_RESTART_RELAY, AGT_RESTART_REGISTRY } =
    LiveEnvironment.parse(environment);
  return {
    relayUrl: AGT_RELAY_URL,
    registryUrl: AGT_REGISTRY_URL,
    clock: unhurried,
    ...(AGT_RESTART_RELAY !== undefined && { restartRelay: shell(AGT_RESTART_RELAY) }),
    ...(AGT_RESTART_REGISTRY !== undefined && { restartRegistry: shell(AGT_RESTART_REGISTRY) }),
  };
}
