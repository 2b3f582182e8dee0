import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { runOperation } from "../../src/actors/operation.ts";
import { clusterOperations } from "../../src/cluster/household.ts";
import { type Bus, connectBus } from "../../src/cluster/jetstream/bus.ts";
import {
  answerForController,
  askController,
  type ControllerAnswers,
} from "../../src/cluster/jetstream/controller-link.ts";
import { VOUCH_KEPT_MS, VOUCHES_KEPT_MAX } from "../../src/cluster/jetstream/limits.ts";
import { base64url, sign, utf8 } from "../../src/crypto/index.ts";
import { MeshError } from "../../src/errors.ts";
import { decodeToken, type PairRequest, pairProofText } from "../../src/wire/pair.ts";
import { agent } from "../cluster/world.ts";
import { openController } from "./controllers.ts";
import { natsNodes } from "./nodes.ts";

// Any replica answers for the controller, wherever the active one is.

let servers: Awaited<ReturnType<typeof natsNodes>>;
let url: string;
let clusters = 0;
const freshCluster = () => `link-${clusters++}`;

beforeAll(async () => {
  servers = await natsNodes(1);
  url = servers.nodes[0]?.url ?? "";
});
afterAll(() => servers.close());

async function connected(cluster: string): Promise<Bus> {
  const bus = await connectBus({ servers: url, cluster });
  onTestFinished(() => bus.close());
  return bus;
}

const laptop = agent("laptop");
const word = {
  controller_key: base64url.encode(new Uint8Array(32)),
  expires_at: new Date().toISOString(),
  signature: base64url.encode(new Uint8Array(64)),
};
const did = (n: number) => `did:mesh:${n.toString(16).padStart(32, "0")}`;

function pairRequest(token: string): PairRequest {
  const { secret } = decodeToken(token);
  const time = new Date().toISOString();
  return {
    token: secret,
    did: laptop.did,
    public_key: base64url.encode(laptop.publicKey),
    proof: base64url.encode(sign(laptop, utf8.encode(pairProofText(secret, laptop.did, time)))),
    proof_timestamp: time,
  };
}

const refusing = () => Promise.reject(new MeshError("internal"));
const answering = (more: Partial<ControllerAnswers>): ControllerAnswers => ({
  pair: refusing,
  vouch: refusing,
  operate: refusing,
  ...more,
});

/** The answers of a controller, as the replica where it is active gives them. */
function answersOf({ household, node }: Awaited<ReturnType<typeof openController>>): ControllerAnswers {
  const table = clusterOperations(household);
  const { signal } = new AbortController();
  return {
    pair: (request) => household.grants.pair(request),
    vouch: (agent) => household.vouch(agent),
    operate: (name, params) => runOperation(table, name, params, { node, signal, progress: () => undefined }),
  };
}

