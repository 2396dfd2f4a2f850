// Makes the calls of a plan with an HTTP client for Node, one call after the other.
//
//     node steps.mjs STACK BASE PLAN FOLDER
//
// PLAN has a line for each call: method, path and query, framing, idempotency key or "-", body, separated by tabs. The
// framing is none, length, chunked or expect. All later calls carry the token of the first answer. The program prints a
// line for each call: its status, or the error's name, and its Cache-Status. The bodies of the answers go into FOLDER,
// named by the numbers of their calls. CLIENTS names the folder with node_modules.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";

const [stack, base, plan, folder] = process.argv.slice(2);
const modules = path.join(process.env.CLIENTS ?? ".", "node_modules");
const load = (name) => createRequire(pathToFileURL(path.join(modules, "/")))(name);
const esm = (file) => import(pathToFileURL(path.join(modules, file)));
const LIMIT = 20_000;

// The body in two pieces, without a length.
const pieces = async function* (body) {
  yield Buffer.from(body.slice(0, 7));
  yield Buffer.from(body.slice(7));
};

const answer = (status, headers, body) => ({ status, cache: headers["cache-status"] ?? "", body: Buffer.from(body) });

const fetched = (fetch) => async ({ method, url, headers, framing, body }) => {
  const chunked = framing === "chunked" ? { body: Readable.toWeb(Readable.from(pieces(body))), duplex: "half" } : { body };
  const got = await fetch(url, { method, headers, signal: AbortSignal.timeout(LIMIT), ...(framing === "none" ? {} : chunked) });
  return answer(got.status, Object.fromEntries(got.headers), await got.arrayBuffer());
};

const stacks = {
  fetch: async () => fetched(fetch),

  http: async () => {
    const http = await import("node:http");
    const agent = new http.Agent({ keepAlive: true });
    return ({ method, url, headers, framing, body }) =>
      new Promise((resolve, reject) => {
        if (framing === "length") headers["Content-Length"] = Buffer.byteLength(body);
        if (framing === "chunked") headers["Transfer-Encoding"] = "chunked";
        if (framing === "expect") Object.assign(headers, { Expect: "100-continue", "Content-Length": Buffer.byteLength(body) });
        const request = http.request(url, { method, headers, agent, timeout: LIMIT }, async (got) => {
          try {
            resolve(answer(got.statusCode, got.headers, Buffer.concat(await got.toArray())));
          } catch (error) {
            reject(error);
          }
        });
        request.on("error", reject).on("timeout", () => request.destroy(new Error("timeout")));
        if (framing === "expect") request.on("continue", () => request.end(body)).flushHeaders();
        else if (framing === "chunked") Readable.from(pieces(body)).pipe(request);
        else request.end(framing === "none" ? undefined : body);
      });
  },

  undici: async () => {
    const { request } = load("undici");
    return async ({ method, url, headers, framing, body }) => {
      const sent = framing === "none" ? undefined : framing === "chunked" ? Readable.from(pieces(body)) : body;
      const got = await request(url, { method, headers, body: sent, headersTimeout: LIMIT, bodyTimeout: LIMIT });
      return answer(got.statusCode, got.headers, await got.body.arrayBuffer());
    };
  },

  "undici-fetch": async () => fetched(load("undici").fetch),

  axios: async () => axios("http"),
  "axios-fetch": async () => axios("fetch"),

  got: async () => {
    const { default: got } = await esm("got/dist/source/index.js");
    const agent = { http: new (await import("node:http")).Agent({ keepAlive: true }) };
    return async ({ method, url, headers, framing, body }) => {
      const sent = framing === "none" ? {} : { body: framing === "chunked" ? Readable.from(pieces(body)) : body };
      const options = { method, headers, agent, responseType: "buffer", throwHttpErrors: false, timeout: { request: LIMIT } };
      const answered = await got(url, { ...options, ...sent });
      return answer(answered.statusCode, answered.headers, answered.body);
    };
  },

  // Set to retry a failed call once, as its users do.
  superagent: async () => {
    const superagent = load("superagent");
    const agent = new (await import("node:http")).Agent({ keepAlive: true });
    return async ({ method, url, headers, framing, body }) => {
      const request = superagent(method, url).set(headers).agent(agent).timeout(LIMIT).retry(1).ok(() => true);
      request.buffer(true).parse((got, done) => got.toArray().then((parts) => done(null, Buffer.concat(parts)), done));
      const got = await (framing === "none" ? request : request.send(body));
      return answer(got.status, got.headers, Buffer.isBuffer(got.body) ? got.body : "");
    };
  },
};

async function axios(adapter) {
  const client = load("axios").create({ adapter, responseType: "arraybuffer", validateStatus: () => true, timeout: LIMIT });
  return async ({ method, url, headers, framing, body }) => {
    const stream = () => (adapter === "fetch" ? Readable.toWeb(Readable.from(pieces(body))) : Readable.from(pieces(body)));
    const data = framing === "none" ? undefined : framing === "chunked" ? stream() : body;
    const got = await client.request({ method, url, headers, data });
    return answer(got.status, got.headers, got.data ?? "");
  };
}

const call = await stacks[stack]();
let token;
for (const [number, line] of fs.readFileSync(plan, "utf8").trimEnd().split("\n").entries()) {
  const [method, target, framing, key, body] = line.split("\t");
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (key !== "-") headers["Sezzle-Request-Id"] = key;
  if (framing !== "none") headers["Content-Type"] = "application/json";
  try {
    const got = await call({ method, url: base + target, headers, framing, body });
    token ??= got.body.toString().match(/"token": ?"([^"]+)"/)?.[1];
    fs.writeFileSync(path.join(folder, String(number)), got.body);
    console.log(`${got.status}\t${got.cache}`);
  } catch (error) {
    console.log(`${error.code ?? error.cause?.code ?? error.name}\t`);
    console.error(error);
  }
}
process.exit(0);
