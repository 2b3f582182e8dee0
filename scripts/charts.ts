// Draws the statechart of every machine, once, when the project is built: layout by ELK, plain SVG for the inspector's page.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { ELK, ElkNode } from "elkjs/lib/elk-api.js";
import type { AnyStateNode } from "xstate";
import { DEFINITIONS } from "../src/inspect/definitions.ts";

/** It is no module in the sense of the language, whatever its types say. */
const Elk: new () => ELK = createRequire(import.meta.url)("elkjs/lib/main.js");

const FONT = 11;
/** A character of the monospaced font, in pixels. */
const GLYPH = FONT * 0.602;
const LINE = 15;
const PAD = 10;
const TITLE = 22;

const OPTIONS = {
  "elk.algorithm": "layered",
  "elk.direction": "DOWN",
  "elk.hierarchyHandling": "INCLUDE_CHILDREN",
  "elk.edgeRouting": "ORTHOGONAL",
  "elk.json.shapeCoords": "ROOT",
  "elk.json.edgeCoords": "ROOT",
  "elk.edgeLabels.inline": "true",
  "elk.layered.spacing.nodeNodeBetweenLayers": "28",
  "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.spacing.nodeNode": "28",
  "elk.spacing.edgeNode": "14",
  "elk.spacing.edgeEdge": "12",
  "elk.spacing.edgeLabel": "4",
};

interface Transition {
  readonly event: string;
  readonly label: string;
  readonly target: AnyStateNode | undefined;
}

const pathOf = (node: AnyStateNode): string => node.path.join(".");
const idOf = (node: AnyStateNode): string => (node.path.length === 0 ? "(machine)" : pathOf(node));

/** An event as people know it: a deadline by its delay's name, a transition without an event as `always`. */
function eventOf(type: string): string {
  if (type === "") return "always";
  const after = /^xstate\.after\.([^.]+)\./.exec(type);
  return after ? `after ${after[1]}` : type.replace(/^xstate\.done\.state\..*/, "done");
}

function guardOf(guard: unknown): string {
  const name =
    typeof guard === "string"
      ? guard
      : ((guard as { type?: string; name?: string })?.type ?? (guard as { name?: string })?.name);
  return name ? ` [${name}]` : "";
}

function transitionsOf(node: AnyStateNode): Transition[] {
  const all = [...node.transitions].flatMap(([type, those]) => those.map((one) => ({ type, one })));
  const always = (node.always ?? []).map((one) => ({ type: "", one }));
  return [...all, ...always].flatMap(({ type, one }) => {
    const event = eventOf(type);
    const label = event + guardOf(one.guard);
    const targets: readonly (AnyStateNode | undefined)[] = one.target?.length ? one.target : [undefined];
    return targets.map((target) => ({ event, label, target }));
  });
}

const widthOf = (text: string) => Math.ceil(text.length * GLYPH);

/** What a state does with events that leave it where it is: a line each in its box, as many as fit into its width. */
function insideOf(node: AnyStateNode): string[] {
  const stay = [...new Set(transitionsOf(node).flatMap(({ event, target }) => (target ? [] : [event])))];
  const lines: string[] = [];
  for (const event of stay) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + event.length < 34) lines[lines.length - 1] = `${last}, ${event}`;
    else lines.push(event);
  }
  return lines;
}

interface Drawn {
  readonly node: AnyStateNode;
  readonly lines: readonly string[];
}

function chartOf(root: AnyStateNode) {
  const drawn = new Map<string, Drawn>();
  const edges = new Map<string, { from: AnyStateNode; to: AnyStateNode; labels: string[]; events: Set<string> }>();
  const build = (node: AnyStateNode): ElkNode => {
    const lines = insideOf(node);
    drawn.set(idOf(node), { node, lines });
    for (const { event, label, target } of transitionsOf(node)) {
      if (!target) continue;
      const key = `${idOf(node)}>${idOf(target)}`;
      const edge = edges.get(key) ?? { from: node, to: target, labels: [], events: new Set<string>() };
      if (!edge.labels.includes(label)) edge.labels.push(label);
      edge.events.add(event);
      edges.set(key, edge);
    }
    const children = Object.values(node.states).map(build);
    const head = TITLE + lines.length * LINE + (lines.length > 0 ? PAD / 2 : 0);
    const width = Math.max(
      80,
      ...[node.key, ...lines].map((text) => widthOf(text) + 2 * PAD + (node.type === "final" ? 12 : 0)),
    );
    if (children.length === 0) return { id: idOf(node), width, height: head + PAD / 2 };
    return {
      id: idOf(node),
      children,
      layoutOptions: {
        "elk.padding": `[top=${head + PAD},left=${PAD + 4},bottom=${PAD + 4},right=${PAD + 4}]`,
        "elk.nodeSize.constraints": "MINIMUM_SIZE",
        "elk.nodeSize.minimum": `(${width},${head})`,
      },
    };
  };
  const top = build(root);
  const graph: ElkNode = {
    id: "chart",
    layoutOptions: OPTIONS,
    children: [top],
    edges: [...edges].map(([id, { from, to, labels }]) => ({
      id,
      sources: [idOf(from)],
      targets: [idOf(to)],
      labels: [{ text: labels.join("\n"), width: Math.max(...labels.map(widthOf)) + 8, height: labels.length * LINE }],
    })),
  };
  return { graph, drawn, edges };
}

