import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { jobOf } from "../../src/cluster/kubernetes/manifests.ts";
import { SandboxFile } from "../../src/cluster/sandboxes.ts";
import { base64, identityFromSeed } from "../../src/crypto/index.ts";
import { RUN_LOG_SIZE_MAX } from "../../src/limits.ts";
import type { ApiServer } from "./api-server.ts";
import {
  apiServer,
  backendOf,
  CONTROLLER,
  config,
  ended,
  folder,
  hasty,
  IMAGE,
  JOB,
  PLACEMENT,
  running,
  spawned,
  told,
  verbs,
  waiting,
  world,
} from "./world.ts";

// Sandboxes as Jobs, before an API server that records what it is asked and plays what a cluster does.

/** What a sandbox would read, of its Secret. */
const fileOf = (server: ApiServer, job = JOB) => {
  const data = server.get("secrets", job)?.data as Record<string, string>;
  return SandboxFile.parse(JSON.parse(Buffer.from(data["sandbox.json"] ?? "", "base64").toString("utf8")));
};
const didOf = (server: ApiServer, job = JOB) => identityFromSeed(base64.decode(fileOf(server, job).seed)).did;
const annotations = (server: ApiServer) => server.get("jobs", JOB)?.metadata.annotations;
const leftOf = (server: ApiServer) =>
  ["jobs", "pods", "secrets", "networkpolicies"].flatMap((resource) => server.all(resource));

describe("a sandbox is started", () => {
  it("suspended, then held in, then told what it is, and only then let run", async () => {
    const here = await world();
    const { server } = here;
    server.asked.length = 0;
    await spawned(here);
    const made = server.asked.filter(({ verb }) => verb !== "watch" && verb !== "list");
    expect(verbs(made)).toEqual(["create jobs", "create networkpolicies", "create secrets", "patch jobs"]);
    expect(made[0]?.body).toMatchObject({ spec: { suspend: true } });
    expect(server.get("jobs", JOB)?.spec).toMatchObject({ suspend: false });
    const uid = server.get("jobs", JOB)?.metadata.uid;
    for (const resource of ["secrets", "networkpolicies"])
      expect(server.get(resource, JOB)?.metadata.ownerReferences).toMatchObject([{ uid }]);
  });

  it("with an identity of its own, which the controller knows", async () => {
    const here = await world();
    await spawned(here);
    await spawned(here, { run: "run-2" });
    const [first, second] = here.server.all("jobs").map(({ metadata }) => metadata);
    expect(didOf(here.server, first?.name)).toBe(first?.annotations?.["kars-mesh/did"]);
    expect(first?.annotations?.["kars-mesh/did"]).not.toBe(second?.annotations?.["kars-mesh/did"]);
    expect(fileOf(here.server, first?.name)).toMatchObject({ run: "run-1", directory: "/sandbox" });
  });

  it("and is ready when it is on the mesh, whatever its pod says: then its Secret is deleted", async () => {
    const here = await world();
    const { server } = here;
    const { until, lines } = await spawned(here);
    const did = didOf(server);
    server.pod(JOB, running, { nodeName: "n1" });
    await until(/its container runs/);
    expect(lines.some((line) => line.startsWith("ready"))).toBe(false);
    expect(server.get("secrets", JOB)).toBeDefined();
    here.arrive(did);
    expect(await until(/^ready/)).toBe(`ready ${did}`);
    await server.until(() => !server.get("secrets", JOB));
    expect(server.get("jobs", JOB)).toBeDefined();
  });

  it("and says meanwhile what it waits for", async () => {
    const here = await world();
    const { until, lines } = await spawned(here);
    const message = "0/3 nodes are available: 3 Insufficient memory.";
    here.server.pod(JOB, {
      phase: "Pending",
      conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message }],
    });
    await until(/spawning: no node has room: 0\/3 nodes are available/);
    here.server.pod(JOB, waiting("ContainerCreating"), { nodeName: "n1" });
    await until(/scheduled: it has a node/);
    here.server.pod(JOB, waiting("ContainerCreating"), { nodeName: "n1" });
    here.server.pod(JOB, running);
    await until(/scheduled: its container runs/);
    expect(lines).toHaveLength(3);
  });
});

