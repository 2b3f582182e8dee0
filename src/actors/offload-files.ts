import { join as joinPath } from "node:path";
import { MeshError } from "../errors.ts";
import { FILE_SIZE_MAX, FILES_MAX, RUN_LOG_SIZE_MAX } from "../limits.ts";
import type { UntimedOffloadEvent as Event, OffloadContext } from "../machines/offload/events.ts";
import type { PayloadOf } from "../wire/payload.ts";
import { type Core, isoNow } from "./core.ts";
import { compose, type Draft, entriesOnly, join } from "./drafts.ts";
import { offer, type Pull, pieces, pullsFiles, sentBefore } from "./file-offers.ts";
import { RAISE_HERE, SENT_WHOLE, tooLarge } from "./file-size.ts";
import type { FileTaker, Offer } from "./file-transfers.ts";
import { type FileToSend, problemWith, readInspected, type SavedFile } from "./files.ts";
import { told } from "./offload-news.ts";
import { offloadOf, requestOf, viewOffload } from "./offload-view.ts";

// The files of offloads as the laptop sends and takes them. To a sandbox that pulls they are offered; to another they are sent
// whole, one after the other.

const transferOf = (id: string, index: number) => `${id}.file.${index}`;

/** Which offload's file a transfer of ours is, and which of them. */
function fileOf(transfer: string): { readonly id: string; readonly index: number } | undefined {
  const [, id, index] = /^(.+)\.file\.(\d{1,3})$/.exec(transfer) ?? [];
  return id === undefined ? undefined : { id, index: Number(index) };
}

/** Why another result file is not taken when an offload has so many. */
export const tooMany = (results: number): MeshError | undefined =>
  results < FILES_MAX ? undefined : new MeshError("limit_reached", `An offload has at most ${FILES_MAX} result files.`);

/** Why a log is not taken: an offload has one, no longer than a sandbox keeps it. */
function logProblem({ log }: OffloadContext, coming: number, name: string, size: number): MeshError | undefined {
  if (log !== null || coming > 0) return new MeshError("limit_reached", "An offload has one log.");
  return size > RUN_LOG_SIZE_MAX ? tooLarge(name, size, RUN_LOG_SIZE_MAX, "A sandbox cuts its log there.") : undefined;
}

export class OffloadFiles implements FileTaker {
  readonly #core: Core;
  readonly #folder: string;
  /** Results that are offered and not here, by offload and transfer. */
  readonly #coming = new Map<string, Map<string, Pick<Offer, "size_bytes" | "role">>>();

  readonly #sizeMax: number;

  /** @param folder where result files are saved, a folder an offload @param sizeMax bytes of a file, each way */
  constructor(core: Core, folder: string, sizeMax: number) {
    this.#core = core;
    this.#folder = folder;
    this.#sizeMax = sizeMax;
  }

  /** Why a file does not go, or is not taken, for its size. @param whole its other side takes it whole or not at all */
  refusal(name: string, size: number, whole: boolean): MeshError | undefined {
    if (whole && size > FILE_SIZE_MAX) return tooLarge(name, size, FILE_SIZE_MAX, SENT_WHOLE);
    return size > this.#sizeMax ? tooLarge(name, size, this.#sizeMax, RAISE_HERE) : undefined;
  }

