import { type Command, InvalidArgumentError, Option } from "commander";
import type { Protection } from "../actors/unlock.ts";
import { MeshError } from "../errors.ts";
import { askSecretly, someoneIsThere } from "./ask.ts";
import { atHome } from "./home.ts";
import { facts } from "./output.ts";
import { action, type Io } from "./program.ts";

// How the state directory's key is protected, and changing it.

const PROTECTS: Readonly<Record<Protection, string>> = {
  file: "a home that is copied without store.key (a backup, a synced folder); not one that is copied whole, nor against a program that runs as your user",
  passphrase:
    "a home that is copied whole or a stolen disk, as far as the passphrase is hard to guess; not against a program that runs as your user while the home is open, or reads its environment",
  keychain:
    "a home that is copied whole or a stolen disk, while the keychain is locked; not against a program that runs as your user while it is unlocked",
};
const LIES: Readonly<Record<Protection, string>> = {
  file: "in the file store.key",
  passphrase: "in the file store.key, sealed with a passphrase",
  keychain: "in the keychain of the operating system",
};

export function addKey(program: Command): void {
  program
    .command("key")
    .description("show how this home's key is protected, or change that")
    .addOption(new Option("--file", "keep the key in a file, mode 0600").conflicts(["passphrase", "keychain"]))
    .addOption(
      new Option("--passphrase", "seal the key with a passphrase, which is asked for").conflicts(["file", "keychain"]),
    )
    .addOption(
      new Option("--keychain", "keep the key in the keychain of the operating system").conflicts([
        "file",
        "passphrase",
      ]),
    )
    .allowExcessArguments()
    .addHelpText(
      "after",
      `
The key opens this home's secrets and words. Each change draws a new key: copies of the old one open nothing any more.

  --file        protects ${PROTECTS.file}.
  --passphrase  protects ${PROTECTS.passphrase}.
  --keychain    protects ${PROTECTS.keychain}.

The passphrase is read from KARS_MESH_PASSPHRASE, or from the file that KARS_MESH_PASSPHRASE_FILE names, or asked for on a
terminal. A new one comes from KARS_MESH_NEW_PASSPHRASE or KARS_MESH_NEW_PASSPHRASE_FILE, or is asked for; where none
protects the home yet, KARS_MESH_PASSPHRASE will do too. A passphrase that is forgotten cannot be replaced: the home is lost.
Programs that open the home unattended, OpenClaw's gateway among them, need the variable in their environment.`,
    )
    .action(action(key));
}

interface Options {
  readonly file?: true;
  readonly passphrase?: true;
  readonly keychain?: true;
}

async function key(io: Io, options: Options, command: Command): Promise<void> {
  // Not repeated: it may be the passphrase itself.
  if (command.args.length > 0)
    throw new InvalidArgumentError(
      "A passphrase is not taken from the command line, where every process can see it; it is asked for.",
    );
  const { keyProtection } = await import("../actors/unlock.ts");
  const protection = (["file", "passphrase", "keychain"] as const).find((each) => options[each]);
  const before = await keyProtection(io.directory);
  if (protection === undefined) {
    const text = before
      ? describe(before)
      : "There is no home here yet. Its key will be a file unless you choose otherwise.";
    io.result({ protection: before ?? null }, text);
    return;
  }
  const wish = protection === "passphrase" ? { protection, passphrase: await newPassphrase(before) } : { protection };
  await atHome(io, async ({ mesh, signal }) => {
    await mesh.call("change_key", wish, { signal });
    io.result({ protection }, describe(protection));
    if (protection === "passphrase")
      io.note(
        "Programs that open this home unattended, such as OpenClaw's gateway, need KARS_MESH_PASSPHRASE or KARS_MESH_PASSPHRASE_FILE in their environment from their next start on.",
      );
  });
}

const describe = (protection: Protection): string =>
  facts([
    ["key", LIES[protection]],
    ["protects", PROTECTS[protection]],
  ]);

async function newPassphrase(before: Protection | undefined): Promise<string> {
  const { passphraseFromEnvironment } = await import("../actors/unlock.ts");
  const given =
    (await passphraseFromEnvironment("KARS_MESH_NEW_PASSPHRASE")) ??
    (before === "passphrase" ? undefined : await passphraseFromEnvironment());
  if (given !== undefined) return given;
  if (!someoneIsThere())
    throw new MeshError(
      "input_invalid",
      "There is no terminal to ask for the new passphrase. Set KARS_MESH_NEW_PASSPHRASE or KARS_MESH_NEW_PASSPHRASE_FILE.",
    );
  const passphrase = await askSecretly("New passphrase: ");
  if ((await askSecretly("The same again: ")) !== passphrase)
    throw new MeshError("input_invalid", "The two passphrases differ; nothing was changed.");
  return passphrase;
}
