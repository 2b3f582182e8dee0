import { basename, dirname } from "node:path/posix";
import { Keyring } from "../../src/actors/keyring.ts";
import { Lanes } from "../../src/actors/lanes.ts";
import { Population } from "../../src/actors/population.ts";
import type { Network } from "../../src/actors/ports.ts";
import { PreKeys } from "../../src/actors/prekeys.ts";
import { MessagesProjection } from "../../src/actors/projections/messages.ts";
import { ActorSystem } from "../../src/actors/system.ts";
import { Generations } from "../../src/cluster/embedded/generations.ts";
import type { FileSystem, OpenFile } from "../../src/store/file-system.ts";
import { Secrets } from "../../src/store/secrets.ts";
import { ADMISSION_MUTANTS } from "./admission-mutants.ts";
import { ARRIVAL_MUTANTS } from "./arrival-mutants.ts";
import { type Mutant, replacing } from "./mutant.ts";

// Deliberate breakages, each of which the simulation must find: who cannot find them would not find the like of them in the
// program. Each replaces something from outside, for the time of a run.

/** Files whose handles have something replaced. */
const handles =
  (replace: (open: OpenFile, path: string, flags: string) => Partial<OpenFile>) =>
  (files: FileSystem): FileSystem => ({
    ...files,
    open: async (path, flags, mode) => {
      const open = await files.open(path, flags, mode);
      return { ...open, ...replace(open, path, flags) };
    },
  });

const nothing = async () => undefined;

/** Acks a message as soon as it comes. */
const hasty = (network: Network): Network => ({
  ...network,
  dial: (url, events) => {
    const socket = network.dial(url, {
      ...events,
      received: (text) => {
        const { type, id, from } = JSON.parse(text.toString());
        if (type === "message") socket.send(JSON.stringify({ v: 1, type: "ack", id, sender: from }));
        events.received(text);
      },
    });
    return socket;
  },
});

