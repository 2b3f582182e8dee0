import { monitorEventLoopDelay } from "node:perf_hooks";
import { type Counter, createMetrics, type Histogram, type Metrics } from "./metrics.ts";

// What a server of a cluster counts. Its labels are words of ours (a code, a reason, a route), so that there are few of them
// and none tells of anybody.

export interface Counts {
  readonly metrics: Metrics;
  /** Connects that were not let in, by reason. */
  readonly refusedConnects: Counter;
  /** Connections that the relay ended, by close code. */
  readonly closes: Counter;
  /** Frames and bytes of agents, by direction: in, out. */
  readonly frames: Counter;
  readonly bytes: Counter;
  /** What became of routed frames: stored, duplicate, full, or the code of the error. */
  readonly puts: Counter;
  readonly putSeconds: Histogram;
  /** From stored to handed to the socket, by whether the recipient was there when it was stored: live, kept. */
  readonly mailSeconds: Histogram;
  /** Frames that left mailboxes of plain clients, by why: pong, ack, close, doubt. */
  readonly settled: Counter;
  readonly limitsMet: Counter;
  /** By route and status. */
  readonly requests: Counter;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 3600];

export function openCounts(): Counts {
  const metrics = createMetrics();
  return {
    metrics,
    refusedConnects: metrics.counter({
      name: "kars_connects_refused_total",
      help: "Connects that were not let in.",
      labels: ["reason"],
    }),
    closes: metrics.counter({
      name: "kars_connections_closed_total",
      help: "Connections that the relay ended, by WebSocket close code.",
      labels: ["code"],
    }),
    frames: metrics.counter({
      name: "kars_frames_total",
      help: "Frames from and to agents.",
      labels: ["direction"],
    }),
    bytes: metrics.counter({
      name: "kars_frame_bytes_total",
      help: "Bytes of frames from and to agents.",
      labels: ["direction"],
    }),
    puts: metrics.counter({
      name: "kars_frames_routed_total",
      help: "What became of frames for an agent: stored, duplicate, full, or the code of the error.",
      labels: ["outcome"],
    }),
    putSeconds: metrics.histogram(
      { name: "kars_put_seconds", help: "From a frame's arrival until it is durable or refused." },
      SECONDS,
    ),
    mailSeconds: metrics.histogram(
      {
        name: "kars_mail_seconds",
        help: "From stored to handed to the recipient's socket; kept: it was stored before the recipient connected.",
        labels: ["mail"],
      },
      SECONDS,
    ),
    settled: metrics.counter({
      name: "kars_frames_settled_total",
      help: "Frames that left mailboxes of clients without extensions; doubt: the line broke, and they may have arrived.",
      labels: ["by"],
    }),
    limitsMet: metrics.counter({ name: "kars_rate_limits_met_total", help: "Rates that were met.", labels: ["limit"] }),
    requests: metrics.counter({
      name: "kars_http_requests_total",
      help: "HTTP requests answered.",
      labels: ["route", "status"],
    }),
  };
}

/** Adds what the process is like; returns what ends the watching of it. */
export function countProcess(metrics: Metrics): () => void {
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  metrics.gauge(
    {
      name: "kars_event_loop_lag_seconds",
      help: "How late the process gets to its work, since these were last asked for.",
      labels: ["quantile"],
    },
    () => {
      // The resolution is a part of what is measured.
      const late = (nanoseconds: number) => Math.max(0, (Number.isFinite(nanoseconds) ? nanoseconds : 0) / 1e9 - 0.02);
      const found: [string[], number][] = [
        [["0.5"], late(delay.percentile(50))],
        [["0.99"], late(delay.percentile(99))],
        [["1"], late(delay.max)],
      ];
      delay.reset();
      return found;
    },
  );
  metrics.gauge({ name: "kars_process_memory_bytes", help: "Memory of the process.", labels: ["kind"] }, () => {
    const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
    return [
      [["rss"], rss],
      [["heap"], heapUsed],
      [["external"], external],
      [["buffers"], arrayBuffers],
    ];
  });
  metrics.gauge({ name: "kars_process_uptime_seconds", help: "How long the process runs." }, () => process.uptime());
  return () => delay.disable();
}
