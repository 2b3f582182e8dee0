import { describe, expect, it } from "vitest";
import {
  jobOf,
  nameOf,
  networkPolicyOf,
  resourcesFor,
  secretOf,
  selectorOf,
} from "../../src/cluster/kubernetes/manifests.ts";
import { JOB_LIMITS, type RunLimits } from "../../src/cluster/runner/rules.ts";
import { SandboxFile } from "../../src/cluster/sandboxes.ts";
import { config, IMAGE, PLACEMENT } from "./world.ts";

// What is asked of Kubernetes for one sandbox.

const job = jobOf(config(), PLACEMENT);
const pod = job.spec?.template.spec;
const [container] = pod?.containers ?? [];

describe("the Job of a sandbox", () => {
  it("is one pod, once, suspended at first, within the run's time, and gone a while after its end", () => {
    expect(job.spec).toMatchObject({
      suspend: true,
      backoffLimit: 0,
      activeDeadlineSeconds: 600,
      ttlSecondsAfterFinished: 3600,
    });
    expect(pod).toMatchObject({ restartPolicy: "Never", terminationGracePeriodSeconds: 10 });
  });

  it("meets the restricted Pod Security Standard", () => {
    expect(pod?.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
    expect(container?.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      privileged: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    for (const volume of pod?.volumes ?? []) expect(Object.keys(volume).sort()).not.toContain("hostPath");
    expect(pod).not.toHaveProperty("hostNetwork");
    expect(pod).not.toHaveProperty("hostPID");
  });

  it("has no word with the API server", () => {
    expect(pod).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false });
  });

  it("is promised what it may use, and no more; its home and /tmp have a size", () => {
    const amounts = { cpu: "1", memory: "1024Mi", "ephemeral-storage": "1978Mi" };
    expect(container?.resources).toEqual({ requests: amounts, limits: amounts });
    const sized = pod?.volumes?.filter(({ emptyDir }) => emptyDir).map(({ emptyDir }) => emptyDir?.sizeLimit);
    expect(sized).toEqual(["1978Mi", "1978Mi"]);
  });

  it("has room for what the operator allows a task, and for the sandbox beside it; no bound where there is none", () => {
    const resourcesOf = (limits: Partial<RunLimits>) => {
      const resources = resourcesFor({ ...JOB_LIMITS, ...limits });
      const { containers, volumes } = jobOf(config(), { ...PLACEMENT, resources }).spec?.template.spec ?? {};
      return {
        limits: containers?.[0]?.resources?.limits,
        home: volumes?.find(({ name }) => name === "home")?.emptyDir,
      };
    };
    expect(resourcesOf({ memory_mib: 8192, output_mb: 5000 })).toEqual({
      limits: { cpu: "1", memory: "8448Mi", "ephemeral-storage": "5793Mi" },
      home: { sizeLimit: "5793Mi" },
    });
    expect(resourcesOf({ memory_mib: null, output_mb: null })).toEqual({ limits: { cpu: "1" }, home: {} });
  });

  it("runs the image's own command, told by a file that it can only read", () => {
    expect(container).toMatchObject({ image: IMAGE });
    expect(container).not.toHaveProperty("command");
    expect(container?.volumeMounts).toContainEqual({ name: "config", mountPath: "/etc/kars-sandbox", readOnly: true });
    const told = container?.env?.find(({ name }) => name === "KARS_SANDBOX_CONFIG")?.value;
    expect(told).toBe("/etc/kars-sandbox/sandbox.json");
    expect(pod?.volumes).toContainEqual({
      name: "config",
      secret: { secretName: nameOf(config()), defaultMode: 0o440 },
    });
  });

  it("gives a node that is out of reach a minute", () => {
    expect(pod?.tolerations?.map(({ tolerationSeconds }) => tolerationSeconds)).toEqual([60, 60]);
  });

  it("carries nothing of what the sandbox is told", () => {
    const text = JSON.stringify(jobOf(config({ runner: "agent --key secret" }), PLACEMENT));
    expect(text).not.toContain("secret --");
    expect(text).not.toContain("agent --key");
  });
});

