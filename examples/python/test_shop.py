"""The suite shows how the shop acts when all is well, and when it is not."""
import time

import pytest
from sezzle import OutcomeUnknown, Refused, Sezzle


def eventually(what):
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def paid_order(shop, simulator):
    """An order whose shopper has finished the checkout."""
    order = shop.begin_checkout("4711", 10_000)["order"]["uuid"]
    simulator("POST", f"orders/{order}/complete")
    return order


def test_the_shopper_pays_and_each_parcel_is_captured(shop, simulator):
    order = paid_order(shop, simulator)
    shop.ship(order, "a", 2_500)
    shop.ship(order, "b", 1_000)
    assert simulator.effects(order) == [("capture", 2_500), ("capture", 1_000)]


def test_a_parcel_that_is_shipped_twice_is_captured_once(shop, simulator):
    order = paid_order(shop, simulator)
    shop.ship(order, "a", 2_500)
    shop.ship(order, "a", 2_500)
    assert simulator.effects(order) == [("capture", 2_500)]


def test_a_session_is_looked_up_from_memory(shop, simulator):
    session = shop.begin_checkout("4711", 10_000)["uuid"]
    simulator("DELETE", "journal")
    for _ in range(5):
        assert shop.session(session)["uuid"] == session
    assert len(simulator("GET", "journal")["exchanges"]) == 1


def test_an_unknown_session_is_refused(shop):
    with pytest.raises(Refused, match="404"):
        shop.session("00000000-0000-4000-8000-000000000000")


def test_sezzle_is_down_for_one_call(shop, simulator):
    order = paid_order(shop, simulator)
    # Three answers of the simulator are one call of the shop, because the sidecar makes three attempts.
    simulator("POST", "rules", {"path": "/v2/order/*", "times": 3, "status": 503})
    shop.ship(order, "a", 2_500)
    assert simulator.effects(order) == [("capture", 2_500)]


def test_the_answer_to_a_capture_never_arrives(shop, simulator):
    order = paid_order(shop, simulator)
    simulator("POST", "rules", {"path": "/v2/order/*", "times": 3, "reset": "after_effect"})
    shop.ship(order, "a", 2_500)
    assert simulator.effects(order) == [("capture", 2_500)]


def test_the_answer_to_a_new_session_never_arrives(shop, simulator):
    simulator("POST", "rules", {"path": "/v2/session", "times": 1, "reset": "after_effect"})
    with pytest.raises(OutcomeUnknown, match="create another session"):
        shop.begin_checkout("4711", 10_000)
    assert shop.begin_checkout("4711", 10_000)["order"]["uuid"]


def test_sezzle_asks_for_fewer_calls(shop, simulator):
    session = shop.begin_checkout("4711", 10_000)["uuid"]
    simulator("POST", "rules", {"path": "/v2/session/*", "times": 1, "status": 429, "set_headers": {"Retry-After": "1"}})
    assert shop.session(session)["uuid"] == session


def test_a_reset_ends_what_the_sidecar_remembers(shop, simulator):
    once = Sezzle(shop.sezzle.base, waits=())
    lookup = lambda: once.call("GET", "/v2/session/00000000-0000-4000-8000-000000000000")
    simulator("POST", "rules", {"path": "/v2/session/*", "status": 503})
    for _ in range(20):
        with pytest.raises(Refused, match="503"):
            lookup()
    # The breaker is open by now: the sidecar asks Sezzle no more.
    with pytest.raises(Refused, match="sidecar.circuit_open"):
        lookup()
    shop.reset()
    with pytest.raises(Refused, match="404"):
        lookup()


def subscribe(shop):
    shop.sezzle.call("POST", "/v2/webhooks", {"url": shop.webhooks, "events": ["order.authorized"]})


def test_a_webhook_reaches_the_shop_by_way_of_the_sidecar(shop, simulator):
    subscribe(shop)
    order = paid_order(shop, simulator)
    eventually(lambda: order in shop.paid)


def test_a_webhook_comes_again_until_the_shop_takes_it(shop, simulator):
    simulator("PATCH", "settings", {"webhook_retries": ["20ms"] * 500})
    subscribe(shop)
    shop.down = True
    order = paid_order(shop, simulator)
    delivery = lambda: simulator("GET", "deliveries")["deliveries"][0]
    eventually(lambda: len(delivery()["attempts"]) > 2)
    assert not shop.paid
    shop.down = False
    eventually(lambda: delivery()["state"] == "accepted")
    # Sezzle sees the sidecar's answer, which is 502 while the shop fails.
    statuses = [attempt["status"] for attempt in delivery()["attempts"]]
    assert statuses == [502] * (len(statuses) - 1) + [200]
    assert shop.paid == {order}


def test_a_webhook_that_comes_twice_counts_once(shop, simulator):
    subscribe(shop)
    paid_order(shop, simulator)
    deliveries = lambda: simulator("GET", "deliveries")["deliveries"]
    eventually(lambda: shop.events)
    simulator("POST", f"deliveries/{deliveries()[0]['number']}/redeliver")
    eventually(lambda: [delivery["state"] for delivery in deliveries()] == ["accepted"] * 2)
    assert len(shop.events) == 1


@pytest.mark.parametrize("signature", [None, "", "00" * 32])
def test_a_webhook_that_the_sidecar_did_not_sign_is_refused(shop, signature):
    assert shop.receive(b'{"uuid":"1","event":"order.authorized","data":{"uuid":"o"}}', signature) == 401
    assert not shop.events
