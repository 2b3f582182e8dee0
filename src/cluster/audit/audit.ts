import { z } from "zod";
import type { MeshNode } from "../../actors/node.ts";
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
  readonly #contextOf: (stream: string) => RunContext | undefined;

  private constructor(directory: string, node: MeshNode, note: (text: string) => void) {
    const { system, ports } = node.core;
    this.#contextOf = (stream) => system.state(stream)?.snapshot.context;
    this.#places = { disk: tellingDisk(ports.disk), contextOf: this.#contextOf, ...placesOf(directory) };
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
      const verdict: Verdict | null = verify ? await verifyAudit(this.#places, lines) : null;
      return { path: this.#places.path, entries, total, verdict };
    });
  }
}
