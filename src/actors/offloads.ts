import { join as joinPath } from "node:path";
import type { z } from "zod";
import { asMeshError, MeshError } from "../errors.ts";
import { FILE_SIZE_MAX, OFFLOAD_TIMEOUT_MINUTES, TASK_SIZE_MAX } from "../limits.ts";
import type { UntimedOffloadEvent as Event, OffloadContext } from "../machines/offload/events.ts";
import type { Admission } from "./admission.ts";
import { type Core, isoNow } from "./core.ts";
import { compose, type Draft, entriesOnly, join } from "./drafts.ts";
import type { Performers } from "./effects.ts";
import { inspectFiles } from "./files.ts";
import { asking } from "./news.ts";
import { OffloadFiles } from "./offload-files.ts";
import { OffloadNews, told } from "./offload-news.ts";
import { type OffloadView, offloadOf, queueOf, type Request, requestOf, viewOffload } from "./offload-view.ts";
import { uuidFrom } from "./uuid.ts";
import type { Work } from "./work.ts";

export { isOver, missingFiles, type OffloadStatus, type OffloadView, offloadOf } from "./offload-view.ts";

// Offloads as the laptop drives them: the effects of the offload machine, and what the cluster says about them.

export interface OffloadOptions {
  /** A UUID; the same again is the same offload again. */
  readonly id?: string | undefined;
  readonly controller: string;
  readonly task: string;
  readonly files: readonly string[];
  readonly target: { readonly name?: string | undefined; readonly capability?: string | undefined };
  readonly timeoutMinutes?: number | undefined;
  /** Where it is asked for, so that its end is told there. */
  readonly origin?: string | undefined;
  /** Also when the same goes on already. */
  readonly force?: boolean | undefined;
  /** The cluster is a deployed one, whose controller speaks plaintext. */
  readonly plain?: boolean | undefined;
  /** Of the files, those that may go although they look like secrets. */
  readonly secrets?: readonly string[] | undefined;
}

/** What makes two requests the same: whom they are for, what is to be done, and files by their names and bytes. */
const contentOf = (target: OffloadOptions["target"], { task, files }: z.infer<typeof Request>): string =>
  JSON.stringify([
    target.name ?? "",
    target.capability ?? "",
    task,
    ...files.map(({ name, sha256 }) => [name, sha256]),
  ]);

export class Offloads {
  readonly #core: Core;
  readonly #folder: string;
  readonly #news: OffloadNews;
  readonly files: OffloadFiles;
  readonly #slots: () => number | undefined;

