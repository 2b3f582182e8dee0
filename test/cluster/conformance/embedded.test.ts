/** A cluster's state in the files of one process, held to what may be relied on of any. */
import { cp } from "node:fs/promises";
import { describe, onTestFinished } from "vitest";
import { openAgents } from "../../../src/cluster/embedded/agents.ts";
import { openMailboxes } from "../../../src/cluster/embedded/mailboxes.ts";
import { embeddedPresence } from "../../../src/cluster/embedded/presence.ts";
import { realDisk } from "../../../src/store/disk.ts";
import { Clock, temporaryDirectory } from "../world.ts";
import { agentsConformance } from "./agents.ts";
import { mailboxesConformance } from "./mailboxes.ts";
import { plainConformance } from "./plain.ts";
import { presenceConformance } from "./presence.ts";

/** All replicas of one process are one. */
const alone = <T>(one: T) => [one, one, one] as const;

describe("mail", () => {
  const open = async () => {
    const mailboxes = await openMailboxes({ disk: realDisk, directory: await temporaryDirectory(), now: Date.now });
    onTestFinished(() => mailboxes.close());
    return alone(mailboxes);
  };
  mailboxesConformance(open);
  plainConformance(open, async () => {
    const directory = await temporaryDirectory();
    const openAt = (at: string) => openMailboxes({ disk: realDisk, directory: at, now: Date.now });
    const mailboxes = await openAt(directory);
    onTestFinished(() => mailboxes.close());
    const die = async () => {
      const copy = await temporaryDirectory();
      await cp(directory, copy, { recursive: true });
      const next = await openAt(copy);
      onTestFinished(() => next.close());
      return next;
    };
    return { mailboxes, die };
  });
});

describe("presence", () => {
  presenceConformance(async () => {
    const clock = new Clock();
    return { replicas: alone(embeddedPresence(clock.now)), clock };
  });
});

describe("agents", () => {
  agentsConformance(async (options) => {
    const clock = new Clock();
    const directory = await temporaryDirectory();
    const agents = await openAgents({ disk: realDisk, directory, now: clock.now, ...options });
    onTestFinished(() => agents.close());
    return { replicas: alone(agents), clock };
  });
});
