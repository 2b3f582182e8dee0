/** What a relay hears of anyone, and what a registry or a controller answers, read by the code that asks. */
import { pair, Registry } from "../../src/actors/registry.ts";
import { embeddedPresence } from "../../src/cluster/embedded/presence.ts";
import { createRelay, type Relay } from "../../src/cluster/relay.ts";
import { base64, base64url } from "../../src/crypto/index.ts";
import { CLOSE, UnprovenConnect } from "../../src/wire/frame.ts";
import type { FrameText } from "../../src/wire/frame-text.ts";
import * as registry from "../../src/wire/registry.ts";
import { agent, connectFrame } from "../cluster/world.ts";
import { alice, bobBundle } from "../crypto/world.ts";
import { schemaTarget } from "./check.ts";
import { attempt, type Outcome, type Target } from "./fuzz.ts";

const NOW = Date.UTC(2026, 0, 1);
const TIME = new Date(NOW).toISOString();
const [member, other] = [agent("a member"), agent("another")];

interface Heard {
  readonly closed: number[];
  readonly said: unknown[];
}

/** A relay's end of a socket, and what came back on it. */
function socketOf(relay: Relay): { readonly heard: Heard; readonly say: (text: FrameText) => void } {
  const heard: Heard = { closed: [], said: [] };
  const socket = {
    OPEN: 1,
    readyState: 1,
    bufferedAmount: 0,
    isPaused: false,
    pause: () => undefined,
    resume: () => undefined,
    send: (text: FrameText) => void heard.said.push(JSON.parse(text.toString())),
    ping: () => undefined,
    close: (code: number) => void heard.closed.push(code),
    terminate: () => undefined,
  };
  const end = relay.accept(socket);
  return { heard, say: (text) => end.received(text) };
}

function newRelay(): { readonly relay: Relay; readonly stored: string[] } {
  const stored: string[] = [];
  const relay = createRelay({
    mailboxes: {
      put: (_, from, __, frame) => {
        if (from !== member.did) throw new Error("a frame in another's name");
        stored.push(frame.toString());
        return Promise.resolve("stored");
      },
      open: async () => ({
        pending: 0,
        doubted: 0,
        next: () => undefined,
        note: async () => undefined,
        ack: () => undefined,
        release: () => undefined,
        close: async () => undefined,
      }),
    },
    presence: embeddedPresence(() => NOW),
    now: () => NOW,
    after: () => () => undefined,
  });
  return { relay, stored };
}

/** All that was begun without a wait for the world outside is done. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

const connect = { v: 1, ...connectFrame(member, TIME) };
const KNOWN_CODES: ReadonlySet<number> = new Set([...Object.values(CLOSE), 1000]);

/** What the first frame of a connection may be, and what comes after it. */
const relayTargets: readonly Target[] = [
  {
    name: "relay-connect",
    kind: "json",
    samples: [connect, { ...connect, extensions: ["accepted"] }],
    async take(text): Promise<Outcome> {
      const { relay } = newRelay();
      const { heard, say } = socketOf(relay);
      say(text);
      await turn();
      if (heard.closed.some((code) => !KNOWN_CODES.has(code))) throw new Error("a close code that is none");
      if (heard.closed.length > 0) return "refused";
      if (!relay.isConnected(member.did)) throw new Error("let in as somebody else");
      return "taken";
    },
  },
  {
    name: "relay-frame",
    kind: "json",
    samples: [
      { v: 1, type: "message", from: member.did, to: other.did, id: "1", ciphertext: "AAAA" },
      { v: 1, type: "knock", to: other.did, id: "2", of_tomorrow: [1] },
      // In another's name: nothing comes of it.
      { v: 1, type: "message", from: other.did, to: other.did, id: "4", ciphertext: "AAAA" },
      { v: 1, type: "ack", id: "3", sender: other.did },
      { v: 1, type: "heartbeat", from: member.did },
      { v: 1, type: "fetch_pending", from: member.did },
      { v: 1, type: "disconnect" },
    ],
    async take(text): Promise<Outcome> {
      const said = async (frame: FrameText): Promise<string> => {
        const { relay, stored } = newRelay();
        const { heard, say } = socketOf(relay);
        say(JSON.stringify(connect));
        say(frame);
        await turn();
        if (heard.closed.some((code) => code !== 1000)) throw new Error("a frame ended a connection");
        for (const frame of stored)
          if (JSON.parse(frame).from !== member.did) throw new Error("a frame in another's name");
        return JSON.stringify({ heard, stored });
      };
      const bytes = Buffer.from(text);
      if ((await said(bytes)) !== (await said(bytes.toString()))) throw new Error("bytes are read in another way");
      return "taken";
    },
  },
];

