import { MeshError } from "../errors.ts";

// The keychain of the operating system: Keychain on macOS, Credential Manager on Windows, the Secret Service on Linux. Its
// package is optional and loaded only by who has chosen it.

export interface Keychain {
  /** The secret of that name, or null when there is none. @throws MeshError `keychain_unavailable` */
  read(service: string, account: string): Promise<string | null>;
  /** @throws MeshError `keychain_unavailable` */
  write(service: string, account: string, secret: string): Promise<void>;
  /** Nothing happens when there is none. @throws MeshError `keychain_unavailable` */
  remove(service: string, account: string): Promise<void>;
}

const unavailable = (cause: unknown) =>
  new MeshError(
    "keychain_unavailable",
    `The keychain says: ${cause instanceof Error ? cause.message : String(cause)}.`,
    {
      cause,
    },
  );

/** @throws MeshError `keychain_unavailable` when its package is not installed or does not load */
export async function openKeychain(): Promise<Keychain> {
  const { AsyncEntry } = await import("@napi-rs/keyring").catch((cause: unknown) => {
    throw new MeshError(
      "keychain_unavailable",
      "The package @napi-rs/keyring cannot be loaded. Install it where kars-mesh is installed: npm install @napi-rs/keyring (with -g beside a global kars-mesh).",
      { cause },
    );
  });
  // Without a Secret Service the package would fall back to the kernel's keyring, which a restart of the machine empties.
  const entry = (service: string, account: string) =>
    new AsyncEntry(service, account, { linux: { store: "secret-service" } });
  const attempt = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      throw unavailable(cause);
    }
  };
  return {
    read: (service, account) => attempt(() => entry(service, account).getPassword()),
    write: (service, account, secret) => attempt(() => entry(service, account).setPassword(secret)),
    remove: (service, account) => attempt(async () => void (await entry(service, account).deletePassword())),
  };
}
