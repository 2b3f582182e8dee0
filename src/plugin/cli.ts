import type { CliDescriptor, PluginApi } from "./api.ts";
import type { PluginConfig } from "./config.ts";

// `openclaw mesh …`: the command line kars-mesh, on the plugin's state directory. OpenClaw's commander hands over what was
// typed as it is, so options, help, errors and exit codes are the same in both. Nothing of it is loaded before it is asked for.

/** openclaw.plugin.json says the same. */
export const CLI = {
  name: "mesh",
  description: "This agent on the mesh: pair, messages, peers, offloads, doctor",
  hasSubcommands: true,
} as const;

const machineOutput: NonNullable<CliDescriptor["machineOutput"]> = ({ argv }) => argv.includes("--json");

export function registerCli(api: PluginApi, config: PluginConfig): void {
  api.registerCli(
    ({ program }) => {
      const command = program
        .command(CLI.name)
        .description(CLI.description)
        .argument("[words...]")
        .allowUnknownOption()
        .helpOption(false)
        .action(async (words) => {
          const { runInOpenClaw } = await import("../cli/mesh.ts");
          // OpenClaw ends its own process.
          process.exitCode = await runInOpenClaw(words, config);
        });
      try {
        command.passThroughOptions();
      } catch {
        // Early in 2026 OpenClaw reads options of its own behind the command, too: what it does not know still comes here.
        command.passThroughOptions(false);
      }
    },
    { commands: [CLI.name], descriptors: [{ ...CLI, machineOutput }] },
  );
}
