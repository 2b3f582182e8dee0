import { describe, expect, test } from "vitest";
import { openEmbeddedState } from "../../src/cluster/embedded/state.ts";
import { TROUBLE_MS } from "../../src/cluster/limits.ts";
import { jsonLog, textLog } from "../../src/cluster/log.ts";
import { createMetrics, METRICS_TYPE } from "../../src/cluster/metrics.ts";
import { base64url } from "../../src/crypto/index.ts";
import { MeshError } from "../../src/errors.ts";
import { realDisk } from "../../src/store/disk.ts";
import {
  ACCEPTED,
  agent,
  agentPath,
  connect,
  connectFrame,
  message,
  openSocket,
  prekeys,
  publish,
  register,
  request,
  temporaryDirectory,
  type World,
  world,
} from "./world.ts";

// What a server tells of itself: whether it lives, whether it is ready, what it counts, and what it writes to its log.

const [alice, bob] = [agent("alice"), agent("bob")];

async function metricsOf(server: World, headers: Record<string, string> = {}) {
  const response = await fetch(`${server.url}/metrics`, { headers });
  return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
}

const pairRequest = {
  token: base64url.encode(new Uint8Array(32)),
  did: alice.did,
  public_key: base64url.encode(alice.publicKey),
  proof: base64url.encode(new Uint8Array(64)),
  proof_timestamp: "2026-03-01T12:00:00.000Z",
};

/** The value of one line of the metrics. */
const countOf = (text: string, line: string) =>
  Number(
    text
      .split("\n")
      .find((each) => each.startsWith(`${line} `))
      ?.slice(line.length + 1) ?? Number.NaN,
  );

describe("the text format", () => {
  test("names, describes and escapes", () => {
    const metrics = createMetrics();
    const counter = metrics.counter({ name: "a_total", help: "a \\ b\nc", labels: ["x", "y"] });
    counter.add(['"q"', "back\\slash\nline"]);
    counter.add(['"q"', "back\\slash\nline"], 2);
    metrics.counter({ name: "b_total", help: "b" });
    metrics.gauge({ name: "g", help: "g", labels: ["k"] }, () => [
      [["one"], 1.5],
      [["none"], Number.NaN],
      [["all"], Number.POSITIVE_INFINITY],
    ]);
    const histogram = metrics.histogram({ name: "h", help: "h", labels: ["l"] }, [0.1, 1]);
    for (const value of [0.1, 0.5, 7]) histogram.observe(value, ["v"]);
    expect(metrics.text()).toBe(
      [
        "# HELP a_total a \\\\ b\\nc",
        "# TYPE a_total counter",
        'a_total{x="\\"q\\"",y="back\\\\slash\\nline"} 3',
        "# HELP b_total b",
        "# TYPE b_total counter",
        "b_total 0",
        "# HELP g g",
        "# TYPE g gauge",
        'g{k="one"} 1.5',
        'g{k="none"} NaN',
        'g{k="all"} +Inf',
        "# HELP h h",
        "# TYPE h histogram",
        'h_bucket{l="v",le="0.1"} 1',
        'h_bucket{l="v",le="1"} 2',
        'h_bucket{l="v",le="+Inf"} 3',
        'h_sum{l="v"} 7.6',
        'h_count{l="v"} 3',
        "",
      ].join("\n"),
    );
  });
});

