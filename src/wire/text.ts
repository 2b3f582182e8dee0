import { z } from "zod";
import { CAPABILITIES_MAX, CAPABILITY_LENGTH_MAX, NAME_LENGTH_MAX } from "../limits.ts";

// The small shapes that every other schema of this room is made of.

/** `did:mesh:` and 32 lower-case hex digits. */
export const Did = z.string().regex(/^did:mesh:[0-9a-f]{32}$/, "not a DID of the form did:mesh:<32 hex digits>");

/** Standard base64 with padding, of at most `bytes` bytes. Its canonical form is checked where it is decoded. */
export const base64Text = (bytes: number) =>
  z
    .string()
    .max(Math.ceil(bytes / 3) * 4)
    .regex(/^[A-Za-z0-9+/]*={0,2}$/, "not base64");

/** base64url without padding, of exactly `bytes` bytes. */
export const base64urlExact = (bytes: number) =>
  z
    .string()
    .length(Math.ceil((bytes * 4) / 3))
    .regex(/^[A-Za-z0-9_-]*$/, "not base64url");

export const base64Exact = (bytes: number) =>
  z
    .string()
    .length(Math.ceil(bytes / 3) * 4)
    .regex(/^[A-Za-z0-9+/]*={0,2}$/, "not base64");

/** An id that a peer chose: short, printable, no white space. */
export const Id = z.string().regex(/^[\x21-\x7e]{1,128}$/, "not an id of 1 to 128 printable characters");

export const Timestamp = z.string().max(40);
export const U32 = z.int().min(0).max(0xffffffff);
export const KeyId = z.int().min(0);

export const Capability = z.string().min(1).max(CAPABILITY_LENGTH_MAX);
export const Capabilities = z.array(Capability).max(CAPABILITIES_MAX);

/** A display name: it becomes a capability, a folder and a line on a terminal, so it is letters, digits, `.`, `_`, `-`. */
export const Name = z
  .string()
  .max(NAME_LENGTH_MAX)
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
    "a name is letters, digits, dot, dash and underscore, starting with a letter or digit",
  );
