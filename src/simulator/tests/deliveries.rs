use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::simulator::tests::{Caller, soon, start};
use crate::simulator::{DeliveryState, EffectKind, Encoding, Options, SessionKind, Simulator, TokenizedType};

const EVENTS: [&str; 4] = ["customer.tokenized", "order.authorized", "order.captured", "order.refunded"];

type Status = fn(&str) -> u16;

/// What a merchant's service has received, and what it answers.
#[derive(Clone)]
struct Receiver {
    url: String,
    received: watch::Sender<Vec<(HeaderMap, Bytes)>>,
    /// The status for an event, by its name.
    answer: Arc<Mutex<Status>>,
}

impl Receiver {
    async fn start(answer: Status) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?from=sezzle", listener.local_addr().unwrap());
        let this = Self { url, received: watch::Sender::default(), answer: Arc::new(Mutex::new(answer)) };
        let receiver = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = receiver.clone();
                let service = service_fn(move |request| receiver.clone().receive(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        this
    }

    async fn receive(self, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", "/hook?from=sezzle"));
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let event: Value = serde_json::from_slice(&body).unwrap();
        let status = self.answer.lock().unwrap()(event["event"].as_str().unwrap());
        self.received.send_modify(|received| received.push((head.headers, body)));
        Ok(Response::builder().status(status).body(Empty::new()).unwrap())
    }

    fn answers(&self, answer: Status) {
        *self.answer.lock().unwrap() = answer;
    }

    fn events(&self) -> Vec<Value> {
        self.received.borrow().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.events().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until something has come that this key has signed.
    async fn signed_with(&self, key: &str) {
        let signed = |(headers, body): &(HeaderMap, Bytes)| headers["sezzle-signature"] == hex(key, body).as_str();
        soon(self.received.subscribe().wait_for(|received| received.iter().any(signed))).await.unwrap();
    }
}

fn hex(key: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), body);
    tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Subscribes and answers the path of the subscription.
async fn subscribe(caller: &mut Caller, url: &str, events: &[&str]) -> String {
    let reply = caller.post("/v2/webhooks", &json!({"url": url, "events": events})).await;
    assert_eq!(reply.status, 200);
    format!("/v2/webhooks/{}", reply.json()["uuid"].as_str().unwrap())
}

fn states(simulator: &Simulator) -> Vec<DeliveryState> {
    simulator.deliveries().iter().map(|delivery| delivery.state).collect()
}

#[tokio::test]
async fn what_happens_is_told_to_those_who_listed_it() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let [all, captures, elsewhere] =
        [Receiver::start(|_| 200).await, Receiver::start(|_| 200).await, Receiver::start(|_| 200).await];
    subscribe(&mut caller, &all.url, &EVENTS).await;
    subscribe(&mut caller, &captures.url, &["order.captured"]).await;
    simulator.configure(|options| options.merchant_uuid = "another".to_owned());
    subscribe(&mut Caller::login(&simulator).await, &elsewhere.url, &EVENTS).await;
    simulator.configure(|options| options.merchant_uuid = Options::default().merchant_uuid);

    let ids = simulator.create_session(SessionKind::OrderAndTokenize);
    let (order, token) = (ids.order.unwrap(), ids.token.unwrap());
    let customer = simulator.approve_token(&token).unwrap();
    simulator.complete_checkout(&order);
    let mut caller = caller.with_key("once");
    let price = json!({"amount_in_cents": 10, "currency": "USD"});
    let capture = json!({"capture_amount": price, "partial_capture": true});
    for _ in 0..2 {
        assert_eq!(caller.post(&format!("/v2/order/{order}/capture"), &capture).await.status, 200);
    }
    for call in ["release", "refund"] {
        assert_eq!(caller.post(&format!("/v2/order/{order}/{call}"), &price).await.status, 200);
    }
    // Neither a refusal nor a denied authorization is an event.
    assert_eq!(caller.post(&format!("/v2/order/{order}/refund"), &capture).await.status, 200, "the same key");
    simulator.configure(|options| options.approving = false);
    assert_eq!(caller.post(&format!("/v2/order/{order}/reauthorize"), &price).await.status, 200);
    soon(simulator.deliveries_settled(5)).await;

