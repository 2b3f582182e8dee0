import type { Command } from "commander";
import type { Verification } from "../actors/verification.ts";
import { MeshError } from "../errors.ts";
import { asAddress } from "../wire/text.ts";
import { confirmed, someoneIsThere } from "./ask.ts";
import { atHome } from "./home.ts";
import { age, line } from "./output.ts";
import { action, type Io } from "./program.ts";

export function addVerify(program: Command): void {
  program
    .command("verify")
    .description("compare safety numbers with a peer, and record that they are the same")
    .argument("<peer>", "a name or a DID", asAddress)
    .option("--number <digits>", "what the other side shows: recorded as verified if it is the same")
    .option("-y, --yes", "record it without asking: you have compared them")
    .option("--undo", "withdraw what was recorded")
    .addHelpText(
      "after",
      `
Both sides see the same 60 digits exactly when each has the other's true DID. Compare them by another way than the mesh: read
them to each other, or scan the code, which holds the digits.`,
    )
    .action(action(verify));
}

interface Options {
  readonly number?: string;
  readonly yes?: true;
  readonly undo?: true;
}

const nameOf = ({ name, did }: Verification) => (name === null ? did : `${line(name)} (${did})`);

/** Twelve groups of five, four in a line. */
const digitsOf = ({ number }: Verification): string =>
  (number.match(/.{20}/g) ?? []).map((row) => (row.match(/.{5}/g) ?? []).join(" ")).join("\n");

const standing = ({ verified_at }: Verification) =>
  verified_at === null ? "Not verified." : `Verified ${age(verified_at)}.`;

async function verify(io: Io, peer: string, { number, yes, undo }: Options): Promise<void> {
  if (undo && (yes || number !== undefined))
    throw new MeshError("input_invalid", "--undo goes with neither --yes nor --number.");
  await atHome(io, async ({ mesh, signal, requirePaired }) => {
    await requirePaired();
    const ask = (record?: "verified" | "unverified") =>
      mesh.call("verify", { peer, ...(number !== undefined && { number }), ...(record && { record }) }, { signal });
    if (undo) {
      const done = await ask("unverified");
      io.result(done, `${nameOf(done)} counts as not verified.`);
      return;
    }
    if (yes || number !== undefined) {
      const done = await ask("verified");
      io.result(done, `${nameOf(done)} is verified.`);
      return;
    }
    const shown = await ask();
    const { renderUnicodeCompact } = await import("uqr");
    const text = [
      `The safety number with ${nameOf(shown)}:`,
      digitsOf(shown),
      renderUnicodeCompact(shown.number, { border: 2 }),
    ];
    if (!someoneIsThere()) {
      io.result(
        shown,
        [...text, `${standing(shown)} Record it with --number, if the other side shows the same.`].join("\n\n"),
      );
      return;
    }
    io.note([...text, standing(shown)].join("\n\n"));
    const done = (await confirmed("Does the other side show the same?")) ? await ask("verified") : shown;
    io.result(done, done.verified_at === null ? "Nothing was recorded." : `${nameOf(done)} is verified.`);
  });
}
