import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { openMesh } from "../../src/actors/mesh.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { realClock, realRandom } from "../../src/actors/ports.ts";
import { Registry } from "../../src/actors/registry.ts";
import { identityFromSeed } from "../../src/crypto/index.ts";
import { Cluster, documentOf, failure, folder, Laptop, run, tidyUp } from "./harness.ts";

// A cluster and two laptops, as people use them: each line below is a process.

const STORY_MS = 240_000;
const DID = /^did:mesh:[0-9a-f]{32}$/;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UUID = /^[0-9a-f-]{36}$/;

interface Inbox {
  readonly messages: readonly { readonly id: string; readonly body: string; readonly from: string }[];
  readonly unread: number;
}

afterAll(tidyUp);

describe("two laptops on a cluster", { timeout: STORY_MS }, () => {
  let cluster: Cluster;
  let alice: Laptop;
  let bob: Laptop;
  let aliceDid: string;
  let bobDid: string;

  beforeAll(async () => {
    cluster = await Cluster.up();
  }, STORY_MS);

  test("the cluster prints its addresses as one line of JSON", async () => {
    expect(cluster.urls).toEqual({
      relay_url: expect.stringMatching(/^ws:\/\/127\.0\.0\.1:\d+$/),
      registry_url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
      pair_url: `${cluster.urls.registry_url}/v1/pair`,
    });
    expect(await cluster.json("status")).toEqual({
      name: "local",
      did: expect.stringMatching(DID),
      up: true,
      allows_unproven: false,
      ...cluster.urls,
      online: [expect.stringMatching(DID)],
      grants: 0,
      running: 0,
      tasks: expect.objectContaining({
        runner: null,
        policy: false,
        node_permission: true,
        limits: {
          memory_mib: 4096,
          cpu_minutes: 240,
          processes: 512,
          output_mb: 1000,
          max_minutes: 1440,
          max_file_mb: 30,
        },
      }),
    });
  });

  test("a second one of the same directory, and one on a port that is taken, say so", async () => {
    const again = ["up", "--dir", cluster.directory, "--port", "0"];
    expect(await failure("kars-local", again)).toEqual({ code: 1, error: "store_locked" });
    const elsewhere = ["up", "--dir", new Laptop().home, "--port", new URL(cluster.urls.registry_url).port];
    expect(await failure("kars-local", elsewhere)).toEqual({ code: 1, error: "input_invalid" });
  });

  test("one that lets old clients in says so, loudly", async () => {
    const open = await Cluster.up("--allow-unproven");
    await open.process.says(/WARNING: --allow-unproven is on/, "stderr");
    expect(await open.json("status")).toMatchObject({ up: true, allows_unproven: true });
    expect((await open.run("status")).stdout).toMatch(/^WARNING .*--allow-unproven/m);
    await open.process.end();
  });

  test("the operator makes tokens, and the laptops pair", async () => {
    const issued = await cluster.run("pair", "generate", "--name", "alice-laptop", "--slots", "3");
    expect(issued).toMatchObject({ code: 0, stdout: expect.stringMatching(/^kars-pair-[\w-]+\n$/) });
    expect(issued.stderr).toMatch(/alice-laptop \(3 slots, offload\)/);
    alice = new Laptop();
    const told = await alice.text("pair", issued.stdout.trim());
    expect(told).toMatch(/^Paired with local\.\nname +alice-laptop\ndid +did:mesh:/);

    const token = await cluster.json("pair", "generate", "--name", "bob-laptop", "--capabilities", "offload,gpu");
    expect(token).toEqual({
      name: "bob-laptop",
      token: expect.stringMatching(/^kars-pair-[\w-]+$/),
      expires_at: expect.stringMatching(ISO),
    });
    bob = new Laptop();
    const paired = await bob.json<{ did: string }>("pair", (token as { token: string }).token, "--name", "bob");
    expect(paired).toEqual({
      did: expect.stringMatching(DID),
      name: "bob",
      cluster: "local",
      relay_url: cluster.urls.relay_url,
      plaintext: false,
      grant: {
        name: "bob-laptop",
        slots: 1,
        capabilities: ["offload", "gpu"],
        token_budget: null,
        expires_at: expect.stringMatching(ISO),
      },
    });
    bobDid = paired.did;
  });

  test("whoami", async () => {
    const me = await alice.json<{ did: string }>("whoami");
    expect(me).toEqual({
      did: expect.stringMatching(DID),
      name: "alice-laptop",
      clusters: [
        {
          cluster: "local",
          controller: expect.stringMatching(DID),
          name: "alice-laptop",
          relay_url: cluster.urls.relay_url,
          registry_url: cluster.urls.registry_url,
          grant: expect.objectContaining({ name: "alice-laptop", slots: 3 }),
          plaintext: false,
          forgotten: null,
          state: "paired",
        },
      ],
    });
    aliceDid = me.did;
    expect(await alice.text("whoami")).toMatch(/^link +online$/m);
  });

  test("a token serves one laptop, and none that was revoked", async () => {
    const used = await cluster.token("carol");
    const carol = new Laptop();
    await carol.json("pair", used);
    expect(await failure("kars-mesh", ["--home", new Laptop().home, "pair", used])).toEqual({
      code: 1,
      error: "token_used",
    });
    const revoked = await cluster.token("dave");
    expect(await cluster.json("pair", "revoke", "dave")).toMatchObject({ name: "dave", phase: "Revoked" });
    expect(await failure("kars-mesh", ["--home", new Laptop().home, "pair", revoked])).toEqual({
      code: 1,
      error: "token_revoked",
    });
    expect(await failure("kars-local", ["--dir", cluster.directory, "pair", "generate", "--name", "dave"])).toEqual({
      code: 1,
      error: "grant_exists",
    });
  });

  test("the operator sees who is in", async () => {
    const bobs = {
      name: "bob-laptop",
      phase: "Active",
      slots: 1,
      slots_used: 0,
      capabilities: ["offload", "gpu"],
      expires_at: expect.stringMatching(ISO),
      did: bobDid,
      paired_at: expect.stringMatching(ISO),
      completed: 0,
      failed: 0,
      token_budget: null,
      tokens_used: 0,
    };
    expect(await cluster.json("pair", "inspect", "bob-laptop")).toEqual(bobs);
    const { grants } = await cluster.json<{ grants: unknown[] }>("pair", "list");
    expect(grants).toHaveLength(4);
    expect(grants[1]).toEqual(bobs);
    expect((await cluster.run("pair", "list")).stdout).toMatch(/^bob-laptop +Active +0\/1 +offload, gpu +in 30 d/m);
    expect(await failure("kars-local", ["--dir", cluster.directory, "pair", "inspect", "eve"])).toEqual({
      code: 1,
      error: "grant_unknown",
    });
    expect(await cluster.json("sandboxes")).toEqual({ sandboxes: [], standing: [] });
  });

  test("they discover each other", async () => {
    const found = await alice.json("discover", "--name", "bob");
    expect(found).toEqual({
      agents: [
        { did: bobDid, name: "bob", capabilities: [], online: false, last_seen: expect.stringMatching(/^\d{4}-/) },
      ],
    });
    expect(await alice.text("discover")).toMatch(/^bob +\S+.* did:mesh:/m);
    expect(await alice.json("discover", "--capability", "flying")).toEqual({ agents: [] });
  });

  test("a message waits for a laptop that is not there", async () => {
    const sent = await alice.json<{ id: string }>("send", "bob", "are", "you", "there?");
    expect(sent).toEqual({ id: expect.stringMatching(UUID), state: "sent" });
    const inbox = await bob.json("inbox");
    expect(inbox).toEqual({
      messages: [
        {
          id: sent.id,
          from: aliceDid,
          name: "alice-laptop",
          at: expect.stringMatching(ISO),
          body: "are you there?",
          read: false,
        },
      ],
      unread: 1,
    });
    expect(await bob.json("inbox", "--mark-read")).toEqual(inbox);
    expect(await bob.json("inbox")).toEqual({ messages: [], unread: 0 });
    expect(await bob.json<Inbox>("inbox", "--all")).toMatchObject({
      messages: [{ id: sent.id, read: true }],
      unread: 0,
    });
  });

  test("words from standard input, and an answer that is awaited", async () => {
    const words = "I am.\nOn two lines, — 漢字 —";
    const piped = await run("kars-mesh", ["--home", bob.home, "send", aliceDid, "-"], { input: `${words}\n` });
    expect(piped).toMatchObject({ code: 0, stdout: `Sent to ${aliceDid}.\n` });
    const awaited = await alice.json("await", "bob");
    expect(awaited).toEqual({
      status: "received",
      messages: [
        { id: expect.any(String), from: bobDid, name: "bob", at: expect.any(String), body: words, read: false },
      ],
      missing: [],
    });
    expect(await alice.json("inbox")).toEqual({ messages: [], unread: 0 });
  });

  test("a message too long is refused before it is sent", async () => {
    const input = Buffer.alloc(300_000, "x");
    const { code, stderr } = await run("kars-mesh", ["--home", bob.home, "send", "alice-laptop", "-"], { input });
    expect([code, stderr]).toEqual([1, expect.stringMatching(/at most 262144 bytes/)]);
  });

  test("await ends with 3 when the time is up, and says who is missing", async () => {
    const ended = await alice.run("await", "bob", "--timeout", "0", "--json");
    expect(ended.code).toBe(3);
    expect(documentOf(ended)).toEqual({ status: "timeout", messages: [], missing: [bobDid] });
    const told = await alice.run("await", "bob", "--timeout", "0");
    expect(told).toEqual({ code: 3, stdout: "", stderr: "Nothing from bob within 0 s.\n" });
  });

  test("whom nobody knows", async () => {
    for (const command of [
      ["send", "eve", "hi"],
      ["await", "eve"],
      ["inbox", "--from", "eve"],
      ["verify", "eve"],
    ])
      expect(await failure("kars-mesh", ["--home", alice.home, ...command])).toEqual({
        code: 1,
        error: "peer_unknown",
      });
  });

  test("peers", async () => {
    expect(await alice.json("peers")).toEqual({
      peers: [
        expect.objectContaining({
          did: bobDid,
          name: "bob",
          sent: 1,
          received: 1,
          unread: 0,
          queued: 0,
          confirmed: true,
        }),
      ],
      malformed: 0,
    });
    expect(await alice.text("peers")).toMatch(/^bob +confirmed +1 +1 +0 +0 +0 +did:mesh:/m);
  });

  test("a safety number is shown, compared, recorded and withdrawn", async () => {
    const { number } = (await alice.json("verify", "bob")) as { number: string };
    expect(await bob.json("verify", "alice-laptop")).toMatchObject({ number, verified_at: null });
    const text = await alice.text("verify", "bob");
    expect(text).toContain(number.slice(0, 20).replaceAll(/(.{5})(?=.)/g, "$1 "));
    expect(text).toMatch(/[█▀▄]{10}/);
    const wrong = ["--home", alice.home, "verify", "bob", "--number", "1".repeat(60)];
    expect(await failure("kars-mesh", wrong)).toEqual({ code: 1, error: "safety_number_mismatch" });
    expect(await alice.json("verify", "bob", "--number", number)).toMatchObject({ verified_at: expect.any(String) });
    expect(await alice.text("peers")).toMatch(/^bob +verified just now +confirmed/m);
    expect(await alice.json("verify", "bob", "--undo")).toMatchObject({ verified_at: null });
    const both = ["--home", alice.home, "verify", "bob", "--undo", "--yes"];
    expect(await failure("kars-mesh", both)).toMatchObject({ error: "input_invalid" });
  });

  test("a stranger waits until it is accepted, and hears what became of its message", async () => {
    expect(await alice.json("policy")).toEqual({ policy: "circle" });
    expect(await alice.text("policy", "verified")).toMatch(/^verified: /);
    expect(await failure("kars-mesh", ["--home", alice.home, "policy", "friends"])).toMatchObject({ code: 2 });
    const erin = new Laptop();
    await erin.json("pair", await cluster.token("erin-laptop"), "--name", "erin");
    const { id } = await erin.json<{ id: string }>("send", "alice-laptop", "may I?");
    const seen = await alice.run("inbox");
    expect(seen.stderr).toContain("1 agent waiting to be accepted");
    expect(seen.stdout).not.toContain("may I?");
    expect(await alice.text("peers")).toMatch(/^erin +waiting/m);
    expect(await alice.text("accept", "erin")).toContain("1 message of it came to the inbox.");
    expect(await alice.text("inbox", "--mark-read")).toContain("may I?");
    await alice.json("send", "erin", "you may");
    const { messages } = await erin.json<{ messages: readonly object[] }>("sent");
    expect(messages).toMatchObject([{ id, name: "alice-laptop", state: "read" }]);
    expect(await alice.json("decline", "erin")).toMatchObject({ admission: "declined" });
    expect(await alice.json("policy", "circle")).toEqual({ policy: "circle" });
  });

  test("what a terminal would obey does not reach it", async () => {
    const evil = "\x1b]0;pwned\x07\x1b[2J\u009b31m\rrest\u202e";
    expect((await run("kars-mesh", ["--home", bob.home, "send", "alice-laptop", "-"], { input: evil })).code).toBe(0);
    const identity = identityFromSeed(realRandom(32));
    const registry = new Registry(
      { network: realNetwork, clock: realClock, signal: new AbortController().signal },
      cluster.urls.registry_url,
    );
    await registry.register(identity, ["\x1b[31mevil", "\x07bell"], { name: "\x1b[31mevil" });
    const watching = alice.start("run");
    await watching.says(/online\n/);
    await bob.json("send", "alice-laptop", evil);
    await watching.says(/bob: .*rest.*\n/);
    await watching.end();
    const outputs = [
      (await watching.ended).stdout,
      await alice.text("inbox"),
      await alice.text("discover"),
      (await alice.run("inbox", "--json")).stdout,
      (await alice.run("discover", "--json")).stdout,
      await alice.text("await", "bob"),
    ];
    for (const output of outputs) {
      expect(output).toMatch(/\\x1b|\\u001b/);
      expect(output.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\u202e]/u);
    }
    expect(outputs[1]).toContain("\\x1b]0;pwned\\x07\\x1b[2J\\x9b31m\\rrest\\u{202e}");
    await registry.remove(identity);
  });

  test("run keeps the home online, and other commands go through it", async () => {
    const owner = alice.start("run", "--json");
    await owner.says(/online\n/, "stderr");
    const follower = alice.start("run");
    await follower.says(/Another process keeps this home online/, "stderr");
    await follower.says(/online\n/);

    await Promise.all([
      alice.json("send", "bob", "one"),
      alice.json("send", "bob", "two"),
      bob.json("send", "alice-laptop", "to you"),
    ]);
    await owner.says(/bob: to you\n/, "stderr");
    await follower.says(/bob: to you\n/);
    await follower.says(/sent to bob\n(.|\n)*sent to bob\n/);
    const { messages } = await bob.json<Inbox>("inbox", "--mark-read");
    expect(messages.map(({ body }) => body).sort()).toEqual(["one", "two"]);
    expect(await alice.json<Inbox>("inbox")).toMatchObject({ messages: [{ body: "to you" }], unread: 1 });
    expect(await alice.json<Inbox>("await", "bob", "--timeout", "10")).toMatchObject({ status: "received" });

    const waiting = alice.start("await", "bob", "--timeout", "60", "--json");
    await bob.json("send", "alice-laptop", "awaited");
    expect(documentOf(await waiting.ended)).toMatchObject({ status: "received", messages: [{ body: "awaited" }] });

    // The owner dies, and who followed it goes on in its place.
    const { stdout } = await owner.end("SIGKILL");
    expect(JSON.parse(stdout)).toEqual({ did: aliceDid, name: "alice-laptop", role: "owner", home: alice.home });
    await follower.says(/stays online here/, "stderr");
    await bob.json("send", "alice-laptop", "still there?");
    await follower.says(/bob: still there\?\n/);
    expect(await follower.end()).toMatchObject({ code: 0 });
    expect(await alice.json<Inbox>("inbox", "--mark-read")).toMatchObject({ messages: [{ body: "still there?" }] });
  });

  test("an unpaired home can be kept open, and is paired through it", async () => {
    const erin = new Laptop();
    const online = erin.start("run", "--json");
    const [line] = await online.says(/^.+\n/);
    expect(JSON.parse(line)).toEqual({ did: null, name: null, role: "owner", home: erin.home });
    await online.says(/kars-mesh pair <token>/, "stderr");
    expect(await erin.json("pair", await cluster.token("erin"))).toMatchObject({ name: "erin" });
    await online.says(/paired with local\n(.*\n)*.*online\n/, "stderr");
    expect(await online.end("SIGTERM")).toMatchObject({ code: 0, stdout: line });
  });

  test("commands that meet at one home, where each may be the owner and end, all get through", async () => {
    const words = ["a", "b", "c", "d", "e", "f"];
    const sent = await Promise.all(words.map((word) => alice.json("send", "bob", word)));
    expect(sent).toEqual(words.map(() => ({ id: expect.stringMatching(UUID), state: expect.any(String) })));
    // Whatever the last owner left queued goes out when the home is opened next.
    await alice.json("inbox");
    const { messages } = await bob.json<Inbox>("inbox", "--mark-read");
    expect(messages.map(({ body }) => body).sort()).toEqual(words);
  });

  test("history and replay, beside a running owner too", async () => {
    const owner = alice.start("run", "--json");
    await owner.says(/\n/);
    const history = async (...args: string[]): Promise<{ stream: string; type: string }[]> => {
      const { code, stdout } = await alice.run("history", ...args, "--json");
      expect(code).toBe(0);
      return stdout.split("\n").flatMap((text) => (text === "" ? [] : [JSON.parse(text)]));
    };
    const lines = await history();
    expect(lines[0]).toEqual({
      number: expect.any(Number),
      at: expect.stringMatching(ISO),
      stream: expect.stringMatching(/^pairing\/did:mesh:/),
      type: "STARTED",
      event: expect.any(Object),
      from: "unpaired",
      to: "claiming",
      effects: ["claim"],
      accepted: true,
    });
    const short = `conversation/${bobDid.slice("did:mesh:".length, 20)}`;
    const page = await history(short, "--limit", "2");
    expect(page.map(({ stream }) => stream)).toEqual([`conversation/${bobDid}`, `conversation/${bobDid}`]);
    expect(await alice.text("history", short, "--limit", "2")).toMatch(
      /\nThe last 2 of \d+ events; more with --limit\.\n$/,
    );
    const read = await history("--peer", "bob", "--type", "read");
    expect(new Set(read.map(({ stream, type }) => `${stream} ${type}`))).toEqual(
      new Set([`conversation/${bobDid} READ`]),
    );
    const following = alice.start("history", "--follow", "--type", "SEND", "--limit", "1");
    await following.says(/SEND/);
    await alice.json("send", "bob", "followed");
    await following.says(/SEND.*\n(?:.*\n)*.*SEND/);
    expect(await following.end()).toMatchObject({ code: 0, stderr: "" });
    await bob.json("inbox", "--mark-read");
    expect(await alice.text("history", short)).toMatch(/conversation\/\S+ +SEND +closed -> opening +establish/);
    expect(await alice.text("history", "--streams")).toContain(`conversation/${bobDid}`);

    const now = await alice.json<{ value: string; context: { sent: number } }>("replay", short);
    expect(now).toMatchObject({ stream: `conversation/${bobDid}`, value: "open", context: { sent: 10, unread: 0 } });
    const before = await alice.json("replay", short, "--at", "0");
    expect(before).toMatchObject({ value: "closed", events: 0, number: 0 });
    expect(await alice.text("replay", short)).toMatch(/^state +open$/m);
    expect(await alice.text("replay", short, "--until", "sent>3")).toMatch(/^ +"sent": [4-9],$/m);
    expect(await alice.text("replay", short, "--diff", "0", "99999")).toMatch(/^value: "closed" -> "open"$/m);
    expect(await alice.text("replay", "--check")).toMatch(/ folded; .*\nNothing differs\.\n$/);
    const exported = join(folder(), "bob.jsonl");
    expect(await alice.text("export", short, "--out", exported)).toContain(exported);
    expect(await failure("kars-mesh", ["--home", alice.home, "export", short, "--out", exported])).toMatchObject({
      code: 1,
    });
    const worded = join(folder(), "bob.words.jsonl");
    expect(await alice.text("export", short, "--with-bodies", "--out", worded)).toContain("in clear");
    expect(readFileSync(worded, "utf8")).toContain("followed");
    expect(await alice.text("replay", worded, "--check")).toContain("this program makes of");
    const elsewhere = new Laptop();
    expect(await elsewhere.text("replay", exported)).toMatch(/^state +open$/m);
    expect(await elsewhere.text("replay", exported, "--check")).toContain("this program makes of");
    expect(readFileSync(exported, "utf8")).not.toMatch(/are you there|awaited|followed/);
    expect((await elsewhere.run("replay", exported, "--step")).stderr).toContain("--step needs a terminal");
    expect(JSON.stringify([lines, now])).not.toMatch(/are you there|awaited/);
    await owner.end();
  });

  test("inspect prints where to look, and ends with Ctrl-C", async () => {
    const inspecting = alice.start("inspect", "--json");
    const [line] = await inspecting.says(/^.+\n/);
    const { page, url } = JSON.parse(line);
    expect(JSON.parse(line)).toEqual({
      page: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/\?token=/),
      url: expect.stringMatching(/^ws:\/\/127\.0\.0\.1:\d+\/\?token=/),
    });
    expect(await (await fetch(page)).text()).toContain("<title>Kars Mesh inspector</title>");
    const socket = new WebSocket(url);
    const first = await new Promise<string>((resolve, reject) => {
      socket.once("message", (data) => resolve(String(data)));
      socket.once("error", reject);
    });
    expect(JSON.parse(first)).toMatchObject({ type: "@xstate.actor" });
    expect(await inspecting.end()).toMatchObject({ code: 0, stdout: line });
  });

  test("Ctrl-C ends a wait with 130, and what is printed is one document", async () => {
    for (const [signal, code] of [
      ["SIGINT", 130],
      ["SIGTERM", 143],
    ] as const) {
      const online = alice.start("run");
      await online.says(/online\n/);
      const waiting = alice.start("await", "bob", "--timeout", "600", "--json");
      await waiting.says(/^Waiting for bob/m, "stderr");
      const ended = await waiting.end(signal);
      expect(ended.code).toBe(code);
      expect(documentOf(ended)).toMatchObject({ error: { code: "aborted" } });
      await online.end();
    }
  });

  test("nobody reads to the end, and nobody complains", async () => {
    const history = alice.start("history", "--limit", "10000");
    history.stopReading();
    expect(await history.ended).toMatchObject({ code: 0, stderr: "" });
    const online = alice.start("run");
    await online.says(/online\n/);
    online.stopReading();
    await bob.json("send", "alice-laptop", "into the pipe");
    expect(await online.ended).toMatchObject({ code: 0 });
    await alice.json("inbox", "--mark-read");
  });

  test("a message sent while the cluster is down goes out later", async () => {
    expect(await cluster.process.end()).toMatchObject({ code: 0 });
    const down = await cluster.run("status", "--json");
    expect(documentOf(down)).toMatchObject({ up: false, grants: 6, ...cluster.urls });
    const queued = await alice.run("send", "bob", "later");
    expect(queued.code).toBe(0);
    expect(queued.stdout).toMatch(/^The relay cannot be reached now.*The message to bob is queued\. It goes out when/);
    const [state, read] = await Promise.all([alice.json("send", "bob", "later still"), alice.run("inbox")]);
    expect(state).toEqual({ id: expect.any(String), state: "queued" });
    expect(read).toMatchObject({ code: 0, stderr: expect.stringMatching(/This is what is here already/) });
    expect(await failure("kars-mesh", ["--home", alice.home, "discover"])).toEqual({
      code: 1,
      error: "registry_unreachable",
    });

    // Given up while it waits for the relay: the message was accepted all the same.
    const online = alice.start("run");
    await online.says(/offline.*trying again\n/);
    const watching = await openMesh({ home: alice.home });
    expect(watching.role).toBe("caller");
    const accepted = new Promise<void>((resolve, reject) => {
      const onProgress = (news: unknown) => JSON.stringify(news).includes('"type":"SEND"') && resolve();
      watching.call("watch", {}, { onProgress }).catch(reject);
    });
    const impatient = alice.start("send", "bob", "and this", "--json");
    await accepted;
    const givenUp = await impatient.end();
    expect(givenUp.code).toBe(130);
    expect(documentOf(givenUp)).toEqual({ id: expect.any(String), state: "queued" });
    await Promise.all([watching.close(), online.end()]);

    await cluster.again();
    await alice.json("inbox");
    const { messages } = await bob.json<Inbox>("inbox");
    expect(messages.map(({ body }) => body)).toEqual(["later", "later still", "and this"]);
  });
});