  /**
   * @param slots how many may run at once, if that is known
   * @param further effects that are performed elsewhere
   * @param fileSizeMax bytes of a file, each way
   */
  constructor(
    core: Core,
    admission: Admission,
    home: string,
    slots: () => number | undefined,
    further: Performers = {},
    fileSizeMax = FILE_SIZE_MAX,
  ) {
    this.#core = core;
    this.#slots = slots;
    this.#folder = joinPath(home, "offloads");
    this.files = new OffloadFiles(core, this.#folder, fileSizeMax);
    this.#news = new OffloadNews(core, admission, this.files, this.#folder);
    core.system.perform("offload", {
      ...further,
      request: (params: { offload: string }) => this.#attempt(params.offload, () => this.#request(params.offload)),
      upload: (params: { offload: string }) => this.#attempt(params.offload, () => this.files.upload(params.offload)),
      queue: () => this.#nextInQueue(),
      cleanUp: (params: { offload: string; reason: string }) => this.#cleanUp(params.offload, params.reason),
    });
  }

  // Commands

  /**
   * Begins an offload; resolves when the intent is durable. While the same task with the same files for the same target goes on,
   * that one is given (`duplicate`) unless `force` asks for another.
   * @throws MeshError on files that cannot be sent
   */
  begin(options: OffloadOptions): Promise<{ readonly id: string; readonly duplicate: boolean }> {
    if (Buffer.byteLength(options.task) > TASK_SIZE_MAX)
      throw new MeshError("limit_reached", `A task has at most ${TASK_SIZE_MAX} bytes.`);
    // One after the other, so that of two that are the same the second finds the first.
    return this.#core.lanes.run("offload", () => this.#begin(options));
  }

  async #begin({ id: chosen, controller, task, target, timeoutMinutes, origin, ...options }: OffloadOptions) {
    const id = chosen ?? uuidFrom(this.#core.ports.random);
    if (this.#core.system.decided(offloadOf(id))) return { id, duplicate: false };
    const files = await inspectFiles(this.#core.ports.disk, options.files, options.secrets ?? [], (path, size) =>
      this.files.refusal(path, size, options.plain ?? false),
    );
    const request: z.infer<typeof Request> = { task, files };
    const same = options.force ? undefined : await this.#same(target, request);
    if (same !== undefined) return { id: same, duplicate: true };
    const { body, secrets, before } = this.#core.bodies.seal(offloadOf(id), JSON.stringify(request));
    const { queued, hasSlot } = this.#standing();
    const event: Event = {
      type: "REQUESTED",
      controller,
      target,
      timeout_minutes: timeoutMinutes ?? OFFLOAD_TIMEOUT_MINUTES,
      body,
      files: files.length,
      bytes: files.reduce((sum, file) => sum + file.size, 0),
      ...(queued.length > 0 || !hasSlot ? { queued: true } : {}),
      ...(options.plain ? { plain: true } : {}),
    };
    const entries = [{ stream: offloadOf(id), event }, ...asking(this.#core, offloadOf(id), origin)];
    await this.#core.system.commit(entries, { secrets, before }).durable;
    return { id, duplicate: false };
  }

  /** An offload that goes on and asks for the same. */
  async #same(target: OffloadOptions["target"], request: z.infer<typeof Request>): Promise<string | undefined> {
    const wanted = contentOf(target, request);
    for (const [, { snapshot }] of this.#core.system.streams("offload")) {
      const context: OffloadContext = snapshot.context;
      const goesOn = snapshot.matches("queued") || snapshot.matches("active");
      if (goesOn && contentOf(context.target, await requestOf(this.#core, context.id)) === wanted) return context.id;
    }
    return undefined;
  }

  /** Asks for an end; asking again changes nothing. @throws MeshError `offload_unknown`, `offload_over` */
  async cancel(id: string): Promise<void> {
    const state = this.#core.system.state(offloadOf(id));
    if (!state) throw new MeshError("offload_unknown", `${id}.`);
    if (state.snapshot.matches("cancelling")) return;
    const { accepted, durable } = this.#core.system.commit([{ stream: offloadOf(id), event: { type: "CANCEL" } }]);
    if (!accepted[0]) throw new MeshError("offload_over");
    await durable;
  }

  /** @throws MeshError `offload_unknown` */
  view(id: string): Promise<OffloadView> {
    return viewOffload(this.#core, this.#folder, id);
  }

  list(): string[] {
    const entries = [...this.#core.system.streams("offload")].map(
      ([, state]): OffloadContext => state.snapshot.context,
    );
    return entries.sort((a, b) => a.requestedAt - b.requestedAt).map(({ id }) => id);
  }

  // Effects

  #context(id: string): OffloadContext {
    const state = this.#core.system.state(offloadOf(id));
    if (!state) throw new Error(`no offload ${id}`);
    return state.snapshot.context;
  }

  #commit(draft: Draft): Promise<void> {
    return this.#core.system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  }

  async #attempt(id: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const failure = asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      await this.#commit(
        told(this.#core, id, failure.message, (note) => ({ type: "FAILED", code: failure.code, ...note })),
      );
    }
  }

  async #request(id: string): Promise<void> {
    const { controller, target, timeoutMinutes, refusals, plain } = this.#context(id);
    const { task, files } = await requestOf(this.#core, id);
    const asking = compose(
      this.#core,
      controller,
      {
        type: "offload_request",
        request_id: id,
        task,
        files: files.map(({ name }) => name),
        file_count: files.length,
        total_bytes: files.reduce((sum, { size }) => sum + size, 0),
        // A deployed cluster has one limit for all, which is kept already.
        ...(plain ? {} : { largest_bytes: Math.max(0, ...files.map(({ size }) => size)) }),
        // A deployed controller ignores a request whose minutes are not whole.
        preferences: { timeout_minutes: plain ? Math.ceil(timeoutMinutes) : timeoutMinutes },
        ...(Object.keys(target).length > 0 && { target: { ...target } }),
        timestamp: isoNow(this.#core),
      },
      // Asking again, after there was no slot, is another message.
      refusals === 0 ? `${id}.request` : `${id}.request.${refusals}`,
    );
    await this.#commit(join(asking, entriesOnly({ stream: offloadOf(id), event: { type: "ASKED" } })));
  }

  /** What waits, oldest first, and whether the grant has a slot that none of ours takes. */
  #standing(): { readonly queued: readonly string[]; readonly hasSlot: boolean } {
    const { system } = this.#core;
    const all = [...system.streams("offload")].map(([stream, state]) => system.decided(stream) ?? state);
    const slots = this.#slots() ?? Number.POSITIVE_INFINITY;
    const running = all.filter(({ snapshot }) => snapshot.matches("active") || snapshot.matches("cancelling"));
    return { queued: queueOf(all), hasSlot: running.length < slots };
  }

  /** Whoever is first goes, as soon as one that ran has ended, or the time has come to ask again. */
  async #nextInQueue(): Promise<void> {
    const { queued, hasSlot } = this.#standing();
    const [first] = queued;
    if (first === undefined || !hasSlot) return;
    await this.#commit(entriesOnly({ stream: offloadOf(first), event: { type: "TURN" } }));
  }

  async #cleanUp(id: string, reason: string): Promise<void> {
    const { controller } = this.#context(id);
    const telling = compose(
      this.#core,
      controller,
      { type: "offload_cleanup", request_id: id, reason, timestamp: isoNow(this.#core) },
      `${id}.cleanup`,
    );
    await this.#commit(join(telling, entriesOnly({ stream: offloadOf(id), event: { type: "CLEANED_UP" } })));
  }

  /** The events that a cluster's word about an offload means; undefined when it is about none of ours. */
  handle(work: Work): Promise<Draft | undefined> {
    return this.#news.handle(work);
  }
}
