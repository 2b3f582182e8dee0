import type { IncomingHttpHeaders } from "node:http";

// Who speaks through a browser. Agents are programs and name no origin. A page does not decide whether it does: the browser writes
// `Origin` into every request that may change something and into every WebSocket, and `Sec-Fetch-Site` into the others.

/** Whether a page made this request, rather than a program, or a person who typed the address. */
export function isOfPage(headers: IncomingHttpHeaders): boolean {
  const site = headers["sec-fetch-site"];
  return headers.origin !== undefined || (site !== undefined && site !== "none");
}

export const OF_PAGE = { code: "forbidden", message: "Pages in a browser are not served here." } as const;