export const MUTANTS: readonly Mutant[] = [
  {
    name: "ack-before-commit",
    shownBy: 9,
    breakage: "a message is acked before it is on disk",
    tampering: { network: hasty },
  },
  {
    name: "publish-before-sync",
    breakage: "a commit is published while its sync has only begun",
    tampering: {
      files: handles((open) => ({
        datasync: async () => {
          open.datasync().catch(() => undefined);
        },
      })),
    },
  },
  {
    name: "no-sync-of-appends",
    breakage: "what is appended to the journal is not synced",
    tampering: { files: handles(() => ({ datasync: nothing })) },
  },
  {
    name: "no-sync-of-directories",
    breakage: "a directory is not synced after a rename or a creation in it",
    tampering: { files: handles((_, __, flags) => (flags === "r" ? { sync: nothing } : {})) },
  },
  {
    name: "no-sync-of-replacements",
    breakage: "a file takes another's place before its own bytes are synced",
    tampering: { files: handles((_, __, flags) => (flags === "wx" ? { sync: nothing } : {})) },
  },
  {
    name: "torn-tail-kept",
    breakage: "a torn tail of the journal is not cut off",
    tampering: { files: handles(() => ({ truncate: nothing })) },
  },
  {
    name: "unsettled-vault",
    shownBy: 69,
    breakage: "what a killed process had renamed is not made durable by the next",
    tampering: {
      disk: (disk) => ({
        ...disk,
        settle: nothing,
        makeDirectory: async (path) => {
          const isThere = (await disk.list(dirname(path))).includes(basename(path));
          if (!isThere) await disk.makeDirectory(path);
        },
      }),
    },
  },
  {
    name: "secrets-not-recovered",
    breakage: "after a restart the ratchets are those of the epoch's beginning: message keys are used again",
    apply: replacing(Secrets.prototype, "recover", () => () => undefined),
  },
  {
    name: "ratchet-not-kept",
    breakage: "a ratchet that moved is not in the commit: after a restart its message keys are used again",
    apply: () => {
      const { ratchetPatch } = Keyring;
      Keyring.ratchetPatch = (session, ratchet, from, change) =>
        from ? {} : ratchetPatch(session, ratchet, from, change);
      return () => {
        Keyring.ratchetPatch = ratchetPatch;
      };
    },
  },
  {
    name: "secrets-not-confirmed",
    breakage: "the vault is rewritten with the secrets of the epoch's beginning",
    apply: replacing(Secrets.prototype, "confirm", () => () => undefined),
  },
  {
    name: "vault-behind-the-journal",
    breakage: "the vault is written with the position of the commit before",
    apply: replacing(
      Secrets.prototype,
      "turnEpoch",
      (original) =>
        function (this: Secrets, position, now) {
          return original.call(this, position - 1, now);
        },
    ),
  },
  {
    name: "snapshot-without-timers",
    breakage: "deadlines are not in the snapshot",
    apply: replacing(
      ActorSystem.prototype,
      "restore",
      (original) =>
        function (this: ActorSystem, position, { actors, projections }) {
          const bare = Object.entries(actors).map(([stream, state]) => [stream, { ...state, timers: {} }]);
          return original.call(this, position, { actors: Object.fromEntries(bare), projections });
        },
    ),
  },
  {
    name: "snapshot-from-the-future",
    breakage: "a snapshot says that it stands one commit later than it does",
    apply: replacing(
      ActorSystem.prototype,
      "capture",
      (original) =>
        function (this: ActorSystem) {
          const { position, state } = original.call(this);
          return { position: position + 1, state };
        },
    ),
  },
  {
    name: "keyring-not-rolled-back",
    shownBy: 264,
    breakage: "the ratchets in memory outlive a commit that was lost",
    apply: replacing(Keyring.prototype, "rollBack", () => () => undefined),
  },
  {
    name: "actors-not-rolled-back",
    breakage: "what was decided outlives a commit that was lost",
    apply: replacing(Population.prototype, "rollBack", () => () => undefined),
  },
  {
    name: "not-resumed",
    breakage: "nothing that was pending is asked for again after a restart",
    apply: replacing(
      ActorSystem.prototype,
      "start",
      (original) =>
        function (this: ActorSystem) {
          this.resume = () => undefined;
          original.call(this);
          Reflect.deleteProperty(this, "resume");
        },
    ),
  },
  {
    name: "not-resumed-online",
    shownBy: 19,
    breakage: "nothing that was pending is asked for again when the link comes up",
    apply: () => {
      const { start, resume } = ActorSystem.prototype;
      let isStarting = false;
      ActorSystem.prototype.start = function (this: ActorSystem) {
        isStarting = true;
        start.call(this);
        isStarting = false;
      };
      ActorSystem.prototype.resume = function (this: ActorSystem, kind) {
        if (isStarting) resume.call(this, kind);
      };
      return () => Object.assign(ActorSystem.prototype, { start, resume });
    },
  },
  {
    name: "no-lanes",
    shownBy: 24,
    breakage: "what belongs to one peer does not wait for what came before it",
    apply: replacing(Lanes.prototype, "run", () => (_, work) => work()),
  },
  {
    name: "received-forgotten",
    shownBy: 19,
    breakage: "the ids of what was received are not in the snapshot",
    apply: replacing(
      MessagesProjection.prototype,
      "restore",
      (original) =>
        function (this: MessagesProjection, state) {
          return original.call(this, { ...(state as object), incoming: [] });
        },
    ),
  },
  {
    name: "accepted-before-stored",
    breakage: "the relay says that it has a frame which is not on disk yet",
    apply: replacing(
      Generations.prototype,
      "append",
      (original) =>
        async function (this: Generations, draft) {
          original.call(this, draft).catch(() => undefined);
          return { number: 0, at: 0, entries: [], place: { segment: "", offset: 0, length: 0 } };
        },
    ),
  },
  {
    name: "told-before-durable",
    breakage: "what is only decided is said to be durable",
    apply: replacing(
      ActorSystem.prototype,
      "commit",
      (original) =>
        function (this: ActorSystem, entries, options) {
          const { accepted, durable } = original.call(this, entries, options);
          durable.catch(() => undefined);
          return { accepted, durable: Promise.resolve() };
        },
    ),
  },
  {
    name: "prekeys-not-adopted",
    shownBy: 14,
    breakage: "nobody looks after prekeys once pairing has published them",
    apply: replacing(PreKeys.prototype, "adoption", () => () => []),
  },
  ...ADMISSION_MUTANTS,
  ...ARRIVAL_MUTANTS,
];
