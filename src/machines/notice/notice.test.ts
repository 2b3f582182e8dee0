import { describe, it } from "vitest";
import { BOB, type Event, given, keepsTheLaws } from "../../../test/specification.ts";
import { noticeDefinition as notice } from "./machine.ts";

const SUBJECT = `conversation/${BOB}`;
const asked = (origin: string): Event => ({ type: "ASKED", origin });
const told = (mark: number): Event => ({ type: "TOLD", mark });

describe("news of one thing", () => {
  it("goes where it was asked for last", () => {
    given(notice, SUBJECT)
      .when(asked("a"))
      .then({ state: "following", context: { origin: "a", told: null } });
    given(notice, SUBJECT, asked("a"), told(1))
      .when(asked("b"))
      .then({ state: "following", context: { origin: "b", told: 1 } });
    given(notice, SUBJECT, asked("a")).when(asked("a")).thenRefused();
  });

  it("is told once, however late somebody says again that it was", () => {
    given(notice, SUBJECT)
      .when(told(0))
      .then({ state: "following", context: { told: 0 } });
    given(notice, SUBJECT, told(2))
      .when(told(3))
      .then({ state: "following", context: { told: 3 } });
    given(notice, SUBJECT, told(2)).when(told(2)).thenRefused();
    given(notice, SUBJECT, told(2)).when(told(1)).thenRefused();
  });
});

keepsTheLaws(notice, { life: [asked("a"), told(0), told(1), asked("b"), told(5)], restful: ["following"] });
