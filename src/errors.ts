// The closed set of ways in which a mesh operation can fail. Tools throw them, the command lines print them and exit
// non-zero, `--json` renders them as `{"error":{"code","message"}}`.

const sentences = {
  not_paired:
    "This laptop is not paired with a cluster. Pair it with a token from the cluster's operator: kars-mesh pair <token>.",
  token_invalid:
    "The cluster does not know this pairing token. Check that it was copied whole, or ask the operator for a new one.",
  token_mangled: "This is not a pairing token. A token starts with kars-pair- or azcp_1_ and must be copied whole.",
  token_used: "This pairing token was already used by another identity. Ask the operator for a new one.",
  token_expired: "This pairing token has expired. Ask the operator for a new one.",
  token_revoked: "This pairing was revoked by the operator. Ask for a new token.",
  cluster_unreachable: "The cluster cannot be reached. Check the network and that the cluster is up, then try again.",
  cluster_refused: "The cluster refused it, or could not bring it to its end. Try again, or ask its operator.",
  relay_unreachable: "The relay cannot be reached. What is queued goes out when it is back.",
  registry_unreachable: "The registry cannot be reached. Check the network and try again.",
  registry_forgot:
    "The registry does not know this laptop any more. A process that has this home open, such as kars-mesh run, registers it again by itself.",
  clock_off:
    "The cluster refuses what this laptop signs, because their clocks differ too much. Set this machine's clock by the network; this laptop then connects again by itself.",
  peer_unknown: "No agent of that name or DID is known. Look who is there with discover.",
  peer_ambiguous: "Several agents carry that name. Give the DID of the one you mean.",
  peer_identity_mismatch:
    "The keys presented for this peer do not belong to its DID. Nothing was sent; tell the cluster's operator.",
  safety_number_mismatch:
    "The numbers differ: one side has another DID than it believes, and somebody may stand between. Compare the DIDs that whoami shows, by another way than the mesh.",
  peer_without_prekeys:
    "The peer has published no prekeys yet, so no session can be opened. Try again when it has been online.",
  peer_refused: "The peer does not accept messages from this identity.",
  message_unknown: "No message with that id is known.",
  offload_unknown: "No offload with that id is known. List them with status.",
  offload_over: "That offload has already ended.",
  offload_running:
    "An offload that has not ended needs this conversation. Wait for it to end, or cancel it, then try again.",
  conversation_forgotten: "The conversation was forgotten before this could be sent.",
  no_free_slot: "All slots of the grant are in use. Wait for a running offload to end, or cancel one.",
  sandbox_unknown:
    "No sandbox of that name stands on the cluster. Leave the name out for a fresh one, or ask the operator to start it: kars-local sandboxes start <name>.",
  sandbox_exists: "A sandbox of that name stands already. Choose another name or stop the other one.",
  budget_exhausted: "The grant's token budget is used up. Ask the operator for more.",
  capability_missing: "The grant does not include the capability this needs. Ask the operator.",
  policy_refused: "The cluster's policy does not allow this. Ask its operator.",
  file_unreadable: "A file cannot be read.",
  file_too_large: "A file is larger than may be sent.",
  file_secret:
    "It looks like a secret, and was not sent. Take it out; if it is really meant, kars-mesh offload --allow-secret sends it.",
  file_refused: "The other side could not take a file.",
  file_damaged: "A file did not arrive as it was sent. Ask for it again.",
  grant_exists: "A pairing of that name exists already. Choose another name or revoke the old one.",
  grant_unknown: "No pairing of that name exists. List them with kars-local pair list.",
  input_invalid: "The input is not valid.",
  limit_reached: "A limit was reached.",
  owner_only:
    "Only the owner of this OpenClaw decides that. Send it as the owner, or use openclaw mesh on the machine itself.",
  store_locked: "Another process owns this state directory and does not answer. End it, or choose another with --home.",
  store_damaged:
    "The state directory is damaged, and nothing was changed. kars-mesh doctor looks closer; doctor --repair salvages what is sound.",
  store_newer:
    "The state directory holds what this program does not know: a newer version wrote it, or another program. Nothing was changed; update kars-mesh.",
  store_key_unreadable:
    "The store key cannot be read. Restore it from a backup, or choose another state directory with --home.",
  passphrase_needed:
    "The store key is protected by a passphrase. Set KARS_MESH_PASSPHRASE or KARS_MESH_PASSPHRASE_FILE for the process that opens this state directory, or run kars-mesh on a terminal.",
  passphrase_wrong:
    "The passphrase does not open the store key. Check KARS_MESH_PASSPHRASE or KARS_MESH_PASSPHRASE_FILE, or type it again.",
  keychain_unavailable:
    "The store key cannot be fetched from, or put into, the keychain of the operating system. Unlock the keychain in the session that runs this process, then try again.",
  store_io:
    "The state directory cannot be read or written. Nothing that was not on disk was sent; check space and permissions.",
  kubernetes_unavailable:
    "Kubernetes cannot run the sandboxes. Put right what is wrong, then start the cluster again; docs/kubernetes.md says what it needs.",
  nats_unavailable:
    "NATS, where the cluster keeps what it knows, cannot be used. Nothing was accepted that it does not have; check --nats and the server.",
  history_diverged: "The machines of this program make something else of a history than those that recorded it.",
  node_unsupported: "kars-mesh needs Node.js 22.16 or newer; install it from nodejs.org or with a version manager.",
  closed: "The node is shutting down. Try again.",
  aborted: "The operation was cancelled.",
  internal: "Something went wrong inside kars-mesh. This is a defect; please report it.",
} as const;

export type ErrorCode = keyof typeof sentences;

export const ERROR_CODES = Object.keys(sentences) as [ErrorCode, ...ErrorCode[]];

/**
 * One failure with its code. `message` is the code's sentence, with the particulars of this case before it; where the input is
 * wrong they say all that there is to say.
 */
export class MeshError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, particulars?: string, options?: ErrorOptions) {
    const says =
      particulars && code === "input_invalid" ? particulars : [particulars, sentences[code]].filter(Boolean).join(" ");
    super(says, options);
    this.name = "MeshError";
    this.code = code;
  }
  toJSON(): { error: { code: ErrorCode; message: string } } {
    return { error: { code: this.code, message: this.message } };
  }
}

/** What an error says before its code's own sentence, which comes back with the code: at most 1,000 characters. */
export const particularsOf = ({ code, message }: MeshError): string =>
  message.replace(sentences[code], "").trim().slice(0, 1000);

export const isErrorCode = (text: unknown): text is ErrorCode => typeof text === "string" && text in sentences;

/** The error as one of ours; anything foreign becomes `internal`, with its message but without its stack. */
export function asMeshError(error: unknown): MeshError {
  if (error instanceof MeshError) return error;
  // One of ours from another evaluation of this module in the same process.
  if (error instanceof Error && error.name === "MeshError" && "code" in error && isErrorCode(error.code)) {
    const same = new MeshError(error.code, undefined, { cause: error });
    same.message = error.message;
    return same;
  }
  if (error instanceof Error && error.name === "AbortError")
    return new MeshError("aborted", undefined, { cause: error });
  const text = error instanceof Error ? error.message : String(error);
  return new MeshError("internal", `${text}.`, { cause: error });
}
