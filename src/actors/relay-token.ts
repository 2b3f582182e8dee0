import { MeshError } from "../errors.ts";
import { CONNECT_TOKEN_LENGTH_MAX } from "../wire/limits.ts";

/** The environment variable that holds the access token of a relay that asks for one. */
const VARIABLE = "KARS_MESH_RELAY_TOKEN";

/**
 * The relay's access token from the environment, without the white space around it; undefined when there is none.
 * @throws MeshError `input_invalid` when it is too long for every relay, because a relay only refuses the connection and does not say why
 */
export function environmentRelayToken(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const token = environment[VARIABLE]?.trim() ?? "";
  if (token.length > CONNECT_TOKEN_LENGTH_MAX)
    throw new MeshError(
      "input_invalid",
      `${VARIABLE} has ${token.length} characters, and a relay takes at most ${CONNECT_TOKEN_LENGTH_MAX}. Set it to the access token alone, exactly as the relay's operator gave it, or unset it.`,
    );
  return token === "" ? undefined : token;
}
