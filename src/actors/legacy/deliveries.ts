import type { z } from "zod";
import type { OffloadContext } from "../../machines/offload/events.ts";
import type { PairingContext } from "../../machines/pairing/events.ts";
import type { PayloadOf } from "../../wire/payload.ts";
import { cutIntoChunks } from "../chunks.ts";
import { type Core, isoNow } from "../core.ts";
import { chunkFormFor, compose, type Draft, entriesOnly, join, sending } from "../drafts.ts";
import { type FileToSend, readInspected } from "../files.ts";
import { offloadOf, Request } from "../offload-view.ts";
import { RESENDS_MAX } from "./limits.ts";

// What a sandbox of a deployed cluster gets: the files, and one that did not say hello the task behind them. One that said
// hello has its task from the controller.

/** The transfer of a file of an offload. */
const transferOf = (offload: string, index: number) => `${offload}.file.${index}`;
const TRANSFER = /^(.+)\.file\.(\d+)$/;

export class Deliveries {
  readonly #core: Core;
  /** How often chunks of a transfer were sent again. */
  readonly #resends = new Map<string, number>();

  constructor(core: Core) {
    this.#core = core;
  }

  #contextOf(offload: string): OffloadContext | undefined {
    return this.#core.system.decided(offloadOf(offload))?.snapshot.context;
  }

  async #requestOf({ id, request }: OffloadContext): Promise<z.infer<typeof Request>> {
    if (!request) throw new Error(`offload ${id} has no request`);
    return Request.parse(JSON.parse(await this.#core.bodies.open(offloadOf(id), request)));
  }

  #nameAt(controller: string): string {
    const pairing: PairingContext | undefined = this.#core.system.state(`pairing/${controller}`)?.snapshot.context;
    return pairing?.name ?? this.#core.keyring.identity.did;
  }

  /** The same whenever it is made, so that chunks that are sent again belong to those that were sent before. */
  async #fileOf({ controller, requestedAt }: OffloadContext, file: FileToSend): Promise<PayloadOf<"file_transfer">> {
    const bytes = await readInspected(this.#core.ports.disk, file);
    return {
      type: "file_transfer",
      file_name: file.name,
      file_path: file.name,
      file_data: Buffer.from(bytes).toString("base64"),
      size_bytes: file.size,
      description: "",
      from_agent: this.#nameAt(controller),
      timestamp: new Date(requestedAt).toISOString(),
    };
  }

  /**
   * Each file is committed by itself; one that was queued before a crash is refused by its id and so not sent twice.
   * @throws MeshError `file_unreadable` when a file is another one now
   */
  async deliver(offload: string): Promise<void> {
    const context = this.#contextOf(offload);
    const peer = context?.sandbox.did ?? null;
    if (!context || peer === null) throw new Error(`offload ${offload} has no sandbox`);
    const { task, files } = await this.#requestOf(context);
    const commit = ({ entries, secrets, before }: Draft) =>
      this.#core.system.commit(entries, { secrets, before }).durable;
    for (const [index, file] of files.entries())
      await commit(compose(this.#core, peer, await this.#fileOf(context, file), transferOf(offload, index)));
    const uploaded = entriesOnly({ stream: offloadOf(offload), event: { type: "UPLOADED" } });
    if (!context.handsTask) return commit(uploaded);
    const handing = compose(
      this.#core,
      peer,
      {
        type: "offload_task",
        request_id: offload,
        task,
        files: files.map(({ name }) => name),
        from_agent: this.#nameAt(context.controller),
        timestamp: isoNow(this.#core),
      },
      `${offload}.task`,
    );
    return commit(join(handing, uploaded));
  }

  /**
   * Chunks of a file that the sandbox says it lacks, once more; undefined when it may not ask for them, or asked too often.
   * @param id of the message that asks
   */
  async resend(
    peer: string,
    id: string,
    { transfer_id: transfer, missing }: PayloadOf<"mesh:transfer_chunk_request">,
  ): Promise<Draft | undefined> {
    const [, offload = "", index = ""] = TRANSFER.exec(transfer) ?? [];
    const context = this.#contextOf(offload);
    const isRunning = this.#core.system.decided(offloadOf(offload))?.snapshot.matches("active") === true;
    const resends = this.#resends.get(transfer) ?? 0;
    if (!context?.plain || context.sandbox.did !== peer || !isRunning || resends >= RESENDS_MAX) return undefined;
    const file = (await this.#requestOf(context)).files[Number(index)];
    if (!file) return undefined;
    this.#resends.set(transfer, resends + 1);
    const { chunks } = cutIntoChunks(JSON.stringify(await this.#fileOf(context, file)), {
      id: transfer,
      type: "file_transfer",
      form: chunkFormFor(this.#core, peer),
    });
    const wanted = chunks.filter(({ chunk_index }) => missing.includes(chunk_index));
    return join(
      ...wanted.map((chunk) => sending(this.#core, peer, `${id}.${chunk.chunk_index}`, "part", JSON.stringify(chunk))),
    );
  }
}