describe("a replica asks the active controller", () => {
  it("to pair a laptop, to vouch for it, and to do what its operator wants", async () => {
    const cluster = freshCluster();
    const controller = await openController(url, cluster);
    answerForController(controller.bus, answersOf(controller));
    const link = askController(await connected(cluster));
    const issued = await link.operate("grant_issue", { name: "g", expires_ms: 600_000 });
    expect(issued).toMatchObject({ name: "g", token: expect.stringContaining("kars-pair-") });
    const { token } = issued as { token: string };
    expect(await link.vouch(laptop.did)).toBeUndefined();
    const paired = await link.pair(pairRequest(token));
    expect(paired).toMatchObject({ cluster: "test", grant: { name: "g", slots: 1 } });
    expect(paired.controller_did).toBe(controller.node.core.keyring.identity.did);
    expect(await link.vouch(laptop.did)).toMatchObject({ controller_key: paired.controller_key });
    expect(await link.operate("grants", {})).toMatchObject({ grants: [{ name: "g", did: laptop.did }] });
  });

  it("and hears the controller's own errors", async () => {
    const cluster = freshCluster();
    const controller = await openController(url, cluster);
    answerForController(controller.bus, answersOf(controller));
    const link = askController(await connected(cluster));
    const secret = decodeToken(
      ((await link.operate("grant_issue", { name: "g", expires_ms: 1_000 })) as { token: string }).token,
    );
    expect(secret.controllerDid).toBe(controller.node.core.keyring.identity.did);
    await expect(link.operate("grant_issue", { name: "g", expires_ms: 1_000 })).rejects.toMatchObject({
      code: "grant_exists",
      message: expect.stringMatching(/^"g"\. A pairing of that name exists already/),
    });
    await expect(link.operate("grant_issue", { name: "g" })).rejects.toMatchObject({ code: "input_invalid" });
    await expect(link.operate("none", {})).rejects.toMatchObject({ code: "input_invalid" });
    await expect(link.vouch("not a did")).rejects.toMatchObject({ code: "input_invalid" });
  });

  it("which may have moved: the next one answers as the last did", async () => {
    const cluster = freshCluster();
    const first = await openController(url, cluster);
    const end = answerForController(first.bus, answersOf(first));
    const link = askController(await connected(cluster));
    const { token } = (await link.operate("grant_issue", { name: "g", expires_ms: 600_000 })) as { token: string };
    end();
    await first.close();
    const pairing = link.pair(pairRequest(token));
    const second = await openController(url, cluster);
    answerForController(second.bus, answersOf(second));
    expect(await pairing).toMatchObject({ grant: { name: "g" } });
  });

  it("and says that there is none when none comes", async () => {
    const link = askController(await connected(freshCluster()), { waitMs: 500 });
    await expect(link.vouch(laptop.did)).rejects.toMatchObject({ code: "cluster_unreachable" });
    await expect(link.operate("grants", {})).rejects.toMatchObject({ code: "cluster_unreachable" });
  });

  it("again when the one that answered was just ending", async () => {
    const cluster = freshCluster();
    let asked = 0;
    answerForController(
      await connected(cluster),
      answering({
        operate: async () => {
          if (++asked < 3) throw new MeshError("closed");
          return asked;
        },
      }),
    );
    expect(await askController(await connected(cluster)).operate("grants", {})).toBe(3);
  });

  it("but not again when it could not write what it was to do", async () => {
    const cluster = freshCluster();
    let asked = 0;
    answerForController(
      await connected(cluster),
      answering({
        operate: () => {
          asked++;
          return Promise.reject(new MeshError("store_io", "nats:home:"));
        },
      }),
    );
    await expect(askController(await connected(cluster)).operate("grant_issue", {})).rejects.toMatchObject({
      code: "store_io",
    });
    expect(asked).toBe(1);
  });
});

describe("the controller's word", () => {
  /** A link to a controller that vouches for some, with a clock, and whom it was asked about. */
  async function vouching(knows: (did: string) => boolean) {
    const cluster = freshCluster();
    const asked: string[] = [];
    answerForController(
      await connected(cluster),
      answering({
        vouch: async (agent) => {
          asked.push(agent);
          return knows(agent) ? word : undefined;
        },
      }),
    );
    const clock = { time: 0 };
    return { link: askController(await connected(cluster), { now: () => clock.time }), asked, clock };
  }

  it("is kept for a while, and asked for anew then", async () => {
    let isKnown = true;
    const { link, asked, clock } = await vouching(() => isKnown);
    const words = await Promise.all([link.vouch(did(1)), link.vouch(did(1)), link.vouch(did(1))]);
    expect(words).toEqual([word, word, word]);
    isKnown = false;
    clock.time += VOUCH_KEPT_MS - 1;
    expect(await link.vouch(did(1))).toEqual(word);
    expect(asked).toHaveLength(1);
    clock.time += 1;
    expect(await link.vouch(did(1))).toBeUndefined();
  });

  it("is not kept when there was none: whom it does not know it may know in a moment", async () => {
    let isKnown = false;
    const { link } = await vouching(() => isKnown);
    expect(await link.vouch(did(1))).toBeUndefined();
    isKnown = true;
    expect(await link.vouch(did(1))).toEqual(word);
  });

  it("is kept of so many, the oldest goes first", async () => {
    const { link, asked } = await vouching(() => true);
    for (let begin = 0; begin <= VOUCHES_KEPT_MAX; begin += 512)
      await Promise.all(
        Array.from({ length: Math.min(512, VOUCHES_KEPT_MAX + 1 - begin) }, (_, n) => link.vouch(did(begin + n))),
      );
    expect(asked).toHaveLength(VOUCHES_KEPT_MAX + 1);
    await link.vouch(did(VOUCHES_KEPT_MAX));
    expect(asked).toHaveLength(VOUCHES_KEPT_MAX + 1);
    await link.vouch(did(0));
    expect(asked).toHaveLength(VOUCHES_KEPT_MAX + 2);
  });
});
