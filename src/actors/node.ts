import { asMeshError, MeshError } from "../errors.ts";
import { EPOCH_COMMITS_MAX, EPOCH_TIME_MAX_MS, SEGMENT_SIZE_MAX, SNAPSHOT_EVERY_COMMITS } from "../limits.ts";
import type { Body } from "../machines/definition.ts";
import type { Journal } from "../store/journal.ts";
import type { Protection, StoreKey, Wish } from "../store/key.ts";
import { Admission } from "./admission.ts";
import { Arrivals } from "./arrivals.ts";
import { Bodies } from "./bodies.ts";
import type { Core } from "./core.ts";
import type { Performers } from "./effects.ts";
import type { FileTaker } from "./file-transfers.ts";
import { type Epoch, Housekeeping } from "./housekeeping.ts";
import { IncomingMail } from "./incoming.ts";
import { Knocks } from "./knocks.ts";
import { Lanes } from "./lanes.ts";
import { Plaintext } from "./legacy/plaintext.ts";
import { LegacySandboxes } from "./legacy/sandboxes.ts";
import { Link } from "./link.ts";
import { Membership } from "./membership.ts";
import { networkAt } from "./network.ts";
import { Offloads } from "./offloads.ts";
import { type OpenOptions, openStore, type Store, type StoreLimits } from "./opening.ts";
import { OutgoingMail } from "./outgoing.ts";
import type { Places } from "./places.ts";
import { type Ports, realPorts } from "./ports.ts";
import { Presence } from "./presence.ts";
import { Receipts } from "./receipts.ts";
import { Sessions } from "./sessions.ts";
import { probeStore, StoreHealth } from "./store-health.ts";
import { Unreadable } from "./unreadable.ts";
import { Handling, type Verdict, type Work, type WorkHandler } from "./work.ts";

// One node: a state directory, its actors and its link. A laptop is one, so are a controller and a sandbox.

const STORE_LIMITS: StoreLimits = {
  segmentSize: SEGMENT_SIZE_MAX,
  epochCommits: EPOCH_COMMITS_MAX,
  epochTimeMs: EPOCH_TIME_MAX_MS,
  snapshotCommits: SNAPSHOT_EVERY_COMMITS,
};

export interface NodeOptions extends OpenOptions {
  readonly ports?: Ports;
  /** Work that is not an offload of ours. */
  readonly onWork?: WorkHandler;
  /** Who takes the files that peers offer; absent, they are results of offloads of ours. */
  readonly files?: FileTaker;
  /** Bytes of a file, each way; FILE_SIZE_MAX unless given. */
  readonly fileSizeMax?: number | undefined;
  /** The relay's access token, where it asks for one; of a laptop's node KARS_MESH_RELAY_TOKEN names it. */
  readonly relayToken?: string | undefined;
  /** Where relay and registry are reached from here, in place of what the cluster says. */
  readonly places?: Places | undefined;
}

export class MeshNode {
  readonly home: string;
  readonly core: Core;
  readonly journal: Journal;
  readonly membership: Membership;
  readonly presence: Presence;
  readonly admission: Admission;
  readonly sessions: Sessions;
  readonly knocks: Knocks;
  readonly receipts: Receipts;
  readonly arrivals: Arrivals;
  readonly outgoing: OutgoingMail;
  readonly incoming: IncomingMail;
  readonly plaintext: Plaintext;
  readonly offloads: Offloads;
  readonly health: StoreHealth;
  readonly #unreadable: Unreadable;
  readonly #housekeeping: Housekeeping;
  readonly #storeKey: StoreKey;
  readonly #stopped = new AbortController();
  #started = false;

