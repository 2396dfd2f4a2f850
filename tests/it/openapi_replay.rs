//! Sezzle's published OpenAPI file, replayed: every operation, with requests and answers made from its schemas.
//!
//! `tests/data/sezzle-openapi-v2.json` holds the facts of that file. `tests/data/derive-openapi` renews it when Sezzle
//! publishes another version.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sezzle_sidecar::proxy::route::{Matched, Route};
use sezzle_sidecar::simulator::Rule;

use crate::support::Session;
use crate::support::both_sides::{BothSides, HOSTS, Request};

/// Routes that the sidecar knows and the file lacks, and where they are documented.
const NOT_IN_THE_FILE: [(&str, &str); 7] = [
    ("/v2/orders/report", "the reference's page on reports has it"),
    ("/v2/session/card", "the reference's pages on virtual cards have it"),
    ("/v2/session/card/token/{token}", "the same"),
    ("/v2/session/{session}/card", "the same"),
    ("/v2/configuration", "Sezzle's plugins send it"),
    ("/v2/widget/queue", "the same"),
    ("/v2/feature-flags/{flag}", "the same"),
];

/// Seed of all random choices, together with the round's number, so that a failure can be repeated.
const SEED: u64 = 20_260_101;
const ROUNDS: u64 = 8;

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-');

#[derive(Deserialize)]
struct Api {
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
struct Operation {
    method: String,
    path: String,
    authenticated: bool,
    parameters: Vec<Parameter>,
    request: Option<Content>,
    /// Answers by status.
    responses: BTreeMap<u16, Option<Content>>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    #[serde(rename = "in")]
    place: String,
    required: bool,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "type")]
    media_type: String,
    schema: Schema,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Schema {
    r#type: String,
    format: String,
    r#enum: Vec<String>,
    nullable: bool,
    required: Vec<String>,
    properties: BTreeMap<String, Schema>,
    items: Option<Box<Schema>>,
    additional_properties: Option<Box<Schema>>,
}

/// The gateway's sessions and other resources, by the file's names for their ids.
type Ids = BTreeMap<&'static str, String>;

fn api() -> Api {
    serde_json::from_str(include_str!("../data/sezzle-openapi-v2.json")).expect("as derive-openapi writes it")
}

#[tokio::test]
async fn every_operation_passes_with_every_kind_of_request() {
    let both = BothSides::start().await;
    // The file dates from 2021.
    both.harness.gateway.configure(|gateway| gateway.webhook_test_status = 204);
    let mut exercised = BTreeSet::new();
    let api = api();
    for operation in api.operations.iter().filter(|operation| operation.authenticated) {
        let mut statuses = BTreeSet::new();
        for round in 0..ROUNDS {
            let mut make = Make::new(round);
            let request = operation.request(&mut make, &ids(&both, round % 2 == 0).await);
            statuses.insert(both.call(&request).await.status);
        }
        let documented = operation.responses.keys().find(|status| **status < 300);
        assert!(documented.is_none_or(|status| statuses.contains(status)), "{operation}: only {statuses:?}");
        exercised.insert(operation.to_string());
    }
    let all = api.operations.iter().map(Operation::to_string).filter(|name| name != "POST /v2/authentication");
    assert_eq!(exercised, all.collect(), "only the token exchange goes without a token");
    both.stop().await;
}

#[tokio::test]
async fn every_documented_answer_passes_whatever_it_holds() {
    let both = BothSides::start().await;
    for operation in api().operations.iter().filter(|operation| operation.authenticated) {
        // The file lacks 429, but every gateway may send it. Its body has the form of the other errors.
        let too_many = operation.responses.get(&401).map(|content| (&429, content));
        for (status, content) in operation.responses.iter().chain(too_many) {
            for round in 0..ROUNDS {
                let mut make = Make::new(round);
                // The ids lead to no existing resource.
                let request = operation.request(&mut make, &Ids::new());
                let path = request.target.split('?').next().expect("a path");
                let status = StatusCode::from_u16(*status).expect("a status");
                let mut rule = Rule::path(path).status(status);
                if let Some(content) = content {
                    let media_type = HeaderValue::from_str(&content.media_type).expect("a media type");
                    rule = rule.body(make.text(content)).set_header(CONTENT_TYPE, media_type);
                }
                if status == StatusCode::TOO_MANY_REQUESTS {
                    rule = rule.set_header(RETRY_AFTER, HeaderValue::from_static("7"));
                }
                both.harness.gateway.script(rule);
                let answer = both.call(&request).await;
                assert_eq!(answer.status, status.as_u16(), "{operation}");
                both.harness.gateway.clear_rules();
            }
        }
    }
    both.stop().await;
}

