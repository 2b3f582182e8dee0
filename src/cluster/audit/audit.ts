import { z } from "zod";
import type { Core } from "../../actors/core.ts";
import type { MeshNode } from "../../actors/node.ts";
import { MeshError } from "../../errors.ts";
import type { RunContext } from "../../machines/run/events.ts";
import { tellingDisk } from "../../store/disk-errors.ts";
import { Name } from "../../wire/text.ts";
import { AUDIT_PAGE, AUDIT_PAGE_MAX } from "../limits.ts";
import { AuditLog, placesOf, unopened } from "./log.ts";
import { readAudit, type Verdict, verifyAudit } from "./reading.ts";

// The audit record of a cluster, kept while its controller is open, and asked by its operator.

export const AuditQuestion = z.object({
  grant: Name.optional(),
  /** Epoch milliseconds. */
  since: z.number().min(0).optional(),
  limit: z.int().min(1).max(AUDIT_PAGE_MAX).default(AUDIT_PAGE),
  verify: z.boolean().default(false),
});

export class Audit {
  readonly #log: AuditLog;
  readonly #places;
  readonly #core: Core;

  private constructor(directory: string, node: MeshNode, note: (text: string) => void) {
    const { system, ports } = node.core;
    this.#core = node.core;
    const contextOf = (stream: string): RunContext | undefined => system.state(stream)?.snapshot.context;
    this.#places = {
      disk: tellingDisk(ports.disk),
      contextOf,
      identity: () => node.core.keyring.identity,
      ...placesOf(directory),
    };
    this.#log = new AuditLog({ ...this.#places, note });
  }

  /** Brings the record of a cluster up to its journal, and keeps it so. A disk that refuses is noted. */
  static async open(directory: string, node: MeshNode, note: (text: string) => void): Promise<Audit> {
    const audit = new Audit(directory, node, note);
    const { system } = node.core;
    await audit.#log.open(system.position).catch((error: unknown) => note(unopened(error)));
    system.subscribe((change) => audit.#log.onChange(change));
    node.signal.addEventListener("abort", () => void audit.#log.close(), { once: true });
    return audit;
  }

  /** @throws MeshError `store_io`, `store_damaged` */
  async answer({ verify, ...query }: z.output<typeof AuditQuestion>) {
    return this.#log.still(async (lines) => {
      const { entries, total } = await readAudit(this.#places, query);
      const verdict: Verdict | null = verify ? await verifyAudit({ ...this.#places, did: this.#did }, lines) : null;
      return { path: this.#places.path, entries, total, verdict };
    });
  }

  /** Before its first start a controller has no identity, and has signed nothing. */
  get #did(): string {
    const { keyring } = this.#core;
    return keyring.hasIdentity ? keyring.identity.did : "";
  }

  /**
   * Closes and signs what is recorded.
   * @throws MeshError `input_invalid` when nothing was recorded since the last time; `store_damaged`, `store_io`
   */
  async rotate() {
    const { keyring, ports } = this.#core;
    const closed = keyring.hasIdentity ? await this.#log.rotate(ports.clock.now()) : undefined;
    if (!closed) throw new MeshError("input_invalid", "Nothing was recorded since the audit record was rotated last.");
    return { path: closed.path, last: closed.end.seq, head: closed.end.hash, did: keyring.identity.did };
  }
}
