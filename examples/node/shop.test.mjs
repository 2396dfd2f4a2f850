// The suite shows how the shop acts when all is well, and when it is not.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";

import { OutcomeUnknown, Refused, Sezzle } from "./sezzle.mjs";
import { eventually, startShop, startSimulator } from "./stack.mjs";

let simulator, shop;
before(async () => {
  simulator = await startSimulator();
  shop = await startShop(simulator);
});
beforeEach(() => shop.reset());
after(async () => {
  await shop.stop();
  await simulator.stop();
});

// An order whose shopper has finished the checkout.
async function paidOrder() {
  const order = (await shop.beginCheckout("4711", 10_000)).order.uuid;
  await simulator.ask("POST", `orders/${order}/complete`);
  return order;
}

const subscribe = () =>
  shop.sezzle.call("POST", "/v2/webhooks", { body: { url: shop.webhooks, events: ["order.authorized"] } });
const deliveries = async () => (await simulator.ask("GET", "deliveries")).deliveries;

test("the shopper pays, and each parcel is captured once", async () => {
  const order = await paidOrder();
  await shop.ship(order, "a", 2_500);
  await shop.ship(order, "a", 2_500);
  await shop.ship(order, "b", 1_000);
  assert.deepEqual(await simulator.effects(order), [["capture", 2_500], ["capture", 1_000]]);
});

test("a session is looked up from memory", async () => {
  const { uuid } = await shop.beginCheckout("4711", 10_000);
  await simulator.ask("DELETE", "journal");
  for (let count = 0; count < 5; count += 1) assert.equal((await shop.session(uuid)).uuid, uuid);
  assert.equal((await simulator.ask("GET", "journal")).exchanges.length, 1);
});

test("an unknown session is refused", async () => {
  await assert.rejects(shop.session("00000000-0000-4000-8000-000000000000"), Refused);
});

test("Sezzle is down for one call", async () => {
  const order = await paidOrder();
  // Three answers of the simulator are one call of the shop, because the sidecar makes three attempts.
  await simulator.ask("POST", "rules", { path: "/v2/order/*", times: 3, status: 503 });
  await shop.ship(order, "a", 2_500);
  assert.deepEqual(await simulator.effects(order), [["capture", 2_500]]);
});

test("the answer to a capture never arrives", async () => {
  const order = await paidOrder();
  await simulator.ask("POST", "rules", { path: "/v2/order/*", times: 3, reset: "after_effect" });
  await shop.ship(order, "a", 2_500);
  assert.deepEqual(await simulator.effects(order), [["capture", 2_500]]);
});

test("the answer to a new session never arrives", async () => {
  await simulator.ask("POST", "rules", { path: "/v2/session", times: 1, reset: "after_effect" });
  const lost = shop.beginCheckout("4711", 10_000);
  await assert.rejects(lost, (error) => error instanceof OutcomeUnknown && /create another session/.test(error.message));
  assert.ok((await shop.beginCheckout("4711", 10_000)).order.uuid);
});

test("Sezzle asks for fewer calls", async () => {
  const { uuid } = await shop.beginCheckout("4711", 10_000);
  const rule = { path: "/v2/session/*", times: 1, status: 429, set_headers: { "Retry-After": "1" } };
  await simulator.ask("POST", "rules", rule);
  assert.equal((await shop.session(uuid)).uuid, uuid);
});

test("a reset ends what the sidecar remembers", async () => {
  const once = new Sezzle(shop.sezzle.base, []);
  const lookup = () => once.call("GET", "/v2/session/00000000-0000-4000-8000-000000000000");
  await simulator.ask("POST", "rules", { path: "/v2/session/*", status: 503 });
  for (let count = 0; count < 20; count += 1) await assert.rejects(lookup, /503/);
  // The breaker is open by now: the sidecar asks Sezzle no more.
  await assert.rejects(lookup, /sidecar\.circuit_open/);
  await shop.reset();
  await assert.rejects(lookup, /404/);
});

test("a webhook comes again until the shop takes it", async () => {
  await simulator.ask("PATCH", "settings", { webhook_retries: Array(500).fill("20ms") });
  await subscribe();
  shop.down = true;
  const order = await paidOrder();
  await eventually(async () => (await deliveries())[0]?.attempts.length > 2);
  assert.equal(shop.paid.size, 0);
  shop.down = false;
  await eventually(async () => (await deliveries())[0].state === "accepted");
  assert.deepEqual([...shop.paid], [order]);
  // Sezzle sees the sidecar's answer, which is 502 while the shop fails.
  assert.deepEqual(new Set((await deliveries())[0].attempts.map(({ status }) => status)), new Set([502, 200]));
});

test("a webhook that comes twice counts once", async () => {
  await subscribe();
  await paidOrder();
  await eventually(() => shop.events.size);
  await simulator.ask("POST", `deliveries/${(await deliveries())[0].number}/redeliver`);
  await eventually(async () => (await deliveries())[1]?.state === "accepted");
  assert.equal(shop.events.size, 1);
});

test("a webhook that the sidecar did not sign is refused", () => {
  const body = Buffer.from('{"uuid":"1","event":"order.authorized","data":{"uuid":"o"}}');
  for (const signature of [undefined, "", "00".repeat(32)]) assert.equal(shop.receive(body, signature), 401);
  assert.equal(shop.events.size, 0);
});