describe("names and labels", () => {
  it.each(["run-1", "a/b?c", "ü".repeat(300), "x".repeat(5000)])("are valid whatever the run is called", (run) => {
    const { metadata } = jobOf(config({ run }), PLACEMENT);
    // What a Job adds to make its pod's name must fit a label too.
    expect(metadata?.name).toMatch(/^[a-z0-9-]{1,57}$/);
    for (const [key, value] of Object.entries(metadata?.labels ?? {})) {
      expect(key).toMatch(/^(?:[a-z0-9.-]{1,253}\/)?[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
      expect(value).toMatch(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
    }
  });

  it("are the same for the same run, and others for another run or controller", () => {
    const other = "did:mesh:00000000000000000000000000000000";
    const names = [config(), config({ run: "run-2" }), config({ controller: other })].map(nameOf);
    expect(new Set(names).size).toBe(3);
    expect(nameOf(config())).toBe(names[0]);
    expect(selectorOf(other)).not.toBe(selectorOf(config().controller));
  });
});

describe("the Secret of a sandbox", () => {
  const secret = secretOf(config(), PLACEMENT, new Uint8Array(32).fill(7), "uid-1");

  it("goes with its Job, and cannot be changed", () => {
    expect(secret.immutable).toBe(true);
    expect(secret.metadata?.ownerReferences).toEqual([
      { apiVersion: "batch/v1", kind: "Job", name: nameOf(config()), uid: "uid-1" },
    ]);
  });

  it("holds what the sandbox reads at its start, with places inside of the pod", () => {
    const file = SandboxFile.parse(JSON.parse(secret.stringData?.["sandbox.json"] ?? ""));
    expect(file).toEqual({ ...config(), directory: "/sandbox", seed: Buffer.alloc(32, 7).toString("base64") });
  });
});

describe("the network policy of a sandbox", () => {
  const egress = (relay_url: string, registry_url = relay_url.replace(/^ws/, "http")) =>
    networkPolicyOf(config({ relay_url, registry_url }), PLACEMENT, "uid-1").spec?.egress;
  const dns = {
    ports: [
      { protocol: "UDP", port: 53 },
      { protocol: "TCP", port: 53 },
    ],
  };

  it("is about its pod alone, lets nobody in, and goes with its Job", () => {
    const { metadata, spec } = networkPolicyOf(config(), PLACEMENT, "uid-1");
    expect(spec).toMatchObject({ policyTypes: ["Ingress", "Egress"], ingress: [] });
    const labels = job.spec?.template.metadata?.labels ?? {};
    for (const [key, value] of Object.entries(spec?.podSelector?.matchLabels ?? {})) expect(labels[key]).toBe(value);
    expect(Object.values(spec?.podSelector?.matchLabels ?? {})).toEqual([nameOf(config())]);
    expect(metadata?.ownerReferences?.[0]?.uid).toBe("uid-1");
  });

  it("lets out to relay and registry by their address and port", () => {
    expect(egress("ws://192.0.2.7:7780")).toEqual([
      { to: [{ ipBlock: { cidr: "192.0.2.7/32" } }], ports: [{ protocol: "TCP", port: 7780 }] },
    ]);
    expect(egress("wss://[2001:db8::7]")).toEqual([
      { to: [{ ipBlock: { cidr: "2001:db8::7/128" } }], ports: [{ protocol: "TCP", port: 443 }] },
    ]);
  });

  it("lets out to their port, and to name servers, where they have names", () => {
    expect(egress("wss://mesh.example.org")).toEqual([{ ports: [{ protocol: "TCP", port: 443 }] }, dns]);
    expect(egress("ws://relay.example.org:1", "http://192.0.2.7:2")).toEqual([
      { ports: [{ protocol: "TCP", port: 1 }] },
      { to: [{ ipBlock: { cidr: "192.0.2.7/32" } }], ports: [{ protocol: "TCP", port: 2 }] },
      dns,
    ]);
  });
});
