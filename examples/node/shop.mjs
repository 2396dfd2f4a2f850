// This small shop is paid through Sezzle. docs/testing-your-service.md shows how its tests work.
import http from "node:http";

import { isGenuine } from "../webhook/verify.mjs";

export class Shop {
  constructor(sezzle, secret) {
    Object.assign(this, { sezzle, secret });
    this.forget();
  }

  // A test begins with a shop that has seen no event.
  forget() {
    Object.assign(this, { events: new Map(), paid: new Set(), down: false });
  }

  // The shop creates a session, and sends the shopper to its checkout_url.
  beginCheckout(reference, cents) {
    const url = { href: "https://shop.example/checkout", method: "GET" };
    const amount = { amount_in_cents: cents, currency: "USD" };
    const order = { intent: "AUTH", reference_id: reference, description: reference, order_amount: amount };
    return this.sezzle.call("POST", "/v2/session", { body: { cancel_url: url, complete_url: url, order } });
  }

  session(uuid) {
    return this.sezzle.call("GET", `/v2/session/${uuid}`);
  }

  // The shop captures the price of one parcel. One parcel has one key, however often the shop tries.
  ship(order, parcel, cents) {
    const body = { capture_amount: { amount_in_cents: cents, currency: "USD" }, partial_capture: true };
    return this.sezzle.call("POST", `/v2/order/${order}/capture`, { body, key: `parcel-${parcel}-capture` });
  }

  // The shop takes a webhook. The result is the status of its answer.
  receive(body, signature) {
    if (!isGenuine(this.secret, body, signature)) return 401;
    if (this.down) return 503;
    const event = JSON.parse(body);
    // Events come twice and in any order.
    if (!this.events.has(event.uuid)) {
      this.events.set(event.uuid, event);
      if (event.event === "order.authorized") this.paid.add(event.data.uuid);
    }
    return 200;
  }

  // The shop serves webhooks on a free port of loopback. The result is the server.
  serve() {
    const server = http.createServer(async (request, response) => {
      const body = Buffer.concat(await request.toArray());
      response.writeHead(this.receive(body, request.headers["sezzle-sidecar-signature"])).end();
    });
    return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
  }
}
