import { networkOf } from "../actors/network.ts";
import { runOperation } from "../actors/operation.ts";
import type { Places } from "../actors/places.ts";
import { realPorts } from "../actors/ports.ts";
import { realEnvironment } from "../actors/proxy.ts";
import { asMeshError } from "../errors.ts";
import type { PairRequest } from "../wire/pair.ts";
import { Arrivals } from "./arrivals.ts";
import { type Controlling, openControlling, type WorkOptions, workRules } from "./controlling.ts";
import type { ClusterUrls } from "./grants.ts";
import { clusterOperations, urlsOf } from "./household.ts";
import { type Bus, connectBus, didOfToken, type NatsOptions, tokenOf } from "./jetstream/bus.ts";
import { answerForController, askController } from "./jetstream/controller-link.ts";
import { type JetStreamDisk, openJetStreamDisk } from "./jetstream/home.ts";
import { type Leadership, lead } from "./jetstream/leader.ts";
import { openJetStreamState } from "./jetstream/state.ts";
import type { ServerRole } from "./services.ts";
import { openServing, type Serving } from "./serving.ts";

// One replica of a cluster that keeps everything in NATS: relay, registry and controller, or some of them. Relays and
// registries are all alike. Of the controllers one is at work and the others stand by; its home is in NATS, and whoever
// opens it makes every word of the one before it void.

export type Role = ServerRole | "controller";

export interface ReplicaOptions extends WorkOptions {
  readonly nats: NatsOptions;
  readonly roles: readonly Role[];
  /** Of the sandboxes' files. */
  readonly directory: string;
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  /** The origin under which laptops and sandboxes reach the cluster. */
  readonly publicUrl?: string | undefined;
  /** Where the controller itself reaches relay and registry, when that is not where the others do. */
  readonly places?: Places | undefined;
  readonly allowUnproven: boolean;
  readonly serving: Serving;
  readonly onNote: (text: string) => void;
}

export interface Replica {
  readonly urls: ClusterUrls;
  /** Hands over what it has: the controller's work to another, then the connections. Before `close`. */
  drain(): Promise<void>;
  close(): Promise<void>;
}

/** A controller's term: what it opened, and how it ends. */
interface Term {
  readonly disk: JetStreamDisk;
  controlling?: Controlling;
  readonly ends: (() => void)[];
}

/** @throws MeshError `nats_unavailable`, `input_invalid` */
export async function openReplica(options: ReplicaOptions): Promise<Replica> {
  const { roles, directory, host, port, allowUnproven, serving, onNote } = options;
  const name = options.nats.cluster;
  const ports = realPorts(networkOf(realEnvironment, () => options.authorities ?? ""));
  const work = roles.includes("controller") ? await workRules(ports, directory, options) : undefined;
  const bus = await connectBus({ ...options.nats, log: onNote });
  try {
    const state = await openJetStreamState(bus, { now: Date.now, allowUnproven, log: onNote });
    const controller = askController(bus);
    const server = await openServing(
      {
        host,
        port,
        directory,
        state,
        roles: roles.filter((role) => role !== "controller"),
        allowUnproven,
        log: onNote,
        onSign: (did) => tellSign(bus, did),
        pair: controller.pair,
        vouch: controller.vouch,
      },
      serving,
    ).catch(async (error: unknown) => {
      await state.close();
      throw error;
    });
    for (const warning of work?.tasks?.warnings ?? []) onNote(warning);
    const urls = urlsOf(options.publicUrl ?? server.url);
    const here = urlsOf(server.inside.url);
    const serves = (role: ServerRole) => roles.includes(role);

    let leadership: Leadership | undefined;
    let term: Term | undefined;

    async function begin(signal: AbortSignal): Promise<void> {
      if (!work) return;
      const disk = await openJetStreamDisk(bus, "home", { onDeposed: () => leadership?.resign() });
      const ends: (() => void)[] = [];
      term = { disk, ends };
      if (signal.aborted) return;
      const arrivals = new Arrivals(async (did) => (await state.presence.online([did])).has(did), onNote);
      ends.push(hearSigns(bus, (did) => arrivals.heard(did)));
      const controlling = await openControlling({
        ...options,
        ...work,
        name,
        ports,
        home: { disk, directory: "cluster" },
        urls,
        places: {
          relayUrl: serves("relay") ? here.relay_url : options.places?.relayUrl,
          registryUrl: serves("registry") ? here.registry_url : options.places?.registryUrl,
        },
        online: () => server.relay.connections(),
        forget: server.forget,
        arrivals,
      });
      term.controlling = controlling;
      if (signal.aborted) return;
      const { grants, vouch } = controlling.household;
      const operations = clusterOperations(controlling.household);
      const context = { node: controlling.node, signal, progress: () => undefined };
      const answers = {
        pair: (request: PairRequest) => grants.pair(request),
        vouch,
        operate: (operation: string, params: unknown) => runOperation(operations, operation, params, context),
      };
      // It answers before it joins: the registry may need it for that.
      ends.push(answerForController(bus, answers));
      await controlling.start();
    }

    async function end(): Promise<void> {
      const { disk, controlling, ends = [] } = term ?? {};
      term = undefined;
      for (const each of ends) each();
      await controlling?.sandboxes.close();
      await controlling?.node.close();
      await disk?.close();
    }

    const endWork = async () => {
      await leadership?.close();
      leadership = undefined;
    };
    if (work) leadership = await lead(bus, "controller", { onElected: begin, onDeposed: end });

    let closing: Promise<void> | undefined;
    const close = async () => {
      await endWork();
      await server.close();
      await bus.close();
    };
    return {
      urls,
      drain: () => server.drain(endWork),
      close: () => {
        closing ??= close();
        return closing;
      },
    };
  } catch (error) {
    await bus.close();
    throw error;
  }
}

// A controller waits for its sandboxes to come to a relay, whichever that is.

function tellSign(bus: Bus, did: string): void {
  try {
    bus.nats.publish(bus.subject("sign", tokenOf(did)));
  } catch (error) {
    // The next sign tells it.
    bus.log(`nats: a sign of life could not be told: ${asMeshError(error).message}`);
  }
}

/** Hears of every agent that comes, lives or leaves. Returns what ends that. */
function hearSigns(bus: Bus, heard: (did: string) => void): () => void {
  const subscription = bus.nats.subscribe(bus.subject("sign", "*"), {
    callback: (error, { subject }) => {
      if (!error) heard(didOfToken(subject.split(".").at(-1) ?? ""));
    },
  });
  return () => {
    if (!bus.nats.isClosed()) subscription.unsubscribe();
  };
}
