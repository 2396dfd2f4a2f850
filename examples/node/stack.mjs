// The functions here start the simulated gateway and a sidecar for the tests, each on a free port.
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { Sezzle } from "./sezzle.mjs";
import { Shop } from "./shop.mjs";

const BINARY = process.env.SEZZLE_SIDECAR ?? "sezzle-sidecar";
const SECRET = "a-secret-of-the-sidecar-and-the-shop";

function start(args, settings) {
  const named = Object.entries(settings).map(([name, value]) => [`SEZZLE_SIDECAR__${name}`, value]);
  const env = { PATH: process.env.PATH, ...Object.fromEntries(named) };
  return spawn(BINARY, args, { env, stdio: ["ignore", "pipe", "inherit"] });
}

// The first line of the output that `find` makes something of. The rest is read and dropped, or the process would wait
// for its reader.
function says(child, find) {
  return new Promise((resolve, reject) => {
    const lines = readline.createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      const found = find(line);
      if (found) resolve(found);
    });
    lines.on("close", () => reject(new Error("the program did not start")));
    child.on("error", reject);
  });
}

async function stop(child) {
  child.kill("SIGTERM");
  if (child.exitCode === null) await once(child, "exit");
}

// The simulated gateway. docs/simulator.md lists every call.
export async function startSimulator() {
  const child = start(["simulate", "--listen", "127.0.0.1:0"], {});
  // "A simulated Sezzle gateway listens on http://127.0.0.1:40123. …"
  const url = await says(child, (line) => line.match(/listens on (\S+)\. /)?.[1]);
  const ask = (method, call, body) => new Sezzle(url, []).call(method, `/_simulator/${call}`, { body });
  const effects = async (order) =>
    (await ask("GET", `orders/${order}/effects`)).effects.map(({ kind, cents }) => [kind, cents]);
  return { url, ask, effects, stop: () => stop(child) };
}

// All tests share one shop and one sidecar, because `reset` makes both as after a start: a breaker or a 429 of one test
// does not reach the next one.
export async function startShop(simulator) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "shop-"));
  const secret = path.join(folder, "secret");
  fs.writeFileSync(secret, SECRET, { mode: 0o600 });
  const shop = new Shop(null, SECRET);
  const server = await shop.serve();
  const child = start(["run"], {
    GATEWAY__ENVIRONMENT: "sandbox",
    GATEWAY__URL: simulator.url,
    CREDENTIALS__PUBLIC_KEY: "sz_pub_simulated",
    CREDENTIALS__PRIVATE_KEY: "sz_pr_simulated",
    PROXY__LISTEN: "127.0.0.1:0",
    OPS__LISTEN: "127.0.0.1:0",
    CONTROL__LISTEN: "127.0.0.1:0",
    WEBHOOKS__LISTEN: "127.0.0.1:0",
    WEBHOOKS__FORWARD_TO: `http://127.0.0.1:${server.address().port}/webhooks/sezzle`,
    WEBHOOKS__FORWARD_SECRET_FILE: secret,
    DRAIN__GRACE: "0s",
  });
  const addresses = await says(child, (line) => (line.includes('"started"') ? JSON.parse(line) : null));
  await eventually(async () => (await fetch(`http://${addresses.ops}/readyz`)).status === 200);
  shop.sezzle = new Sezzle(`http://${addresses.proxy}`, [0, 0, 0]);
  shop.webhooks = `http://${addresses.webhooks}/webhooks/sezzle`;
  const control = new Sezzle(`http://${addresses.control}`, []);
  shop.reset = async () => {
    await simulator.ask("POST", "reset");
    await control.call("POST", "/reset");
    shop.forget();
  };
  shop.stop = async () => {
    await stop(child);
    server.close();
    server.closeAllConnections();
    fs.rmSync(folder, { recursive: true });
  };
  return shop;
}

export async function eventually(what) {
  const deadline = Date.now() + 20_000;
  while (!(await what())) {
    if (Date.now() > deadline) throw new Error("it never came true");
    await sleep(10);
  }
}
