import { expect, test } from "vitest";
import { callerOf, requester } from "../../src/cluster/address.ts";
import { LOCAL_RATE_FACTOR, RATE_LIMITS } from "../../src/cluster/limits.ts";
import { openMeter } from "../../src/cluster/rates.ts";

const far = callerOf("203.0.113.1");

test("so much at once, so much a minute after that, and when there is enough again", () => {
  let time = 0;
  const met: string[] = [];
  const rates = { requests_per_address: { burst: 2, perMinute: 60 } };
  const meter = openMeter({ now: () => time, rates, onMet: (limit, key) => met.push(`${limit} ${key}`) });
  const take = () => meter.take("requests_per_address", "a", far);
  expect([take(), take(), take()]).toEqual([0, 0, 1000]);
  time = 400;
  expect(take()).toBe(600);
  time = 1000;
  expect([take(), take()]).toEqual([0, 1000]);
  time = 1_000_000;
  expect([take(), take(), take()]).toEqual([0, 0, 1000]);
  // A clock that is set back gives nothing and takes nothing.
  time = 0;
  expect(take()).toBe(1000);
  expect(new Set(met)).toEqual(new Set(["requests_per_address a"]));
});

test("what has happened is taken into debt, and paid by waiting", () => {
  let time = 0;
  const meter = openMeter({ now: () => time, rates: { bytes_per_agent: { burst: 100, perMinute: 60_000 } } });
  expect(meter.spend("bytes_per_agent", "a", 100, far)).toBe(0);
  expect(meter.spend("bytes_per_agent", "a", 500, far)).toBe(500);
  expect(meter.spend("bytes_per_agent", "b", 100, far)).toBe(0);
  time = 500;
  expect(meter.spend("bytes_per_agent", "a", 1, far)).toBe(1);
});

test("no more are remembered than may be: whoever was heard of longest ago begins anew", () => {
  const rates = { connects_per_agent: { burst: 1, perMinute: 1 } };
  const meter = openMeter({ now: () => 0, rates, kept: 2 });
  const take = (key: string) => meter.take("connects_per_agent", key, far) === 0;
  expect(["a", "b", "a", "c", "a", "b"].map(take)).toEqual([true, true, false, true, false, true]);
});

test("this machine's own may do more, unless a rate was given for all", () => {
  const { burst } = RATE_LIMITS.registrations_per_address;
  const count = (address: string) => {
    const meter = openMeter({ now: () => 0 });
    let taken = 0;
    while (meter.take("registrations_per_address", address, callerOf(address)) === 0) taken++;
    return taken;
  };
  expect(count("203.0.113.1")).toBe(burst);
  expect(count("127.0.0.1")).toBe(LOCAL_RATE_FACTOR * burst);
});

test.each([
  ["127.0.0.1", "127.0.0.1", true],
  ["::1", "::1", true],
  ["::ffff:127.0.0.1", "127.0.0.1", true],
  ["::ffff:203.0.113.1", "203.0.113.1", false],
  ["2001:db8:0:7:aaaa:bbbb:cccc:dddd", "2001:db8:0:7::/64", false],
  ["2001:db8:0:7::1", "2001:db8:0:7::/64", false],
  ["2001:DB8::1", "2001:db8:0:0::/64", false],
])("%s is counted as %s", (address, counted, isLocal) => {
  expect(callerOf(address)).toEqual({ address: counted, isLocal });
});

test("what is forwarded counts only from a proxy that is trusted, and only its last entry", () => {
  const from = (forwarded: string, trustProxy: boolean) =>
    requester({ headers: { "x-forwarded-for": forwarded }, socket: { remoteAddress: "127.0.0.1" } }, trustProxy);
  expect(from("127.0.0.1, 203.0.113.9", true)).toEqual({ address: "203.0.113.9", isLocal: false });
  expect(from("127.0.0.1", false)).toEqual({ address: "127.0.0.1", isLocal: false });
  expect(from("nonsense", true)).toEqual({ address: "127.0.0.1", isLocal: false });
});