  #context(id: string): OffloadContext | undefined {
    return this.#core.system.decided(offloadOf(id))?.snapshot.context;
  }

  #isActive = (id: string): boolean => this.#core.system.decided(offloadOf(id))?.snapshot.matches("active") ?? false;

  async #commit({ entries, secrets, before }: Draft): Promise<void> {
    await this.#core.system.commit(entries, { secrets, before }).durable;
  }

  // To the sandbox

  /** Files and task are on their way when this has ended. A repetition sends nothing twice. @throws MeshError `file_unreadable`, `file_too_large` */
  async upload(id: string): Promise<void> {
    const core = this.#core;
    const peer = this.#context(id)?.sandbox.did;
    if (!peer) throw new Error(`offload ${id} has no sandbox`);
    const { task, files } = await requestOf(core, id);
    const handing = compose(
      core,
      peer,
      {
        type: "offload_task",
        request_id: id,
        task,
        files: files.map(({ name }) => name),
        timestamp: isoNow(core),
      },
      `${id}.task`,
    );
    const tell = (event: Event) => entriesOnly({ stream: offloadOf(id), event });
    if (files.length > 0 && pullsFiles(core, peer)) {
      const offers = files.map((file, index) => offer(core, peer, id, transferOf(id, index), file));
      await this.#commit(join(...offers, handing, tell({ type: "OFFERED" })));
      return;
    }
    for (const { name, size } of files) {
      const problem = this.refusal(name, size, true);
      if (problem) throw problem;
    }
    for (const [index, file] of files.entries()) await this.#sendWhole(id, peer, index, file);
    await this.#commit(join(handing, tell({ type: "UPLOADED" })));
  }

  async #sendWhole(id: string, peer: string, index: number, file: FileToSend): Promise<void> {
    const bytes = await readInspected(this.#core.ports.disk, file);
    const payload: PayloadOf<"file_transfer"> = {
      type: "file_transfer",
      file_name: file.name,
      file_data: Buffer.from(bytes).toString("base64"),
      size_bytes: file.size,
      sha256: file.sha256,
      request_id: id,
      timestamp: isoNow(this.#core),
    };
    await this.#commit(compose(this.#core, peer, payload, transferOf(id, index)));
  }

  /** What follows from a sandbox's pull; undefined when it pulls nothing of its own. */
  async pulled(peer: string, pull: Pull): Promise<Draft | undefined> {
    const asked = await this.#offered(peer, pull.transfer_id);
    if (!asked) return undefined;
    const { id, file, before, total } = asked;
    const sent: Event = { type: "TRANSFERRED", way: "up", bytes: before + sentBefore(pull, file), total };
    try {
      return join(await pieces(this.#core, peer, file, pull), entriesOnly({ stream: offloadOf(id), event: sent }));
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== "file_unreadable") throw error;
      return told(this.#core, id, error.message, (note) => ({ type: "FAILED", code: error.code, ...note }));
    }
  }

  /** What follows from a sandbox's word about a file that it was offered. */
  async acknowledged(peer: string, ack: PayloadOf<"file_transfer_ack">): Promise<Draft | undefined> {
    if (ack.transfer_id === undefined) return this.#refusedWhole(peer, ack);
    const asked = await this.#offered(peer, ack.transfer_id);
    if (!asked) return undefined;
    const { id, file, before, total } = asked;
    if (!ack.success) return this.#refused(id, file, ack.error);
    const event: Event = { type: "TRANSFERRED", way: "up", bytes: before + file.size, total };
    return entriesOnly({ stream: offloadOf(id), event });
  }

  /** A file that was sent whole: its sandbox may name neither the transfer nor the offload, which is then the one that runs there. */
  async #refusedWhole(peer: string, ack: PayloadOf<"file_transfer_ack">): Promise<Draft | undefined> {
    if (ack.success) return undefined;
    for (const [stream, { snapshot }] of this.#core.system.streams("offload")) {
      const { id, sandbox }: OffloadContext = snapshot.context;
      const isMeant = sandbox.did === peer && (ack.request_id ?? id) === id && this.#isActive(id);
      const file = isMeant
        ? (await requestOf(this.#core, id)).files.find(({ name }) => name === ack.file_name)
        : undefined;
      if (file) return this.#refused(id, file, ack.error);
      if (isMeant) this.#core.note(`${peer}, the sandbox of ${stream}, refuses a file that it was not sent; ignored.`);
    }
    return undefined;
  }

  /** The sandbox has not taken a file, and will not begin as it was meant to. */
  async #refused(id: string, file: FileToSend, error: string | undefined): Promise<Draft> {
    const reason = error?.replace(/\.+$/, "") || "no reason was given";
    const theirs = new MeshError("file_refused", `${file.name}: ${reason}.`);
    const { code, message } = (await problemWith(this.#core.ports.disk, file)) ?? theirs;
    return told(this.#core, id, message, (note) => ({ type: "FAILED", code, ...note }));
  }

  /** A file that this sandbox was offered, of an offload that goes on. */
  async #offered(peer: string, transfer: string) {
    const { id, index } = fileOf(transfer) ?? { id: "", index: 0 };
    if (this.#context(id)?.sandbox.did !== peer || !this.#isActive(id)) return undefined;
    const { files } = await requestOf(this.#core, id);
    const file = files[index];
    if (!file) return undefined;
    const before = files.slice(0, index).reduce((sum, { size }) => sum + size, 0);
    return { id, file, before, total: files.reduce((sum, { size }) => sum + size, 0) };
  }

  // From the sandbox

  async place(peer: string, { request_id: id, transfer_id, size_bytes, file_name, role }: Offer) {
    const context = this.#context(id);
    if (context?.sandbox.did !== peer) return undefined;
    if (!this.#isActive(id)) return "over";
    const coming = this.#coming.get(id) ?? new Map<string, Pick<Offer, "size_bytes" | "role">>();
    const alike = [...coming].filter(([other, each]) => other !== transfer_id && each.role === role).length;
    const problem =
      role === "log"
        ? logProblem(context, alike, file_name, size_bytes)
        : this.#problem(context, alike, file_name, size_bytes);
    if (problem) return { refused: problem };
    this.#coming.set(id, coming.set(transfer_id, { size_bytes, role }));
    return { directory: joinPath(this.#folder, id) };
  }

  #problem({ results }: OffloadContext, coming: number, name: string, size: number): MeshError | undefined {
    return tooMany(results.length + coming) ?? this.refusal(name, size, false);
  }

  wants(peer: string, { request_id: id, transfer_id }: Offer): boolean {
    const isWanted = this.#context(id)?.sandbox.did === peer && this.#isActive(id);
    if (!isWanted) this.#gone(id, transfer_id);
    return isWanted;
  }

  async names(_: string, { request_id: id }: Offer): Promise<ReadonlySet<string>> {
    const { files, log } = await viewOffload(this.#core, this.#folder, id);
    return new Set([...files, ...(log === null ? [] : [log])].map(({ name }) => name));
  }

  progressed(_: string, { request_id: id }: Offer, here: number): Draft {
    const saved = this.#context(id)?.results.reduce((sum, { size }) => sum + size, 0) ?? 0;
    const coming = [...(this.#coming.get(id)?.values() ?? [])].reduce((sum, { size_bytes }) => sum + size_bytes, 0);
    const event: Event = { type: "TRANSFERRED", way: "down", bytes: saved + here, total: saved + coming };
    return entriesOnly({ stream: offloadOf(id), event });
  }

  async saved(_: string, { request_id: id, transfer_id, role }: Offer, { name, path, size, sha256 }: SavedFile) {
    const { body, secrets, before } = this.#core.bodies.seal(offloadOf(id), JSON.stringify({ name, path }));
    const event: Event = { type: role === "log" ? "LOG_SAVED" : "FILE_SAVED", body, size, sha256 };
    const begin = () => this.#gone(id, transfer_id);
    return { entries: [{ stream: offloadOf(id), event }], secrets, ...(before && { before }), begin };
  }

  async failed(_: string, { request_id: id, transfer_id, role }: Offer, { code, message }: MeshError): Promise<Draft> {
    this.#gone(id, transfer_id);
    // The result is none the worse for a log that is not here.
    if (role === "log") {
      this.#core.note(`The log of offload ${id} was not taken: ${message}`);
      return entriesOnly();
    }
    return told(this.#core, id, message, (note) => ({ type: "FAILED", code, ...note }));
  }

  #gone(id: string, transfer: string): void {
    const coming = this.#coming.get(id);
    coming?.delete(transfer);
    if (coming?.size === 0) this.#coming.delete(id);
  }
}