describe("a sandbox fails", () => {
  const play: readonly (readonly [what: string, play: (server: ApiServer) => void, detail: string])[] = [
    [
      "its image has no valid name",
      (server) => server.pod(JOB, waiting("InvalidImageName", "invalid reference format")),
      `the image ${IMAGE} could not be pulled: invalid reference format`,
    ],
    [
      "its image cannot be pulled, three times",
      (server) => {
        for (let attempt = 0; attempt < 3; attempt++) {
          server.pod(JOB, waiting("ErrImagePull", "manifest unknown"));
          server.pod(JOB, waiting("ImagePullBackOff", "Back-off pulling image"));
        }
      },
      `the image ${IMAGE} could not be pulled: manifest unknown`,
    ],
    [
      "it takes too much memory",
      (server) => {
        server.pod(JOB, running);
        server.pod(JOB, ended(137, "OOMKilled"));
        server.condition(JOB, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
      },
      "it was killed for using more than 1024 MiB of memory",
    ],
    [
      "it fills its disk",
      (server) => {
        const message = 'Usage of EmptyDir volume "home" exceeds the limit "2Gi".';
        server.pod(JOB, { phase: "Failed", reason: "Evicted", message });
      },
      'evicted: Usage of EmptyDir volume "home" exceeds the limit "2Gi"',
    ],
    [
      "its node is lost",
      (server) => {
        server.pod(JOB, running);
        const message = "Taint manager: deleting due to NoExecute taint";
        const conditions = [{ type: "DisruptionTarget", status: "True", reason: "DeletionByTaintManager", message }];
        server.pod(JOB, { ...running, conditions });
      },
      "its node went away: Taint manager: deleting due to NoExecute taint",
    ],
    [
      "its time is up",
      (server) => {
        server.pod(JOB, running);
        server.remove("pods", `${JOB}-x1`);
        server.condition(JOB, "Failed", "DeadlineExceeded", "Job was active longer than specified deadline");
      },
      "its time of 10 minutes was up",
    ],
    [
      "its pod was deleted",
      (server) => {
        server.pod(JOB, running);
        server.remove("pods", `${JOB}-x1`);
        server.condition(JOB, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
      },
      "its pod is gone: Job has reached the specified backoff limit",
    ],
    [
      "its Job was deleted",
      (server) => {
        server.pod(JOB, running);
        server.remove("jobs", JOB);
      },
      "its Job was deleted from outside",
    ],
  ];
  it.each(play)("when %s: it says so, and nothing of it is left", async (_, happens, detail) => {
    const here = await world();
    const { until, lines } = await spawned(here);
    happens(here.server);
    await until(/^exited/);
    expect(lines.filter((line) => /^(?:failed|exited)/.test(line))).toEqual([`failed: ${detail}`, "exited null"]);
    here.server.collect(JOB);
    expect(leftOf(here.server)).toEqual([]);
  });

  it("when it ends by itself: then its exit is told, and its log is kept", async () => {
    const here = await world();
    const { until, lines, directory } = await spawned(here);
    here.server.pod(JOB, running);
    here.server.log(`${JOB}-x1`, "what it said\n");
    here.server.pod(JOB, ended(3));
    expect(await until(/^exited/)).toBe("exited 3");
    expect(lines.some((line) => line.startsWith("failed"))).toBe(false);
    expect(readFileSync(join(directory, "log"), "utf8")).toBe("what it said\n");
    expect(leftOf(here.server)).toEqual([]);
  });

  it("and is not taken up again because the watch lags behind", async () => {
    const here = await world();
    const { until, process } = await spawned(here);
    here.server.wrong("watch", "jobs", "silent", 1_000);
    here.server.cut();
    process.end(true);
    await until(/^exited/);
    expect(await here.backend.adopt({ run: "run-1", directory: folder() }, told().hooks)).toBeUndefined();
  });

  it("also when its Job is seen to have failed before its pod is", async () => {
    const here = await world();
    const { until } = await spawned(here);
    here.server.pod(JOB, running);
    await until(/its container runs/);
    // The pod's change does not reach the watch of the pods.
    here.server.wrong("watch", "pods", { status: 503, message: "no" }, 1_000);
    here.server.cut();
    await here.server.until(() => here.server.asked.at(-1)?.resource === "jobs" && here.server.watching === 1);
    here.server.pod(JOB, ended(137, "OOMKilled"));
    here.server.condition(JOB, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    expect(await until(/^failed/)).toContain("1024 MiB of memory");
  });
});

describe("a sandbox is ended", () => {
  it("its log is kept as far as bounds allow, it is deleted in the foreground, and over when it is gone", async () => {
    const here = await world();
    const { until, lines, directory, process } = await spawned(here);
    here.server.pod(JOB, running);
    await until(/its container runs/);
    here.server.log(`${JOB}-x1`, "x".repeat(RUN_LOG_SIZE_MAX + 5));
    process.end(false);
    await here.server.until(() => here.server.get("jobs", JOB)?.metadata.deletionTimestamp);
    expect(lines.some((line) => line.startsWith("exited"))).toBe(false);
    expect(readFileSync(join(directory, "log"))).toHaveLength(RUN_LOG_SIZE_MAX);
    here.server.collect(JOB);
    expect(await until(/^exited/)).toBe("exited null");
    expect(leftOf(here.server)).toEqual([]);
  });

  it("without waiting for its pod, if whoever asks does not wait", async () => {
    const here = await world();
    const { until, process } = await spawned(here);
    here.server.pod(JOB, running);
    process.end(false);
    process.end(true);
    expect(await until(/^exited/)).toBe("exited null");
    expect(here.server.get("jobs", JOB)?.metadata.deletionTimestamp).toBeDefined();
  });

  it("once, however often it is asked", async () => {
    const here = await world();
    const { until, lines, process } = await spawned(here);
    for (let time = 0; time < 3; time++) process.end(true);
    await until(/^exited/);
    process.end(true);
    expect(verbs(here.server.asked).filter((verb) => verb === "delete jobs")).toHaveLength(1);
    expect(lines.filter((line) => line.startsWith("exited"))).toHaveLength(1);
  });

  it("but not before the API server has taken it upon itself", async () => {
    const here = await world();
    const { until, lines, process } = await spawned(here);
    here.server.wrong("delete", "jobs", { status: 503, message: "etcd is away" }, 3);
    process.end(true);
    await here.server.until(() => verbs(here.server.asked).filter((verb) => verb === "delete jobs").length === 3);
    expect(lines.some((line) => line.startsWith("exited"))).toBe(false);
    await until(/^exited/);
    expect(leftOf(here.server)).toEqual([]);
    expect(here.notes.join("\n")).toContain("(503): etcd is away");
  });

  it("also when its log cannot be had", async () => {
    const here = await world();
    const { until, process } = await spawned(here);
    here.server.pod(JOB, running);
    await until(/its container runs/);
    here.server.wrong("get", "pods/log", { status: 500, message: "the kubelet does not answer" });
    process.end(true);
    await until(/^exited/);
    expect(here.notes.join("\n")).toContain("the kubelet does not answer");
  });
});

describe("an API server that fails while a sandbox is being made", () => {
  it.each(["jobs", "networkpolicies", "secrets"])(
    "and loses the answer to creating %s makes one all the same",
    async (resource) => {
      const here = await world({ timeoutMs: 300, clock: hasty(20) });
      here.server.wrong("create", resource, "lost");
      await spawned(here);
      expect(here.server.all(resource)).toHaveLength(1);
      expect(didOf(here.server)).toBe(annotations(here.server)?.["kars-mesh/did"]);
      expect(here.server.get("jobs", JOB)?.spec).toMatchObject({ suspend: false });
    },
  );

  it("and does not answer at first is asked again, which the laptop is told", async () => {
    const here = await world({ timeoutMs: 300, clock: hasty(20) });
    here.server.wrong("create", "jobs", "silent");
    here.server.wrong("create", "secrets", { status: 500, message: "etcd is away" }, 2);
    const { lines } = await spawned(here);
    expect(lines).toContain("starting spawning: the Kubernetes API does not answer, and is asked again");
    expect(lines).toContain("starting spawning: the Kubernetes API answers with 500, and is asked again");
    expect(here.server.all("jobs")).toHaveLength(1);
  });

  it.each([
    ["jobs", 403, 'jobs.batch is forbidden: User "x" cannot create resource', "create a Job"],
    ["jobs", 401, "Unauthorized", "create a Job"],
    ["jobs", 404, 'namespaces "kars-sandboxes" not found', "create a Job"],
    ["networkpolicies", 403, "forbidden", "create a NetworkPolicy"],
    ["secrets", 422, "invalid", "create a Secret"],
  ])("and refuses %s with %d has said why, and keeps nothing", async (resource, status, message, what) => {
    const here = await world();
    here.server.wrong("create", resource, { status, message });
    await expect(spawned(here)).rejects.toThrow(`the Kubernetes API refused to ${what} (${status}): ${message}`);
    await here.server.until(() => leftOf(here.server).length === 0);
  });

  it("and stays away is given up", async () => {
    const here = await world();
    await here.server.close();
    await expect(spawned(here)).rejects.toThrow(/the Kubernetes API does not answer, asked to create a Job: /);
  });
});

describe("an API server that is watched", () => {
  const sawAll = (here: { server: ApiServer }) => here.server.until(() => here.server.watching === 2);

  it("may cut its watches: they go on where they were", async () => {
    const here = await world();
    const { until } = await spawned(here);
    await sawAll(here);
    const lists = () => verbs(here.server.asked).filter((verb) => verb.startsWith("list")).length;
    const before = lists();
    here.server.cut();
    here.server.pod(JOB, running);
    await until(/its container runs/);
    await sawAll(here);
    expect(lists()).toBe(before);
  });

  it("may forget how it was (410 Gone): then all is listed again, and what went meanwhile is missed", async () => {
    const here = await world();
    const first = await spawned(here);
    const second = await spawned(here, { run: "run-2" });
    await sawAll(here);
    here.server.pod(JOB, running);
    await first.until(/its container runs/);
    here.server.cut();
    here.server.pod(JOB, ended(137, "OOMKilled"));
    here.server.remove("jobs", second.job);
    here.server.forget();
    expect(await first.until(/^failed/)).toContain("MiB of memory");
    expect(await second.until(/^failed/)).toContain("deleted from outside");
  });

  it("may go away and come back: what happened meanwhile is seen", async () => {
    const here = await world();
    const { until } = await spawned(here);
    await sawAll(here);
    await here.server.close();
    here.server.pod(JOB, ended(3));
    await here.server.open();
    expect(await until(/^exited/)).toBe("exited 3");
    expect(here.notes.join("\n")).toMatch(/cannot be watched for (?:jobs|pods)/);
    expect(here.notes.join("\n")).toMatch(/tells of (?:jobs|pods) again/);
  });

  it("may refuse for a while, as when a token is renewed", async () => {
    const here = await world();
    const { until } = await spawned(here);
    await sawAll(here);
    here.server.wrong("watch", "pods", { status: 401, message: "Unauthorized" }, 3);
    here.server.cut();
    here.server.pod(JOB, running);
    await until(/its container runs/);
    expect(here.notes.join("\n")).toContain("(401)");
  });

  it("may say what nobody understands: it is passed over", async () => {
    const here = await world();
    const { until } = await spawned(here);
    here.server.put("pods", {
      metadata: { name: "odd", labels: { "kars-mesh/controller": CONTROLLER.slice(9) } },
      spec: 5,
    });
    here.server.pod(JOB, running);
    await until(/its container runs/);
    expect(here.notes.join("\n")).toContain("in a form that cannot be read");
  });

  it.each([
    [401, "Unauthorized"],
    [403, "no, you may not"],
  ])("must allow it at the start: %d ends the start with what to do", async (status, message) => {
    const server = await apiServer();
    server.wrong("list", "pods", { status, message });
    const { backend } = await backendOf(server);
    await expect(backend.start(CONTROLLER)).rejects.toMatchObject({
      code: "kubernetes_unavailable",
      message: expect.stringContaining(`(${status}): ${message}`),
    });
  });

  it("may be away at the start", async () => {
    const server = await apiServer();
    const here = await backendOf(server);
    await server.close();
    await here.backend.start(CONTROLLER);
    await server.open();
    const { until } = await spawned(here);
    server.pod(JOB, running);
    await until(/its container runs/);
  });
});

describe("a controller that starts again", () => {
  /** Another process of the same cluster. */
  const again = async (server: ApiServer) => {
    const here = await backendOf(server);
    await here.backend.start(CONTROLLER);
    return here;
  };
  const given = () => ({ run: "run-1", directory: folder() });

  it("left its Jobs as they were, and heard no more of them", async () => {
    const here = await world();
    const { lines } = await spawned(here);
    await here.backend.close();
    here.server.pod(JOB, ended(3));
    expect(lines).toEqual([]);
    expect(verbs(here.server.asked)).not.toContain("delete jobs");
    await expect(here.backend.spawn(config({ run: "run-2" }), told().hooks)).rejects.toMatchObject({ code: "closed" });
  });

  it("takes them up again, and hears when they are on the mesh and how they end", async () => {
    const first = await world();
    await spawned(first);
    const did = didOf(first.server);
    await first.backend.close();
    const second = await again(first.server);
    const { hooks, until } = told();
    expect(await second.backend.adopt(given(), hooks)).toBeDefined();
    second.arrive(did);
    expect(await until(/^ready/)).toBe(`ready ${did}`);
    first.server.pod(JOB, ended(137, "OOMKilled"));
    expect(await until(/^failed/)).toContain("MiB of memory");
    expect(await until(/^exited/)).toBe("exited null");
  });

  it("learns how one ended meanwhile", async () => {
    const first = await world();
    await spawned(first);
    await first.backend.close();
    first.server.pod(JOB, ended(4));
    first.server.condition(JOB, "Failed", "BackoffLimitExceeded", "");
    const second = await again(first.server);
    const { hooks, until } = told();
    await second.backend.adopt(given(), hooks);
    expect(await until(/^exited/)).toBe("exited 4");
  });

  it("finds none that is gone, or going", async () => {
    const first = await world();
    const { process, until } = await spawned(first);
    first.server.pod(JOB, running);
    await until(/its container runs/);
    process.end(true);
    await until(/^exited/);
    await first.backend.close();
    const second = await again(first.server);
    expect(await second.backend.adopt(given(), told().hooks)).toBeUndefined();
    first.server.collect(JOB);
    expect(await second.backend.adopt(given(), told().hooks)).toBeUndefined();
  });

  it("waits with that until the API server answers", async () => {
    const first = await world();
    await spawned(first);
    await first.backend.close();
    await first.server.close();
    const second = await again(first.server);
    const adopted = second.backend.adopt(given(), told().hooks);
    await first.server.open();
    expect(await adopted).toBeDefined();
  });

  it("starts none twice that was let run", async () => {
    const first = await world();
    await spawned(first);
    const did = didOf(first.server);
    await first.backend.close();
    const second = await again(first.server);
    const { until } = await spawned(second);
    second.arrive(did);
    expect(await until(/^ready/)).toBe(`ready ${did}`);
    expect(first.server.all("jobs")).toHaveLength(1);
    expect(verbs(first.server.asked).filter((verb) => verb === "patch jobs")).toHaveLength(1);
  });

  it("goes on with one that was half made, under a new identity", async () => {
    const first = await world();
    first.server.wrong("patch", "jobs", "silent");
    const { hooks } = told();
    const half = expect(first.backend.spawn(config({ directory: folder() }), hooks)).rejects.toMatchObject({
      code: "closed",
    });
    await first.server.until(() => verbs(first.server.asked).includes("patch jobs"));
    const unused = didOf(first.server);
    await first.backend.close();
    const second = await again(first.server);
    await spawned(second);
    expect(didOf(first.server)).not.toBe(unused);
    expect(annotations(first.server)?.["kars-mesh/did"]).toBe(didOf(first.server));
    await half;
  });

  it("removes one that was never let run when its run is asked for", async () => {
    const server = await apiServer();
    server.put("jobs", { ...jobOf(config(), PLACEMENT) });
    const second = await again(server);
    expect(await second.backend.adopt(given(), told().hooks)).toBeUndefined();
    await server.until(() => !server.get("jobs", JOB));
  });

  it("sweeps those of runs that it does not know, and no others", async () => {
    const server = await apiServer();
    const other = "did:mesh:00000000000000000000000000000000";
    const [known, unknown, foreign] = [config(), config({ run: "run-2" }), config({ controller: other, run: "run-3" })];
    for (const each of [known, unknown, foreign]) server.put("jobs", { ...jobOf(each, PLACEMENT) });
    const { backend, notes } = await again(server);
    await backend.sweep((run) => run === "run-1");
    expect(server.all("jobs").map(({ metadata }) => metadata.annotations?.["kars-mesh/run"])).toEqual([
      "run-1",
      "run-3",
    ]);
    expect(notes.join("\n")).toContain("belongs to no run that goes on");
  });
});