#[tokio::test]
async fn the_token_exchange_answers_as_documented() {
    let both = BothSides::start().await;
    let api = api();
    let exchange = api.operations.iter().find(|operation| !operation.authenticated).expect("the token exchange");
    let [(status, Some(content))] = exchange.responses.iter().collect::<Vec<_>>()[..] else { panic!("{exchange}") };
    for round in 0..ROUNDS {
        let request = exchange.request(&mut Make::new(round), &Ids::new());
        let answer = both.harness.post(&request.target, &request.body).await;
        assert_eq!((answer.status, answer.header("content-type")), (*status, content.media_type.as_str()));
        let members: Vec<String> = answer.json().as_object().expect("an object").keys().cloned().collect();
        assert_eq!(members, content.schema.properties.keys().cloned().collect::<Vec<_>>());
    }
    both.stop().await;
}

#[test]
fn every_operation_is_known_and_every_known_call_is_documented() {
    let plain = |template: &str| {
        let segments = template.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
        segments.collect::<Vec<_>>().join("/")
    };
    let mut documented = BTreeSet::new();
    for operation in api().operations {
        let matched = Matched::path(&operation.path.replace(['{', '}'], "")).expect("below /v2/");
        assert_ne!(matched.route, Route::Other, "{operation}");
        assert_eq!(plain(matched.route.template()), plain(&operation.path), "{operation}");
        documented.insert(plain(&operation.path));
    }
    for (template, reason) in NOT_IN_THE_FILE {
        assert!(documented.insert(plain(template)), "{template} is in the file by now: {reason}");
    }
    let known = Route::ALL.iter().filter(|route| route.is_known());
    let known: BTreeSet<String> = known.map(|route| plain(route.template())).collect();
    assert_eq!(known, documented, "known to the sidecar, and documented");
}

impl std::fmt::Display for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.method, self.path)
    }
}

impl Operation {
    /// A documented request for the resources that `ids` names, or else for resources that do not exist.
    fn request(&self, make: &mut Make, ids: &Ids) -> Request {
        let (mut path, mut query, mut headers) = (self.path.clone(), Vec::new(), Vec::new());
        for parameter in &self.parameters {
            let name = parameter.name.as_str();
            let wanted = parameter.required || make.wants();
            match parameter.place.as_str() {
                "path" => {
                    let id = ids.get(name).cloned().unwrap_or_else(|| make.uuid());
                    path = path.replace(&format!("{{{name}}}"), &id);
                }
                "query" if wanted => {
                    let value = if name.ends_with("-date") { "2026-01-01".to_owned() } else { make.string(name) };
                    query.push(format!("{name}={}", utf8_percent_encode(&value, QUERY)));
                }
                "header" if wanted => headers.push(("sezzle-request-id", make.uuid())),
                "query" | "header" => {}
                place => panic!("a parameter in {place}: {self}"),
            }
        }
        let target = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        let method = Method::from_bytes(self.method.as_bytes()).expect("a method");
        let body = self.request.as_ref().map(|content| make.text(content)).unwrap_or_default();
        let mut request = Request::new(method, target, body);
        assert!(headers.len() <= 1, "{self}: an unknown header");
        request.headers.extend(headers);
        request
    }
}

/// New resources, so that each call can succeed: a part of the order is captured, and a part is left.
async fn ids(both: &BothSides, complete: bool) -> Ids {
    let gateway = &both.harness.gateway;
    let session = Session::tokenize(gateway);
    let customer = gateway.approve_token(session.token()).expect("a customer");
    // Only an open checkout can be deleted; all other calls need a completed one.
    if complete {
        assert!(gateway.complete_checkout(&session.order));
        let capture =
            json!({ "capture_amount": { "amount_in_cents": 4000, "currency": "USD" }, "partial_capture": true });
        let answer = both.harness.post(&format!("{}/capture", session.order_path), &capture.to_string()).await;
        assert_eq!(answer.status, 200);
    }
    let url = format!("https://shop.example/hook/{}", session.uuid);
    let hook = json!({ "url": url, "events": ["order.captured"] }).to_string();
    let webhook = both.harness.post("/v2/webhooks", &hook).await.json()["uuid"].as_str().expect("an id").to_owned();
    BTreeMap::from([
        ("token", session.token().to_owned()),
        ("session_uuid", session.uuid),
        ("order_uuid", session.order),
        ("customer_uuid", customer),
        ("webhooks_uuid", webhook),
        ("payout_uuid", "c1a0b9d2-3d6e-4f0a-9b51-7e2c88d04f13".to_owned()),
    ])
}