    let mut names = all.names();
    names.sort_unstable();
    assert_eq!(names, EVENTS);
    assert_eq!(captures.names(), ["order.captured"]);
    assert!(elsewhere.names().is_empty());
    assert_eq!(states(&simulator), [DeliveryState::Accepted; 5]);
    for event in all.events() {
        assert!(event["uuid"].is_string() && event["created_at"].is_string());
        let has_source = ["order.captured", "order.refunded"].iter().any(|name| event["event"] == *name);
        assert_eq!(event["data"].get("source"), has_source.then_some(&json!("gateway")), "{event}");
        if event["event"] == "customer.tokenized" {
            assert_eq!(
                (&event["data"]["token"], &event["data"]["customer"]["uuid"]),
                (&json!(token), &json!(customer))
            );
        } else {
            assert_eq!((&event["data_type"], &event["data"]["uuid"]), (&json!("order"), &json!(order)));
            assert_eq!(event["data"]["authorization"]["approved"], true);
        }
    }
    for (headers, body) in all.received.borrow().iter() {
        assert_eq!(headers["sezzle-signature"], hex("sz_pr_simulated", body).as_str());
        assert_eq!(headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn an_order_that_is_captured_at_once_is_told_twice() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let receiver = Receiver::start(|_| 200).await;
    subscribe(&mut caller, &receiver.url, &EVENTS).await;
    let customer = simulator.approve_token(&simulator.create_session(SessionKind::Tokenize).token.unwrap()).unwrap();
    let order = json!({"order_amount": {"amount_in_cents": 10, "currency": "USD"}});
    caller.post(&format!("/v2/customer/{customer}/order"), &order).await;
    soon(simulator.deliveries_settled(3)).await;
    let names: Vec<String> = simulator.deliveries().into_iter().map(|delivery| delivery.event).collect();
    assert_eq!(names, ["customer.tokenized", "order.authorized", "order.captured"]);
}

#[tokio::test]
async fn a_click_in_the_dashboard_is_told_as_such() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let receiver = Receiver::start(|_| 200).await;
    subscribe(&mut caller, &receiver.url, &["order.captured", "order.refunded"]).await;
    let order = simulator.create_session(SessionKind::Order).order.unwrap();
    assert!(!simulator.click(&order, EffectKind::Capture, 1), "the checkout is open");
    simulator.complete_checkout(&order);
    assert!(simulator.click(&order, EffectKind::Capture, 500));
    assert!(!simulator.click(&order, EffectKind::Refund, 501) && !simulator.click("none", EffectKind::Refund, 1));
    assert!(simulator.click(&order, EffectKind::Refund, 200));
    assert!(simulator.click(&order, EffectKind::Release, 9500), "of which no event tells");
    soon(simulator.deliveries_settled(2)).await;
    let mut names = receiver.names();
    names.sort_unstable();
    assert_eq!(names, ["order.captured", "order.refunded"]);
    assert!(receiver.events().iter().all(|event| event["data"]["source"] == "dashboard"));
}

#[tokio::test]
async fn a_dispute_names_its_order() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let receiver = Receiver::start(|_| 200).await;
    subscribe(&mut caller, &receiver.url, &["dispute.merchant_input_requested"]).await;
    let order = simulator.create_session(SessionKind::Order).order.unwrap();
    simulator.complete_checkout(&order);
    assert_eq!(
        caller.send("PATCH", &format!("/v2/order/{order}"), r#"{"reference_id":"r"}"#.into()).await.unwrap().status,
        204
    );
    assert!(simulator.click(&order, EffectKind::Capture, 500));
    assert!(simulator.dispute(&order, "dispute.merchant_input_requested"));
    assert!(!simulator.dispute("none", "dispute.merchant_input_requested"));
    let test = json!({"event": "dispute.merchant_input_requested", "url": receiver.url});
    assert_eq!(caller.post("/v2/webhooks/test", &test).await.status, 201);
    soon(simulator.deliveries_settled(2)).await;
    let mut real = 0;
    for event in receiver.events() {
        assert_eq!(event["data_type"], "dispute");
        let data = event["data"].as_object().unwrap();
        let members: Vec<&str> = data.keys().map(String::as_str).collect();
        assert_eq!(
            members,
            [
                "dispute_amount_in_cents",
                "dispute_currency",
                "dispute_due_date",
                "dispute_id",
                "dispute_status",
                "dispute_type",
                "order_reference_id",
                "order_uuid",
            ]
        );
        assert_eq!(
            (&data["dispute_status"], &data["dispute_currency"]),
            (&json!("merchant_input_requested"), &json!("USD"))
        );
        if data["order_uuid"] == order.as_str() {
            assert_eq!((&data["order_reference_id"], &data["dispute_amount_in_cents"]), (&json!("r"), &json!(500)));
            real += 1;
        }
    }
    assert_eq!(real, 1);
}

#[tokio::test]
async fn webhooks_are_written_as_asked_for() {
    let simulator = start().await;
    simulator.configure(|options| {
        (options.signature_encoding, options.tokenized_data_type) = (Encoding::Base64, TokenizedType::Customer);
    });
    let mut caller = Caller::login(&simulator).await;
    let receiver = Receiver::start(|_| 200).await;
    subscribe(&mut caller, &receiver.url, &["customer.tokenized"]).await;
    let begun = OffsetDateTime::now_utc();
    simulator.approve_token(&simulator.create_session(SessionKind::Tokenize).token.unwrap()).unwrap();
    soon(simulator.deliveries_settled(1)).await;
    let (headers, body) = receiver.received.borrow()[0].clone();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"sz_pr_simulated"), &body);
    assert_eq!(headers["sezzle-signature"], BASE64_STANDARD.encode(tag).as_str());
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["data_type"], "customer");
    let ends = OffsetDateTime::parse(event["data"]["expiration"].as_str().unwrap(), &Rfc3339).unwrap();
    assert!(((ends - begun).whole_seconds() - 1800).abs() < 20, "half an hour after the creation");
}