const key = base64url.encode(alice.publicKey);
const record = { did: alice.did, public_key: key, capabilities: ["chat"], metadata: { name: "a" }, last_seen: null };
const bundle = {
  identity_key: base64url.encode(bobBundle.identityKey),
  identity_key_ed: base64url.encode(bobBundle.identityKeyEd),
  signed_pre_key: {
    key_id: 1,
    public_key: base64url.encode(bobBundle.signedPreKey.publicKey),
    signature: base64url.encode(bobBundle.signedPreKey.signature),
  },
  one_time_pre_key: null,
};
const found = { did: alice.did, capabilities: ["a"], reputation_score: 1, last_seen: null, metadata: { name: "a" } };
const paired = {
  cluster: "c",
  relay_url: "ws://127.0.0.1:1/ws",
  registry_url: "http://127.0.0.1:1",
  controller_did: alice.did,
  controller_key: key,
  signature: base64url.encode(new Uint8Array(64)),
  grant: { name: "laptop", slots: 1, capabilities: ["gpu"], token_budget: null, expires_at: null },
};
const refusal = { error: { code: "token_used", message: "m" } };

/** A client whose server answers this, with one of these statuses. */
const portsOf = (body: string, status: number) => ({
  network: {
    dial: () => ({ send: () => undefined, ping: () => undefined, buffered: 0, close: async () => undefined }),
    fetch: () => Promise.resolve(new Response(body, { status })),
  },
  clock: { now: () => NOW, at: () => () => undefined },
  signal: new AbortController().signal,
});
const URL_OF = "http://127.0.0.1:1";

/** An answer: what the client makes of it is of its type, or an error of ours, whatever the status. */
const answer = (
  name: string,
  samples: readonly unknown[],
  ask: (ports: ReturnType<typeof portsOf>) => Promise<unknown>,
): Target => ({
  name: `answer-${name}`,
  kind: "json",
  samples,
  async take(text) {
    const outcomes: Outcome[] = [];
    for (const status of [200, 404, 400, 500]) outcomes.push(await attempt(() => ask(portsOf(text, status))));
    return outcomes[0] ?? "refused";
  },
});

export const clusterTargets: readonly Target[] = [
  ...relayTargets,
  schemaTarget("unproven-connect", UnprovenConnect, [{ v: 1, type: "connect", from: member.did }]),
  schemaTarget("unproven-register", registry.UnprovenRegisterRequest, [
    { did: member.did, public_key: base64url.encode(member.dhPublic), capabilities: ["a"], metadata: { a: "b" } },
  ]),
  schemaTarget("prekeys-count", registry.PreKeysCount, [{ one_time_count: 5 }]),
  answer("agent", [record, { ...record, public_key: base64.encode(alice.publicKey) }], (ports) =>
    new Registry(ports, URL_OF).agent(alice.did),
  ),
  answer("bundle", [bundle], (ports) => new Registry(ports, URL_OF).bundle(alice.did)),
  answer("discover", [{ results: [found], total: 1 }], (ports) => new Registry(ports, URL_OF).discover("a", 5)),
  answer("prekeys-left", [{ one_time_count: 5 }], (ports) => new Registry(ports, URL_OF).preKeysLeft(alice)),
  answer("register", [{ did: alice.did, status: "registered" }, refusal], (ports) =>
    new Registry(ports, URL_OF).register(alice, ["a"], {}),
  ),
  answer("pair", [paired], (ports) =>
    pair(ports, { pairUrl: `${URL_OF}/v1/pair`, secret: "s", identity: alice, name: null }),
  ),
];
