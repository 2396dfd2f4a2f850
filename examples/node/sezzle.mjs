// Calls Sezzle through a sidecar, with Node's built-in fetch alone.
import { setTimeout as sleep } from "node:timers/promises";

// Milliseconds that a call may take. Each exceeds the sidecar's own limit, so that the sidecar's answer arrives.
const LOOKUP = 15_000;
const WRITE = 40_000;
// A call is made four times at most, with these waits unless Retry-After names another.
const WAITS = [200, 1_000, 3_000];

// Sezzle or the sidecar refused the call, and nothing was done.
export class Refused extends Error {}

// The write may have been done. The message says how to find out.
export class OutcomeUnknown extends Error {}

// The answer to a call decides the next step. Without any answer the status is 0.
export function advice(method, key, status, code, proxyStatus) {
  if (status >= 200 && status < 300) return "done";
  if ([429, 503].includes(status) && code.startsWith("sidecar.")) return "repeat";
  if (status === 0 || status === 429 || status >= 500) return method === "GET" || key ? "repeat" : "unknown";
  // A refusal of an attempt after one that may have been done.
  return proxyStatus.includes("details=") ? "unknown" : "refused";
}

export class Sezzle {
  constructor(base = "http://127.0.0.1:8080", waits = WAITS) {
    Object.assign(this, { base, waits });
  }

  // Makes a call, repeats it where that can do no harm, and returns its answer.
  async call(method, path, { body, key } = {}) {
    for (const wait of [...this.waits, null]) {
      const { status, headers, answer } = await this.attempt(method, path, body, key);
      const { code = "", message = "" } = (status >= 400 && Array.isArray(answer) && answer[0]) || {};
      const step = advice(method, key, status, code, headers.get("proxy-status") ?? "");
      if (step === "done") return answer;
      const said = `${method} ${path}: ${status} ${code}: ${message}`;
      if (step === "unknown" || (step === "repeat" && wait === null && method !== "GET")) throw new OutcomeUnknown(said);
      if (step === "refused" || wait === null) throw new Refused(said);
      const retryAfter = headers.get("retry-after") ?? "";
      await sleep(/^\d+$/.test(retryAfter) ? Number(retryAfter) * 1_000 : wait);
    }
  }

  // Makes a call once. Returns its status, 0 if no answer came, its headers and its JSON.
  async attempt(method, path, body, key) {
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key) headers["Sezzle-Request-Id"] = key;
    const signal = AbortSignal.timeout(method === "GET" ? LOOKUP : WRITE);
    try {
      const got = await fetch(this.base + path, { method, headers, signal, body: body && JSON.stringify(body) });
      const text = await got.text();
      return { status: got.status, headers: got.headers, answer: parsed(text) };
    } catch {
      return { status: 0, headers: new Headers(), answer: null };
    }
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
