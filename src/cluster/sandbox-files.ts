import { hash } from "node:crypto";
import type { Core } from "../actors/core.ts";
import { compose, type Draft, entriesOnly, join } from "../actors/drafts.ts";
import { offer, type Pull, pieces, pullsFiles } from "../actors/file-offers.ts";
import { RAISE_THERE, SENT_WHOLE, tooLarge } from "../actors/file-size.ts";
import type { Offer } from "../actors/file-transfers.ts";
import { type FileToSend, inspectFiles, readInspected, saveFile } from "../actors/files.ts";
import type { Follow } from "../actors/work.ts";
import { MeshError } from "../errors.ts";
import { FILE_SIZE_MAX, FILES_MAX } from "../limits.ts";
import type { PayloadOf } from "../wire/payload.ts";
import { LOG_WAIT_MS } from "./limits.ts";
import { fileSizeMaxOf, type TaskRules } from "./runner/rules.ts";

// The files of one sandbox: those that a laptop sends along, which lie in the working directory before the task begins, and
// those that came of it, which go back.

export interface SandboxFilesOptions {
  readonly core: () => Core;
  readonly laptop: string;
  readonly run: string;
  /** The working directory. */
  readonly directory: string;
  readonly rules: Pick<TaskRules, "max_file_mb">;
  /** Whether the task has begun: from then on it controls the folder, and nothing is named there from outside. */
  readonly isBegun: () => boolean;
  /** Told of each file that is here: what was waiting for it follows. */
  readonly onReceived: () => Follow;
}

const TOO_LATE = "The task has begun: it takes no more files.";

export class SandboxFiles {
  readonly #options: SandboxFilesOptions;
  /** The names of the files that are here. */
  readonly received = new Set<string>();
  /** Result files that are offered, by transfer. */
  readonly #offered = new Map<string, FileToSend>();

  /** Who waits for the laptop's word about a file, by transfer. */
  readonly #answers = new Map<string, () => void>();

  constructor(options: SandboxFilesOptions) {
    this.#options = options;
  }

  // From the laptop

  async place(peer: string, { request_id, file_name, size_bytes }: Offer) {
    const { laptop, run, directory, rules, isBegun } = this.#options;
    if (peer !== laptop || request_id !== run) return undefined;
    if (isBegun()) return { refused: new MeshError("cluster_refused", TOO_LATE) };
    const sizeMax = fileSizeMaxOf(rules);
    if (size_bytes > sizeMax) return { refused: tooLarge(file_name, size_bytes, sizeMax, RAISE_THERE) };
    if (this.received.size < FILES_MAX) return { directory };
    return { refused: new MeshError("limit_reached", `An offload has at most ${FILES_MAX} files.`) };
  }

  /** Whether a file that is on its way is still taken. */
  get areWanted(): boolean {
    return !this.#options.isBegun();
  }

  async saved(_peer: string, _offer: Offer, { name }: { readonly name: string }): Promise<Follow> {
    this.received.add(name);
    return this.#options.onReceived();
  }

  /** A file that came whole in one message. */
  async take(payload: PayloadOf<"file_transfer">, id: string): Promise<Follow> {
    const { core, laptop, run, directory, rules, isBegun, onReceived } = this.#options;
    const { file_name, size_bytes } = payload;
    const bytes = Buffer.from(payload.file_data, "base64");
    const sha256 = hash("sha256", bytes, "hex");
    const answer = (problem?: string): Draft => {
      const about = { file_name, request_id: run, ...(problem !== undefined && { error: problem }) };
      const ack = { type: "file_transfer_ack" as const, success: problem === undefined, ...about };
      return compose(core(), laptop, ack, `${id}.ack`);
    };
    if (isBegun()) return answer(TOO_LATE);
    if (bytes.length !== size_bytes || sha256 !== (payload.sha256 ?? sha256)) return answer("it did not arrive whole");
    const sizeMax = fileSizeMaxOf(rules);
    if (size_bytes > sizeMax) return answer(tooLarge(file_name, size_bytes, sizeMax, RAISE_THERE).message);
    if (this.received.size >= FILES_MAX) return answer(`there are ${FILES_MAX} files already`);
    const wanted = { directory, name: file_name, taken: this.received, size: bytes.length, sha256 };
    this.received.add((await saveFile(core().ports.disk, wanted, bytes)).name);
    const follow = onReceived();
    return { ...follow, ...join(answer(), follow) };
  }

  // Back to the laptop

  /** Sends result files, or offers them to a laptop that pulls. Gives their names. @throws MeshError `file_too_large` */
  async send(paths: readonly string[], commit: (draft: () => Draft) => Promise<void>): Promise<string[]> {
    const { core, laptop, run } = this.#options;
    const { disk } = core().ports;
    const files = await inspectFiles(disk, paths);
    const pulls = pullsFiles(core(), laptop);
    const tooMuch = pulls ? undefined : files.find(({ size }) => size > FILE_SIZE_MAX);
    if (tooMuch) throw tooLarge(tooMuch.name, tooMuch.size, FILE_SIZE_MAX, SENT_WHOLE);
    for (const [index, file] of files.entries()) {
      const transfer = `${run}.result.${index}`;
      if (pulls) {
        this.#offered.set(transfer, file);
        await commit(() => offer(core(), laptop, run, transfer, file));
        continue;
      }
      const bytes = await readInspected(disk, file);
      const payload: PayloadOf<"file_transfer"> = {
        type: "file_transfer",
        file_name: file.name,
        file_data: Buffer.from(bytes).toString("base64"),
        size_bytes: file.size,
        sha256: file.sha256,
        request_id: run,
      };
      await commit(() => compose(core(), laptop, payload, transfer));
    }
    return files.map(({ name }) => name);
  }

  /** Offers what the task printed, and waits until the laptop has it, or will not. To a laptop that does not pull it is not sent. */
  async sendLog(path: string, commit: (draft: () => Draft) => Promise<void>): Promise<void> {
    const { core, laptop, run } = this.#options;
    const [file] = await inspectFiles(core().ports.disk, [path]);
    if (!file || file.size === 0 || !pullsFiles(core(), laptop)) return;
    const transfer = `${run}.log`;
    this.#offered.set(transfer, file);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#answers.set(transfer, resolve);
    await commit(() => offer(core(), laptop, run, transfer, file, "log"));
    const { clock } = core().ports;
    const disarm = clock.at(clock.now() + LOG_WAIT_MS, resolve);
    await promise;
    disarm();
  }

  /** The laptop has a file that it was offered, or will not have it. */
  answered({ transfer_id = "" }: PayloadOf<"file_transfer_ack">): Draft {
    this.#answers.get(transfer_id)?.();
    this.#answers.delete(transfer_id);
    return entriesOnly();
  }

  /** Nobody waits for the laptop any more. */
  end(): void {
    for (const answered of this.#answers.values()) answered();
    this.#answers.clear();
  }

  /** The pieces of a result file that the laptop pulls; undefined when it was not offered. */
  async pulled(pull: Pull): Promise<Draft | undefined> {
    const file = this.#offered.get(pull.transfer_id);
    return file && pieces(this.#options.core(), this.#options.laptop, file, pull);
  }
}