describe("/metrics", () => {
  test("counts connections, frames, what became of them, requests and limits", async () => {
    const server = await world({ rates: { requests_per_address: { burst: 6, perMinute: 60 } } });
    const sender = await connect(server, alice, ACCEPTED);
    const receiver = await connect(server, bob);
    for (const _ of [1, 2]) {
      sender.send(message(bob, "1"));
      await sender.next();
    }
    await receiver.next();
    await receiver.read();
    await (await openSocket(server)).send("nonsense");
    await request(server, "GET", agentPath(alice));
    await request(server, "GET", "/nowhere");
    while ((await request(server, "GET", "/v1/discover")).status !== 429);
    server.clock.pass(5_000);
    const { status, type, text } = await metricsOf(server);
    expect([status, type]).toEqual([200, METRICS_TYPE]);
    expect(countOf(text, "kars_connections")).toBe(2);
    expect(countOf(text, 'kars_frames_routed_total{outcome="stored"}')).toBe(1);
    expect(countOf(text, 'kars_frames_routed_total{outcome="duplicate"}')).toBe(1);
    expect(countOf(text, 'kars_frames_total{direction="out"}')).toBe(1);
    expect(countOf(text, "kars_put_seconds_count")).toBe(2);
    expect(countOf(text, 'kars_mail_seconds_count{mail="live"}')).toBe(1);
    expect(countOf(text, 'kars_connects_refused_total{reason="connect_expected"}')).toBe(1);
    expect(countOf(text, 'kars_http_requests_total{route="/v1/agents/:did",status="404"}')).toBe(1);
    expect(countOf(text, 'kars_http_requests_total{route="none",status="404"}')).toBe(1);
    expect(countOf(text, 'kars_rate_limits_met_total{limit="requests_per_address"}')).toBe(1);
    expect(countOf(text, 'kars_process_memory_bytes{kind="rss"}')).toBeGreaterThan(1e6);
    expect(countOf(text, 'kars_event_loop_lag_seconds{quantile="0.99"}')).toBeGreaterThanOrEqual(0);
    for (const line of text.trimEnd().split("\n")) {
      expect(line).toMatch(/^(?:# (?:HELP|TYPE) kars_\w+ .+|kars_\w+(?:\{(?:\w+="[^"]*",?)+\})? \S+)$/);
    }
  });

  test("are for this machine alone, unless they are for all", async () => {
    const [closed, open] = [await world(), await world({ metricsToAll: true })];
    const byProxy = { "x-forwarded-for": "203.0.113.7" };
    expect((await metricsOf(closed)).status).toBe(200);
    // What a proxy of this machine hands on does not come from this machine.
    expect((await metricsOf(closed, byProxy)).status).toBe(403);
    expect((await metricsOf(open, byProxy)).status).toBe(200);
  });
});

describe("/health and /ready", () => {
  const ready = async (server: World) => {
    const { status, json } = await request(server, "GET", "/ready");
    return [status, json.reason ?? json.status];
  };

  test("say that it lives and can serve", async () => {
    const server = await world();
    expect((await request(server, "GET", "/health")).json).toEqual({ status: "ok" });
    expect(await ready(server)).toEqual([200, "ready"]);
  });

  test("say why it cannot: what its state says, or that the store refused a frame a short while ago", async () => {
    const directory = await temporaryDirectory();
    const state = await openEmbeddedState({ disk: realDisk, directory, now: Date.now });
    let trouble: string | undefined;
    let fails = false;
    const server = await world({
      state: {
        ...state,
        trouble: () => trouble,
        mailboxes: {
          ...state.mailboxes,
          put: (...put) => (fails ? Promise.reject(new MeshError("store_io")) : state.mailboxes.put(...put)),
        },
      },
    });
    trouble = "NATS is away";
    expect(await ready(server)).toEqual([503, "NATS is away"]);
    expect((await request(server, "GET", "/health")).status).toBe(200);
    trouble = undefined;
    const sender = await connect(server, alice, ACCEPTED);
    fails = true;
    sender.send(message(bob, "1"));
    expect(await sender.next()).toMatchObject({ type: "error", code: "store_io" });
    expect(await ready(server)).toEqual([503, "the store fails: store_io"]);
    server.clock.pass(TROUBLE_MS);
    expect(await ready(server)).toEqual([200, "ready"]);
  });
});

describe("the log", () => {
  /** A word that nobody must read, in all the forms in which it might be written. */
  const canaries: string[] = [];
  const canary = (what: string) => {
    const word = `canary${what}${canaries.length}yranac`;
    canaries.push(word);
    return word;
  };
  const forms = (word: string) => [word, encodeURIComponent(word), Buffer.from(word).toString("base64").slice(0, 20)];

  test("and the metrics hold no word, key or name of anyone, whatever goes wrong", async () => {
    const lines: string[] = [];
    const text: string[] = [];
    const events = jsonLog((line) => lines.push(line));
    const asText = textLog((line) => text.push(line));
    const token = canary("Token");
    const server = await world({
      token,
      metricsToAll: true,
      allowUnproven: true,
      rates: { connects_per_agent: { burst: 4, perMinute: 1 }, registrations_per_address: { burst: 3, perMinute: 1 } },
      pair: () => Promise.reject(new TypeError(canary("Defect"))),
      onEvent: (event, fields) => {
        events(event, fields);
        if (fields?.code !== "internal") asText(event, fields);
      },
    });
    const sender = await connect(server, alice, { token, ...ACCEPTED });
    const receiver = await connect(server, bob, { token });
    sender.send(message(bob, canary("Id"), { ciphertext: canary("Ciphertext"), [canary("Field")]: 1 }));
    await receiver.next();
    sender.send({ type: canary("Type"), to: bob.did, id: "x" });
    sender.send(`{"broken": "${canary("Broken")}`);
    sender.send({ type: "ack", id: canary("Ack") });
    await sender.read();
    for (const frame of [
      canary("First"),
      { type: "connect", from: canary("From") },
      { ...connectFrame(agent("eve"), server.clock.iso()), token: canary("WrongToken") },
      { ...connectFrame(agent("eve"), server.clock.iso()), public_key: canary("Key"), signature: canary("Signature") },
    ]) {
      const socket = await openSocket(server);
      socket.send(frame);
      await socket.ended;
    }
    const broken = await openSocket(server);
    broken.socket.send("x".repeat(20_000_000));
    await broken.ended;
    const more = { capabilities: [canary("Capability")], metadata: { name: canary("Name") } };
    await register(server, alice, more);
    await publish(server, alice, { ...prekeys(alice), extra: canary("Prekeys") });
    await register(server, bob, { capabilities: canary("NoList") });
    for (const _ of [1, 2]) await register(server, agent("many"), { metadata: { [canary("Metadata")]: "x" } });
    const headers = { authorization: `Ed25519-Timestamp ${canary("Authorization")}` };
    await request(server, "DELETE", agentPath(alice), { headers });
    await request(server, "GET", `/v1/agents/${canary("Path")}?${canary("Query")}`);
    await request(server, canary("METHOD").toUpperCase(), `/${canary("Elsewhere")}`).catch(() => undefined);
    await request(server, "POST", "/v1/pair", { body: `{"token":"${canary("PairToken")}` });
    expect((await request(server, "POST", "/v1/pair", { body: pairRequest })).status).toBe(500);
    const socket = await openSocket(server);
    await socket.kill();
    await server.drain();
    const { text: metrics } = await metricsOf(server);

    expect(canaries.length).toBeGreaterThan(20);
    for (const word of canaries)
      for (const form of forms(word))
        for (const [where, all] of Object.entries({ json: lines, text, metrics: [metrics] }))
          expect(all.join("\n").toLowerCase(), where).not.toContain(form.toLowerCase());
    expect(metrics).not.toContain("did:");
    expect(metrics).not.toContain("127.0.0.1");
    // It was not silence: each line says when, how bad and what, in fields that are known.
    const known = ["time", "level", "event", "did", "address", "code", "limit", "count", "ms", "proven", "detail"];
    for (const line of lines) {
      const said = JSON.parse(line);
      expect(said).toMatchObject({ time: expect.stringMatching(/Z$/), level: expect.any(String) });
      expect(Object.keys(said).filter((key) => !known.includes(key))).toEqual([]);
    }
    const names = new Set(lines.map((line) => JSON.parse(line).event));
    for (const name of ["connected", "socket_failed", "limit_met", "draining", "drained", "left"])
      expect(names).toContain(name);
  });

  test("tells of a defect to people, and in JSON that there is one", async () => {
    const lines: string[] = [];
    const server = await world({
      pair: () => Promise.reject(new TypeError("something nobody thought of")),
      onEvent: jsonLog((line) => lines.push(line)),
    });
    expect((await request(server, "POST", "/v1/pair", { body: pairRequest })).status).toBe(500);
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ event: "request_failed", code: "internal" }]);
    expect(lines.join()).not.toContain("nobody thought of");
  });

  test("is of lines for people as ever", async () => {
    const server = await world();
    await (await connect(server, alice)).close();
    expect(server.lines).toContain(`relay: ${alice.did} connected`);
  });
});