/// Makes up values. The first round has every optional value, the second none, the others some.
struct Make {
    round: u64,
    random: Rng,
}

impl Make {
    fn new(round: u64) -> Self {
        Self { round, random: Rng::with_seed(SEED + round) }
    }

    fn wants(&mut self) -> bool {
        self.round == 0 || self.round > 1 && self.random.bool()
    }

    /// A body, with little or much white space.
    fn text(&mut self, content: &Content) -> String {
        match content.media_type.as_str() {
            "application/json" => {
                let value = self.value("", &content.schema);
                if self.random.bool() { value.to_string() } else { format!("{value:#}\r\n") }
            }
            "text/csv" => format!("{},\"{}\"\r\n", self.uuid(), self.string("").replace('"', "\"\""))
                .repeat(self.random.usize(..99)),
            other => panic!("{other} is not known here"),
        }
    }

    fn value(&mut self, name: &str, schema: &Schema) -> Value {
        if schema.nullable && self.random.bool() {
            return Value::Null;
        }
        match schema.r#type.as_str() {
            "object" => {
                let mut object = Map::new();
                for (name, below) in &schema.properties {
                    if schema.required.contains(name) || is_needed(name) || self.wants() {
                        object.insert(name.clone(), self.value(name, below));
                    }
                }
                for number in 0..self.random.usize(..3) {
                    if let Some(below) = &schema.additional_properties {
                        object.insert(format!("{}{number}", self.string("")), self.value("", below));
                    }
                }
                object.into()
            }
            "array" => {
                let items = schema.items.as_ref().expect("items");
                (0..self.random.usize(1..4)).map(|_| self.value(name, items)).collect()
            }
            "string" if !schema.r#enum.is_empty() => self.random.choice(&schema.r#enum).cloned().into(),
            "string" if schema.format == "date-time" => {
                let digits = ["", ".5", ".123", ".123456789"];
                format!("2031-02-0{}T04:05:06{}Z", self.random.u8(1..9), self.random.choice(digits).unwrap_or(""))
                    .into()
            }
            "string" => self.string(name).into(),
            "integer" => self.random.u32(1..1000).into(),
            "number" => (f64::from(self.random.i32(-99_999..99_999)) / 100.0).into(),
            "boolean" => self.random.bool().into(),
            other => panic!("{name} is of a type that is not known here: {other}"),
        }
    }

    /// A text that fits its name. Free text has every difficulty of JSON.
    fn string(&mut self, name: &str) -> String {
        match name {
            "currency" | "currency-code" => "USD".to_owned(),
            "offset" => self.random.u8(..).to_string(),
            "method" => "GET".to_owned(),
            "url" => format!("https://shop.example/hook?{}", self.uuid()),
            "token" | "uuid" => self.uuid(),
            // A URL on any gateway. In an answer it is a link if it stands in `links`, where `href` always does.
            "href" | "checkout_url" | "approval_url" => {
                let host = self.random.choice(HOSTS).expect("some");
                format!("{host}/v2/order/{}?a=%2F&b=\u{e9}\"", self.uuid())
            }
            _ => (0..self.random.usize(..20)).filter_map(|_| self.random.choice(LETTERS)).collect(),
        }
    }

    fn uuid(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.random.u128(..).to_be_bytes()).into_uuid().to_string()
    }
}

const LETTERS: [char; 14] = ['a', 'Z', '0', ' ', '_', '"', '\\', '/', '\u{e9}', '\u{1f600}', '\u{7f}', '\n', '\t', '<'];

/// The schema calls these optional. The simulator and Sezzle's reference refuse a request without them.
fn is_needed(name: &str) -> bool {
    ["order", "order_amount", "capture_amount", "upcharge_amount", "reference_id", "events"].contains(&name)
}
