// A small shop that is paid through Sezzle. docs/testing-your-service.md shows how it is tested.
import http from "node:http";

import { isGenuine } from "../webhook/verify.mjs";

export class Shop {
  constructor(sezzle, secret) {
    Object.assign(this, { sezzle, secret, events: new Map(), paid: new Set(), down: false });
  }

  // Creates a session, to whose checkout_url the shopper is sent.
  beginCheckout(reference, cents) {
    const url = { href: "https://shop.example/checkout", method: "GET" };
    const amount = { amount_in_cents: cents, currency: "USD" };
    const order = { intent: "AUTH", reference_id: reference, description: reference, order_amount: amount };
    return this.sezzle.call("POST", "/v2/session", { body: { cancel_url: url, complete_url: url, order } });
  }

  session(uuid) {
    return this.sezzle.call("GET", `/v2/session/${uuid}`);
  }

  // Captures what one parcel costs. One parcel is one wish and has one key, however often it is tried.
  ship(order, parcel, cents) {
    const body = { capture_amount: { amount_in_cents: cents, currency: "USD" }, partial_capture: true };
    return this.sezzle.call("POST", `/v2/order/${order}/capture`, { body, key: `parcel-${parcel}-capture` });
  }

  // Takes a webhook, and returns the status of the answer.
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

  // Serves webhooks on a free port of loopback, and resolves to the server.
  serve() {
    const server = http.createServer(async (request, response) => {
      const body = Buffer.concat(await request.toArray());
      response.writeHead(this.receive(body, request.headers["sezzle-sidecar-signature"])).end();
    });
    return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
  }
}
