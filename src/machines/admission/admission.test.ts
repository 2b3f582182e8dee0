import { describe, it } from "vitest";
import { type Event, given, keepsTheLaws } from "../../../test/specification.ts";
import { KNOCK_POLICIES } from "./events.ts";
import { admissionDefinition as admission } from "./machine.ts";

const set = (policy: string): Event => ({ type: "POLICY_SET", policy });

describe("whose knocks are taken", () => {
  it("is what was set last", () => {
    given(admission, "knocks")
      .when(set("everyone"))
      .then({ state: "deciding", context: { policy: "everyone" } });
    given(admission, "knocks", set("verified"))
      .when(set("nobody"))
      .then({ state: "deciding", context: { policy: "nobody" } });
  });
});

keepsTheLaws(admission, { life: KNOCK_POLICIES.map(set), restful: ["deciding"] });
