// The few things that are done with the document again and again.

export function the<K extends keyof HTMLElementTagNameMap>(id: string, name: K): HTMLElementTagNameMap[K] {
  const found = document.getElementById(id);
  if (found?.localName !== name) throw new Error(`no ${name} ${id}`);
  return found as HTMLElementTagNameMap[K];
}

/** An element with a class and a text or children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  name: K,
  className = "",
  ...content: readonly (string | Node)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  if (className !== "") element.className = className;
  element.append(...content);
  return element;
}

/** An element of a drawing. */
export function drawn(
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  ...content: readonly (string | Node)[]
): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...content);
  return element;
}

/** Writes a text only where it is another, so that nothing is laid out for nothing. */
export function write(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export const kindOf = (stream: string): string => stream.slice(0, stream.indexOf("/"));
/** A stream's id, without what all have in common. */
export const idOf = (stream: string): string => stream.slice(stream.indexOf("/") + 1).replace(/^did:mesh:/, "");

const two = (value: number, width = 2) => String(value).padStart(width, "0");
/** A time of day as the person's clock shows it. */
export function clock(at: number): string {
  const date = new Date(at);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${two(date.getMilliseconds(), 3)}`;
}
export function day(at: number): string {
  const date = new Date(at);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Active states without what is only their surroundings: `open` of `open`, `uploading.pulled` of `active.uploading.pulled`. */
export const shortState = (paths: string): string => paths.replaceAll(/\bactive\./g, "");