#[tokio::test]
async fn any_event_is_raised_by_hand() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let receiver = Receiver::start(|_| 200).await;
    subscribe(&mut caller, &receiver.url, &["dispute.closed.neutral", "new.thing"]).await;
    assert_eq!(simulator.raise_event("dispute.closed.neutral", &json!({"order_uuid": "o"})), 1);
    assert_eq!(simulator.raise_event("new.thing", &json!([1])), 1);
    assert_eq!(simulator.raise_event("order.captured", &json!({})), 0);
    soon(simulator.deliveries_settled(2)).await;
    let mut events = receiver.events();
    events.sort_unstable_by_key(|event| event["event"].to_string());
    assert_eq!((&events[0]["data_type"], &events[0]["data"]["order_uuid"]), (&json!("dispute"), &json!("o")));
    assert_eq!((&events[1]["data_type"], &events[1]["data"]), (&json!("new"), &json!([1])));
}

#[tokio::test]
async fn retries_are_signed_anew_and_hold_up_no_other_event() {
    let simulator = start().await;
    simulator.configure(|options| options.webhook_retries = vec![Duration::from_millis(1); 1000]);
    let mut caller = Caller::login(&simulator).await;
    // 204 is no success.
    let receiver = Receiver::start(|event| if event == "first" { 204 } else { 200 }).await;
    subscribe(&mut caller, &receiver.url, &["first", "second"]).await;
    simulator.raise_event("first", &json!({}));
    receiver.signed_with("sz_pr_simulated").await;
    simulator.raise_event("second", &json!({}));
    soon(simulator.deliveries_settled(1)).await;
    assert_eq!(states(&simulator), [DeliveryState::Pending, DeliveryState::Accepted]);
    simulator.set_keys("public", "changed");
    receiver.answers(|event| if event == "first" { 500 } else { 200 });
    receiver.signed_with("changed").await;
    receiver.answers(|_| 200);
    soon(simulator.deliveries_settled(2)).await;
    let first = simulator.deliveries().swap_remove(0);
    assert_eq!(first.state, DeliveryState::Accepted);
    let (last, failed) = first.attempts.split_last().unwrap();
    assert_eq!(last.status, Some(200));
    assert!(failed.iter().all(|attempt| matches!(attempt.status, Some(204 | 500)) && attempt.at <= last.at));
    let bodies = receiver.events();
    assert!(bodies.iter().filter(|event| event["event"] == "first").all(|event| event["uuid"] == bodies[0]["uuid"]));
}