  private constructor(options: NodeOptions, ports: Ports, store: Store) {
    const { system, journal, secrets, storeKey, keyring, blobs, messages } = store;
    this.home = options.home;
    this.journal = journal;
    this.#storeKey = storeKey;
    const note = options.onNote ?? (() => undefined);
    const limits = { ...STORE_LIMITS, ...options.limits };
    this.#housekeeping = new Housekeeping({
      home: options.home,
      ports,
      system,
      journal,
      secrets,
      storeKey,
      limits,
      note,
    });
    const bodies = new Bodies(keyring, blobs, ports.random);
    const lanes = new Lanes();
    const link = new Link({
      system,
      ports,
      identity: () => keyring.identity,
      token: options.relayToken,
      onFrame: (frame, size) => this.incoming.onFrame(frame, size),
      // Knocks go before the messages that need them.
      onUp: () => {
        system.resume("session");
        this.arrivals.onUp();
        system.resume("conversation");
        // A disk that refuses is told of already, and the effect is asked for again.
        this.membership.asking
          .onUp()
          .catch((error: unknown) => note(`A controller could not be asked: ${asMeshError(error).message}`));
      },
      onPlain: (frame) => this.plaintext.onFrame(frame),
      onNote: note,
    });
    this.core = {
      system,
      ports,
      keyring,
      bodies,
      lanes,
      link,
      messages,
      note,
      signal: this.signal,
      registry: () => this.membership.registryOf(this.membership.current),
    };
    this.membership = new Membership(this.core, options.places);
    this.presence = new Presence(this.core, this.membership);
    this.admission = new Admission(this.core, () => this.membership.current);
    this.sessions = new Sessions(this.core, this.admission);
    const unreadable = new Unreadable(this.core, journal);
    this.#unreadable = unreadable;
    this.outgoing = new OutgoingMail(this.core, this.sessions.renewal);
    const arrivals = new Arrivals(this.core, this.sessions, this.outgoing);
    this.outgoing.watcher = arrivals;
    this.arrivals = arrivals;
    this.knocks = new Knocks(this.core, this.membership, this.sessions, this.admission, unreadable, arrivals);
    this.receipts = new Receipts(this.core);
    const onWork = async (work: Work): Promise<Verdict> =>
      (await options.onWork?.(work)) ??
      (await sandboxes.handle(work)) ??
      sandboxes.answered(work, await this.offloads.handle(work));
    const sandboxes = new LegacySandboxes(this.core, (peer) => handling.again(peer));
    this.offloads = new Offloads(
      this.core,
      this.admission,
      options.home,
      () => this.membership.current?.grant?.slots,
      sandboxes.performers,
      options.fileSizeMax,
    );
    // Nobody reads the inbox of a cluster's own nodes.
    const hasReader = options.onWork === undefined;
    const handling = new Handling(this.core, this.outgoing, onWork, options.files ?? this.offloads.files, hasReader);
    // What a sandbox was still sending for an offload that is over is let go of.
    system.subscribe(({ stream, state: { snapshot } }) => {
      const isOver = stream.startsWith("offload/") && !snapshot.matches("active");
      if (isOver && snapshot.context.sandbox.did !== null) handling.again(snapshot.context.sandbox.did);
    });
    this.incoming = new IncomingMail(this.core, this.sessions, this.knocks, this.admission, unreadable, arrivals);
    this.plaintext = new Plaintext(this.core, this.membership.asking, {
      current: () => this.membership.current,
      isDeclined: (peer) => this.admission.isDeclined(peer),
      count: (peer, counter) => this.incoming.count(peer, counter),
    });
    system.perform("session", {
      knock: ({ session }: { session: string }) => this.sessions.knock(session),
      answer: ({ session }: { session: string }) => this.sessions.answer(session),
    });
    system.perform("conversation", {
      establish: ({ peer }: { peer: string }) => this.sessions.establish(peer),
      seal: ({ peer, ids }: Addressed) => this.outgoing.seal(peer, ids),
      transmit: ({ peer, ids }: Addressed) => this.outgoing.transmit(peer, ids),
      transmitPlain: ({ peer }: { peer: string }) => this.plaintext.transmit(peer),
      handle: ({ peer, ids }: Addressed) => handling.handle(peer, ids),
      receipt: ({ peer }: { peer: string }) => this.receipts.soon(peer),
      turnAway: ({ peer }: { peer: string }) => this.knocks.turnAway(peer),
      welcome: ({ peer }: { peer: string }) => {
        this.knocks.welcome(peer);
        this.incoming.welcome(peer);
      },
      forget: ({ peer }: { peer: string }) => {
        this.outgoing.forget(peer);
        arrivals.forget(peer);
        handling.forget(peer);
      },
      discard: ({ bodies: gone }: { bodies: readonly Body[] }) => bodies.discard(gone),
    });
    this.health = new StoreHealth({
      clock: ports.clock,
      probe: () => probeStore(ports.disk, options.home, journal, () => secrets.certain()),
      onFailing: () => {
        // The relay keeps what comes now, and tells those who ask that nobody is here to take it.
        link.pause();
        system.stop();
        this.incoming.pause();
      },
      onRecovered: () => {
        this.incoming.proceed();
        this.plaintext.proceed();
        if (this.#started) system.start();
        link.proceed();
      },
      onRetry: () => {
        if (this.#started) system.start();
      },
      onNote: note,
    });
    store.listener = this.health;
    system.subscribe(({ commit }) => {
      if (commit) this.health.wrote();
    });
    this.sessions.known.index();
    this.outgoing.recovered();
  }

  /**
   * Opens a state directory: vault, snapshots, tail of the journal. Nothing is performed before `start`.
   * @throws MeshError `store_damaged`, `store_newer`, `store_io`, `store_key_unreadable`, `passphrase_*`,
   * `keychain_unavailable`
   */
  static async open(options: NodeOptions): Promise<MeshNode> {
    const ports = options.ports ?? realPorts(networkAt(options.home));
    const store = await openStore(options, ports);
    const { cut } = store.journal.report;
    if (cut)
      options.onNote?.(
        `A torn write of ${cut.bytes} bytes at the end of ${cut.segment} was cut off; nothing that was acknowledged is lost.`,
      );
    return new MeshNode(options, ports, store);
  }

  /** Effects of further machines; before `start`. */
  perform(kind: string, performers: Performers): void {
    this.core.system.perform(kind, performers);
  }

  /** Deadlines are armed, pending effects are asked for again, and the link comes up if the node belongs to a cluster. */
  start(): void {
    this.#started = true;
    this.core.system.start();
    this.#housekeeping.start();
  }

  /** The epoch that runs. */
  get epoch(): Epoch {
    return this.#housekeeping.epoch;
  }

  /** What was destroyed so far is gone from every file when this has ended. @throws MeshError `store_io` */
  async endEpoch(): Promise<void> {
    try {
      await this.#housekeeping.endEpoch();
    } catch (cause) {
      throw new MeshError("store_io", `${cause instanceof Error ? cause.message : String(cause)}.`, { cause });
    }
  }

  /** How the key of the state directory is protected. */
  get protection(): Protection {
    return this.#storeKey.protection;
  }

  /** Draws a new store key, protected as is wished: see `StoreKey.change`. @throws MeshError */
  changeKey(wish: Wish): Promise<void> {
    return this.#housekeeping.changeKey(wish);
  }

  /** Aborts when the node closes: whoever waits on it ends then. */
  get signal(): AbortSignal {
    return this.#stopped.signal;
  }

  /** Ends the link, lets what runs come to an end, turns the epoch and writes the snapshots. */
  async close(): Promise<void> {
    if (this.#stopped.signal.aborted) return;
    this.#stopped.abort(new MeshError("closed"));
    const { system, link, lanes } = this.core;
    this.health.close();
    // What is under way comes to its end; what waits behind a frame that can no more be judged must not overtake it.
    this.incoming.pause();
    this.receipts.close();
    this.arrivals.close();
    this.sessions.renewal.close();
    this.#unreadable.close();
    link.disconnect();
    system.stop();
    await lanes.idle();
    await this.#housekeeping.close();
    await this.journal.close();
  }
}

interface Addressed {
  readonly peer: string;
  readonly ids: readonly string[];
}
