// Counts in the Prometheus text format 0.0.4: counters, gauges and histograms, of our own making since that is all we need of it.

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** The values of a metric's labels, in their order. Each is one of a few words: never a DID, an address or a name. */
type Labels = readonly string[];

export interface Counter {
  /** @param labels as many as the counter has; @param amount not negative */
  add(labels?: Labels, amount?: number): void;
  /** One row of it, for what is counted very often. */
  row(labels: Labels): (amount?: number) => void;
}
export interface Histogram {
  observe(value: number, labels?: Labels): void;
}
/** What a gauge shows: a value for each combination of its labels. */
export type Reading = Iterable<readonly [labels: Labels, value: number]>;

export interface Description {
  readonly name: string;
  readonly help: string;
  readonly labels?: Labels;
}

export interface Metrics {
  counter(description: Description): Counter;
  /** @param read asked when the metrics are */
  gauge(description: Description, read: () => number | Reading): void;
  /** @param bounds the upper bounds of its buckets, rising; the last, without a bound, goes without saying */
  histogram(description: Description, bounds: readonly number[]): Histogram;
  /** All of them, in the text format. */
  text(): string;
}

const escapedHelp = (text: string) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
const escapedValue = (text: string) => escapedHelp(text).replaceAll('"', '\\"');

function shown(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (Number.isFinite(value)) return String(value);
  return value > 0 ? "+Inf" : "-Inf";
}

function sample(name: string, names: Labels, values: Labels, value: number): string {
  const pairs = names.map((label, index) => `${label}="${escapedValue(values[index] ?? "")}"`);
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${shown(value)}`;
}

/** A row for each combination of labels, which begins when it is first counted. */
class Rows<T> {
  readonly #rows = new Map<string, { readonly labels: Labels; readonly value: T }>();
  readonly #begin: () => T;
  constructor(begin: () => T) {
    this.#begin = begin;
  }
  of(labels: Labels): T {
    const key = labels.join("\0");
    const known = this.#rows.get(key);
    if (known) return known.value;
    const value = this.#begin();
    this.#rows.set(key, { labels, value });
    return value;
  }
  [Symbol.iterator]() {
    return this.#rows.values();
  }
}

export function createMetrics(): Metrics {
  const all: { readonly head: readonly string[]; readonly samples: () => Iterable<string> }[] = [];

  function add(type: string, { name, help }: Description, samples: () => Iterable<string>): void {
    all.push({ head: [`# HELP ${name} ${escapedHelp(help)}`, `# TYPE ${name} ${type}`], samples });
  }

  return {
    counter(description) {
      const { name, labels: names = [] } = description;
      const rows = new Rows(() => ({ count: 0 }));
      if (names.length === 0) rows.of([]);
      add("counter", description, () => [...rows].map(({ labels, value }) => sample(name, names, labels, value.count)));
      return {
        add: (labels = [], amount = 1) => {
          rows.of(labels).count += amount;
        },
        row: (labels) => {
          const row = rows.of(labels);
          return (amount = 1) => {
            row.count += amount;
          };
        },
      };
    },
    gauge(description, read) {
      const { name, labels: names = [] } = description;
      add("gauge", description, () => {
        const reading = read();
        const values: Reading = typeof reading === "number" ? [[[], reading]] : reading;
        return [...values].map(([labels, value]) => sample(name, names, labels, value));
      });
    },
    histogram(description, bounds) {
      const { name, labels: names = [] } = description;
      const rows = new Rows(() => ({ buckets: bounds.map(() => 0), sum: 0, count: 0 }));
      add("histogram", description, () =>
        [...rows].flatMap(({ labels, value }) => [
          ...bounds.map((bound, index) =>
            sample(`${name}_bucket`, [...names, "le"], [...labels, shown(bound)], value.buckets[index] ?? 0),
          ),
          sample(`${name}_bucket`, [...names, "le"], [...labels, "+Inf"], value.count),
          sample(`${name}_sum`, names, labels, value.sum),
          sample(`${name}_count`, names, labels, value.count),
        ]),
      );
      return {
        observe(value, labels = []) {
          const row = rows.of(labels);
          // Each bucket holds those below it too.
          for (const [index, bound] of bounds.entries())
            if (value <= bound) row.buckets[index] = (row.buckets[index] ?? 0) + 1;
          row.sum += value;
          row.count++;
        },
      };
    },
    text: () => `${all.flatMap(({ head, samples }) => [...head, ...samples()]).join("\n")}\n`,
  };
}