#[tokio::test]
async fn the_last_failure_ends_the_subscription_for_all_events() {
    let simulator = start().await;
    simulator.configure(|options| options.webhook_retries = vec![Duration::from_millis(1); 2]);
    let mut caller = Caller::login(&simulator).await;
    let (bad, good) = (Receiver::start(|_| 201).await, Receiver::start(|_| 200).await);
    let lost = subscribe(&mut caller, &bad.url, &["a", "b"]).await;
    let kept = subscribe(&mut caller, &good.url, &["a", "b"]).await;
    assert_eq!(simulator.raise_event("a", &json!({})), 2);
    soon(simulator.deliveries_settled(2)).await;
    assert_eq!(states(&simulator), [DeliveryState::GivenUp, DeliveryState::Accepted]);
    assert_eq!((bad.names().len(), good.names().len()), (3, 1));
    assert_eq!(caller.get(&lost).await.status, 404);
    assert_eq!(caller.get(&kept).await.status, 200);
    assert_eq!(simulator.raise_event("b", &json!({})), 1);
}

#[tokio::test]
async fn a_deleted_subscription_gets_no_more_retries() {
    let simulator = start().await;
    simulator.configure(|options| options.webhook_retries = vec![Duration::from_millis(1); 1000]);
    let mut caller = Caller::login(&simulator).await;
    let receiver = Receiver::start(|_| 503).await;
    let path = subscribe(&mut caller, &receiver.url, &["a"]).await;
    simulator.raise_event("a", &json!({}));
    receiver.signed_with("sz_pr_simulated").await;
    assert_eq!(caller.send("DELETE", &path, Bytes::new()).await.unwrap().status, 204);
    soon(simulator.deliveries_settled(1)).await;
    assert_eq!(states(&simulator), [DeliveryState::Unsubscribed]);
}

#[tokio::test]
async fn silence_is_a_failure_and_so_is_a_closed_port() {
    let simulator = start().await;
    simulator.configure(|options| options.webhook_retries = Vec::new());
    simulator.configure(|options| options.webhook_timeout = Duration::from_millis(20));
    let mut caller = Caller::login(&simulator).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for addr in [silent.local_addr().unwrap(), closed] {
        subscribe(&mut caller, &format!("http://{addr}/"), &["a"]).await;
    }
    simulator.raise_event("a", &json!({}));
    soon(simulator.deliveries_settled(2)).await;
    for delivery in simulator.deliveries() {
        assert_eq!((delivery.state, delivery.attempts.len()), (DeliveryState::GivenUp, 1));
        assert_eq!(delivery.attempts[0].status, None);
    }
}

#[tokio::test]
async fn nothing_leaves_the_machine() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    for url in ["https://127.0.0.1/hook", "http://shop.example/hook"] {
        subscribe(&mut caller, url, &["a"]).await;
    }
    simulator.raise_event("a", &json!({}));
    soon(simulator.deliveries_settled(2)).await;
    for delivery in simulator.deliveries() {
        assert!(matches!(delivery.state, DeliveryState::NotSent(_)) && delivery.attempts.is_empty());
    }
    assert_eq!(simulator.raise_event("a", &json!({})), 2, "the subscriptions stay");
}