const escaped = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
const round = (value: number | undefined) => Math.round((value ?? 0) * 10) / 10;

/** An orthogonal line with its corners rounded. */
function lineOf(points: readonly { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let path = `M${round(first.x)},${round(first.y)}`;
  let before = first;
  for (const [index, point] of rest.entries()) {
    const next = rest[index + 1];
    if (!next) {
      path += `L${round(point.x)},${round(point.y)}`;
      continue;
    }
    const near = (to: { x: number; y: number }) => {
      const [dx, dy] = [to.x - point.x, to.y - point.y];
      const length = Math.hypot(dx, dy) || 1;
      const reach = Math.min(6, length / 2);
      return `${round(point.x + (dx / length) * reach)},${round(point.y + (dy / length) * reach)}`;
    };
    path += `L${near(before)}Q${round(point.x)},${round(point.y)} ${near(next)}`;
    before = point;
  }
  return path;
}

async function draw(kind: string, root: AnyStateNode): Promise<string> {
  const { graph, drawn, edges } = chartOf(root);
  const elk = new Elk();
  const laid = await elk.layout(graph);
  const boxes: string[] = [];
  const initial = new Set<string>();
  const walk = (box: ElkNode) => {
    const found = drawn.get(box.id);
    if (found) {
      const { node, lines } = found;
      const [x, y, width, height] = [box.x, box.y, box.width, box.height].map(round) as [
        number,
        number,
        number,
        number,
      ];
      const classes = ["state", node.type, ...(initial.has(box.id) ? ["initial"] : [])].join(" ");
      const title = node.path.length === 0 ? kind : node.key;
      boxes.push(
        `<g class="${classes}" data-path="${escaped(pathOf(node))}"><rect x="${x}" y="${y}" width="${width}" height="${height}" rx="8"/>` +
          (node.type === "final"
            ? `<rect class="inner" x="${x + 3}" y="${y + 3}" width="${width - 6}" height="${height - 6}" rx="6"/>`
            : "") +
          (initial.has(box.id) ? `<circle class="entry" cx="${x + 9}" cy="${y + 11}" r="3.5"/>` : "") +
          `<text class="name" x="${x + (initial.has(box.id) ? 18 : PAD)}" y="${y + 15}">${escaped(title)}</text>` +
          lines
            .map(
              (line, index) =>
                `<text class="inside" x="${x + PAD}" y="${y + TITLE + 9 + index * LINE}">${escaped(line)}</text>`,
            )
            .join("") +
          "</g>",
      );
      const first = node.initial?.target?.[0];
      if (first) initial.add(idOf(first as AnyStateNode));
    }
    for (const child of box.children ?? []) walk(child);
  };
  for (const box of laid.children ?? []) walk(box);
  const lines = (laid.edges ?? []).map(({ id, sections = [], labels = [] }) => {
    const edge = edges.get(id);
    if (!edge) return "";
    const way = sections.map(({ startPoint, bendPoints = [], endPoint }) =>
      lineOf([startPoint, ...bendPoints, endPoint]),
    );
    const texts = labels.map(({ x, y, text = "" }) =>
      text
        .split("\n")
        .map((line, index) => {
          const kindOf = /^(after|always|done)\b/.exec(line)?.[1] ?? "on";
          return `<text class="${kindOf}" x="${round((x ?? 0) + 4)}" y="${round((y ?? 0) + 11 + index * LINE)}">${escaped(line)}</text>`;
        })
        .join(""),
    );
    const about = `data-from="${escaped(pathOf(edge.from))}" data-to="${escaped(pathOf(edge.to))}" data-events="${escaped([...edge.events].join(" "))}"`;
    return `<g class="edge" ${about}><path d="${way.join("")}" marker-end="url(#arrow)"/>${texts.join("")}</g>`;
  });
  const [width, height] = [Math.ceil(laid.width ?? 0), Math.ceil(laid.height ?? 0)];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" ` +
    `aria-label="statechart of ${kind}"><defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" ` +
    `markerHeight="7" orient="auto-start-reverse"><path class="tip" d="M0,0L8,4L0,8z"/></marker></defs>${boxes.join("")}${lines.join("")}</svg>`
  );
}

const charts: Record<string, string> = {};
for (const [kind, { machine }] of DEFINITIONS) charts[kind] = await draw(kind, machine.root);
writeFileSync(new URL("../dist/page/charts.json", import.meta.url), JSON.stringify(charts));
