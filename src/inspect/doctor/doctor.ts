import { existsSync } from "node:fs";
import { join } from "node:path";
import { attach } from "../../actors/caller.ts";
import type { Diagnosis, Standing } from "../../actors/diagnosis.ts";
import type { Mesh } from "../../actors/mesh.ts";
import { repairedBeside } from "../../actors/opening.ts";
import type { Operations } from "../../actors/operations.ts";
import { LOCK_FILE, lockHome, type Ownership } from "../../actors/owner.ts";
import { placeOfOwner } from "../../actors/owner-socket.ts";
import type { Places } from "../../actors/places.ts";
import { forgettingText } from "../../actors/registry-forgot.ts";
import { environmentRelayToken } from "../../actors/relay-token.ts";
import type { Unlock } from "../../actors/unlock.ts";
import { asMeshError } from "../../errors.ts";
import { PRESENCE_EVERY_MS } from "../../machines/presence/limits.ts";
import { realDisk } from "../../store/disk.ts";
import { DOCTOR_WAIT_MS } from "../limits.ts";
import { type Check, counted, type Finding, failed, look, note, ok, problem } from "./check.ts";
import { diskSpace, nodeVersion, permissions } from "./files.ts";
import { type Reach, type RecordThere, reach } from "./network.ts";
import { examineStore } from "./store.ts";

// The doctor: looks at everything a home stands on, and changes nothing. It works on a home that is missing, damaged, or owned
// by another process: that one is asked for what only it knows, and the rest is read beside it.

export type { Check } from "./check.ts";

export interface DoctorReport {
  readonly checks: readonly Check[];
  /** No check is a problem. */
  readonly ok: boolean;
}

export interface DoctorOptions extends Reach {
  readonly home: string;
  readonly places?: Places;
  /** How a store key that does not lie in the open is come by: by the environment, unless given. */
  readonly unlock?: Unlock;
}

/** Everything that can be found out. It never fails: what cannot be looked at is one of the problems. */
export async function examine(options: DoctorOptions): Promise<DoctorReport> {
  const checks = [await look("node", () => nodeVersion())];
  const token = await look("relay_token", () => relayTokenFinding());
  // Most relays ask for no token, so an absent one is not reported.
  if (token.message !== "") checks.push(token);
  if (await isAbsent(options.home)) checks.push(await look("home", () => absence(options.home)));
  else checks.push(...(await examineHome(options)));
  return { checks, ok: checks.every(({ status }) => status !== "problem") };
}

function relayTokenFinding(): Finding {
  const token = environmentRelayToken();
  return ok(token === undefined ? "" : `KARS_MESH_RELAY_TOKEN has ${token.length} characters, which relays accept.`);
}

/** Nothing lies there but what everyone leaves who looks for a home. */
async function isAbsent(home: string): Promise<boolean> {
  const names = await realDisk.list(home).catch(() => ["unreadable"]);
  return names.every((name) => name.startsWith("owner."));
}

const absence = (home: string): Finding =>
  existsSync(repairedBeside(home))
    ? problem(`A repair of ${home} was interrupted: kars-mesh doctor --repair finishes it.`)
    : note(`There is nothing at ${home} yet. Pair with a token from a cluster's operator: kars-mesh pair <token>.`);

async function examineHome({ home, network, clock, unlock, places = {} }: DoctorOptions): Promise<Check[]> {
  const { finding, owner, ownership } = await findOwner(home);
  const checks: Check[] = [{ name: "ownership", ...finding }];
  const said = owner === "silent" ? undefined : owner;
  let standing: Standing | undefined = said;
  let oneTimePreKeys = said?.one_time_prekeys;
  try {
    checks.push(await look("permissions", () => permissions(home)));
    checks.push(await look("disk", () => diskSpace(home)));
    const store = await examineStore(home, owner, unlock);
    for (const name of ["journal", "vault", "snapshots", "blobs"] as const) checks.push({ name, ...store[name] });
    standing ??= store.standing;
    oneTimePreKeys ??= store.oneTimePreKeys;
  } catch (error) {
    checks.push(await look("store", () => Promise.reject(error)));
  } finally {
    // Whoever wants the home need not wait for the network.
    ownership?.release();
  }
  checks.push({ name: "pairing", ...pairingFinding(standing) });
  checks.push({ name: "prekeys", ...prekeysFinding(standing, oneTimePreKeys) });
  const { relay_url = null, registry_url = null } = standing?.pairing ?? {};
  // Of a home that belongs to no cluster there is nothing to reach.
  const relay = relay_url && (places.relayUrl ?? relay_url);
  const registry = registry_url && (places.registryUrl ?? registry_url);
  const found = await reach({ network, clock }, { relay, registry, did: standing?.pairing?.did ?? null }, said);
  checks.push({ name: "registration", ...registrationFinding(standing, said?.presence, found.record, clock.now()) });
  for (const name of ["registry", "relay", "clock"] as const) checks.push({ name, ...found[name] });
  return checks;
}

interface Owner {
  readonly finding: Finding;
  /** What the owner says; `silent` when it does not. */
  readonly owner?: Diagnosis | "silent";
  /** The right to the home, when nobody else has it: it is held while its files are read. */
  readonly ownership?: Ownership | undefined;
}