#[tokio::test]
async fn a_test_event_goes_to_its_url_or_to_all_subscribers() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let (one, subscriber) = (Receiver::start(|_| 500).await, Receiver::start(|_| 200).await);
    subscribe(&mut caller, &subscriber.url, &["order.refunded"]).await;
    let path = "/v2/webhooks/test";
    assert_eq!(caller.post(path, &json!({})).await.status, 400);
    assert_eq!(caller.post(path, &json!({"url": "here"})).await.locations(), ["url"]);
    let body = json!({"url": one.url, "event": "customer.tokenized"});
    assert_eq!(caller.post(path, &body).await.status, 201);
    assert_eq!(caller.post(path, &json!({"event": "order.refunded"})).await.status, 201);
    soon(simulator.deliveries_settled(2)).await;
    assert!(one.events()[0]["data"]["token"].is_string());
    assert_eq!((one.names(), subscriber.names()), (vec!["customer.tokenized".into()], vec!["order.refunded".into()]));
    assert_eq!(states(&simulator), [DeliveryState::GivenUp, DeliveryState::Accepted]);
}

#[tokio::test]
async fn a_delivery_is_sent_again() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let receiver = Receiver::start(|_| 200).await;
    let path = subscribe(&mut caller, &receiver.url, &["a"]).await;
    assert!(!simulator.redeliver(0));
    simulator.raise_event("a", &json!({}));
    soon(simulator.deliveries_settled(1)).await;
    receiver.answers(|_| 500);
    assert!(simulator.redeliver(0));
    soon(simulator.deliveries_settled(2)).await;
    let deliveries = simulator.deliveries();
    assert_eq!((deliveries[0].number, deliveries[1].number), (0, 1));
    assert_eq!(deliveries[0].body, deliveries[1].body);
    assert_eq!(receiver.events()[0], receiver.events()[1]);
    assert_eq!(caller.get(&path).await.status, 200, "its failure costs nothing");
}

#[tokio::test]
async fn deliveries_are_bounded_and_end_with_the_simulator() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    subscribe(&mut caller, &format!("http://{}/", silent.local_addr().unwrap()), &["a"]).await;
    for _ in 0..1003 {
        simulator.raise_event("a", &json!({}));
    }
    assert_eq!((simulator.deliveries_dropped(), simulator.deliveries().len()), (3, 1000));
    let _streams = [soon(silent.accept()).await.unwrap(), soon(silent.accept()).await.unwrap()];
    let handle = simulator.clone();
    soon(simulator.stop()).await;
    assert!(handle.deliveries().iter().all(|delivery| delivery.state == DeliveryState::Pending));
}

#[tokio::test]
async fn a_reset_ends_the_deliveries_under_way() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    subscribe(&mut caller, &format!("http://{}/", silent.local_addr().unwrap()), &["a"]).await;
    for _ in 0..1000 {
        simulator.raise_event("a", &json!({}));
    }
    let mut stream = soon(silent.accept()).await.unwrap().0;
    simulator.reset();
    let mut sent = Vec::new();
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut sent)).await;
    assert!(simulator.deliveries().is_empty());
    // Every place is free again, and nothing of before counts as settled.
    simulator.configure(|options| options.webhook_retries = Vec::new());
    simulator.configure(|options| options.webhook_timeout = Duration::from_millis(20));
    let mut caller = Caller::login(&simulator).await;
    subscribe(&mut caller, &format!("http://{}/", silent.local_addr().unwrap()), &["b"]).await;
    simulator.raise_event("b", &json!({}));
    soon(simulator.deliveries_settled(1)).await;
    assert_eq!((simulator.deliveries_dropped(), simulator.deliveries().len()), (0, 1));
}
