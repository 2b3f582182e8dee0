import type { z } from "zod";
import { base64, type Identity, sign, utf8 } from "../crypto/index.ts";
import { type Connect, EXTENSIONS } from "../wire/frame.ts";

/**
 * The first frame on a connection to a relay. It proves that the sender holds the key of its DID.
 * @param timestamp ISO 8601 with Z, which the signature covers
 * @param token the access token of a relay that asks for one
 */
export const connectFrame = (
  identity: Identity,
  timestamp: string,
  token: string | undefined,
): z.infer<typeof Connect> => ({
  v: 1,
  type: "connect",
  from: identity.did,
  public_key: base64.encode(identity.publicKey),
  timestamp,
  signature: base64.encode(sign(identity, utf8.encode(timestamp))),
  ...(token === undefined ? {} : { token }),
  extensions: [...EXTENSIONS],
});