async function findOwner(home: string): Promise<Owner> {
  try {
    const mesh = await attach<Operations>(home);
    if (mesh) return await askOwner(mesh);
    // Nobody ever opened it here; claiming would leave a lock.
    if (!existsSync(join(home, LOCK_FILE))) return { finding: ok("No process has it open.") };
    const ownership = await lockHome(home);
    if (ownership) return { ownership, finding: ok("No process has it open.") };
    const { pid } = placeOfOwner(home);
    const process = pid === undefined ? "A process" : `Process ${pid}`;
    return { owner: "silent", finding: problem(`${process} has it open and does not answer. End it, and look again.`) };
  } catch (error) {
    return { finding: failed(error) };
  }
}

async function askOwner(mesh: Mesh): Promise<Owner> {
  const asked = performance.now();
  const patience = Promise.withResolvers<"silent">();
  const timer = setTimeout(() => patience.resolve("silent"), DOCTOR_WAIT_MS);
  try {
    const owner = await Promise.race([mesh.call("diagnose", {}), patience.promise]);
    const took = Math.round(performance.now() - asked);
    if (owner === "silent")
      return { owner, finding: problem("A process has it open and does not answer. End it, and look again.") };
    return { owner, finding: ok(`Process ${owner.pid} has it open, and answered in ${took} ms.`) };
  } catch (error) {
    const { message } = asMeshError(error);
    return {
      owner: "silent",
      finding: problem(`The process that has it open cannot be asked: ${message} Restart it.`),
    };
  } finally {
    clearTimeout(timer);
    // One that does not answer does not hang up either.
    void mesh.close();
  }
}

function pairingFinding(standing: Standing | undefined): Finding {
  if (!standing) return note("Not known: the journal cannot be read.");
  const { pairing, peers, sessions, queued } = standing;
  if (!pairing) return note("Not paired with a cluster. Pair with a token from its operator: kars-mesh pair <token>.");
  const { cluster, name, failure, plaintext, isMember } = pairing;
  // The registration has a check of its own.
  const state = pairing.rejoining && isMember ? "paired" : pairing.state;
  const mail = `${counted(peers, "peer")}, ${counted(sessions, "open session")}, ${counted(queued, "message")} waiting to leave`;
  const paired = `${name ?? "This laptop"} is paired with ${cluster ?? "a cluster"}; ${mail}.`;
  if (state === "paired" && plaintext)
    return note(`${paired} Its controller speaks plaintext: it and the relay read tasks and file names of offloads.`);
  if (state === "paired") return ok(paired);
  const why = failure === null ? "" : ` (${failure})`;
  return note(
    `Pairing with ${cluster ?? "a cluster"} stands at ${state}${why}; it goes on while a process has the home open.`,
  );
}

function prekeysFinding(standing: Standing | undefined, held: number | undefined): Finding {
  if (held === undefined) return note("Not known: the vault was not opened.");
  const prekeys = standing?.pairing?.prekeys;
  if (!prekeys && held === 0) return note("None were made yet; pairing makes them.");
  const { left = null, failure = null, signed_at: signedAt = null } = prekeys ?? {};
  const age = signedAt === null ? "" : `, a signed one of ${new Date(signedAt).toISOString().slice(0, 10)}`;
  if (failure !== null)
    return note(`${counted(held, "one-time prekey")}${age}; they could not be renewed (${failure}).`);
  if (held === 0 || left === 0)
    return note("The one-time prekeys are used up: first messages lose forward secrecy until new ones are published.");
  const there = left === null ? "" : `, ${left} at the registry when it was asked last`;
  return ok(`${counted(held, "one-time prekey")} left as far as is known here${there}${age}.`);
}

/** @param presence what the process that has the home open knows from the registry; absent when there is no such process */
function registrationFinding(
  standing: Standing | undefined,
  presence: Diagnosis["presence"] | undefined,
  record: RecordThere,
  now: number,
): Finding {
  const pairing = standing?.pairing;
  if (!pairing)
    return note(standing ? "Not paired, so there is no registration." : "Not known: the journal cannot be read.");
  const { forgotten, rejoining, problem: why } = pairing;
  const told = forgettingText(forgotten, now);
  const more = told === undefined ? "" : ` ${told}`;
  if (rejoining && forgotten?.again === null)
    return (why === null ? note : problem)(`${told}${presence ? "" : ` ${STAYS}`}`);
  if (rejoining)
    return note(`The record that an earlier version of this program registered is being replaced. ${why ?? ""}`.trim());
  if (pairing.state !== "paired" && pairing.state !== "asking")
    return note("Pairing has not finished; registration is a part of it.");
  if (record === "missing")
    return presence
      ? note(`The registry does not know this laptop. The process that has the home open registers it again.${more}`)
      : problem(
          `The registry does not know this laptop: nobody can find it or open a session with it. ${STAYS}${more}`,
        );
  if (presence?.problem) return note(`The registry does not hear from this laptop. ${presence.problem}${more}`);
  if (record === "unknown") return note(`The registry could not be asked for this laptop.${more}`);
  return ok(`The registry knows this laptop${presence ? presenceOf(presence) : ""}.${more}`);
}

const STAYS = "It is registered again when a process has the home open. Start one: kars-mesh run.";

function presenceOf({ state, known_at: knownAt }: Diagnosis["presence"]): string {
  if (state === "seen") return ", and sees through the relay that it is online";
  if (knownAt === null) return "";
  const last = new Date(knownAt).toISOString().slice(11, 19);
  return `, and gets a heartbeat every ${PRESENCE_EVERY_MS / 1000} s, last at ${last} UTC`;
}
