//! `/status.json` matches the schema that describes it, and only operators get identifiers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use http::Method;
use serde_json::Value;
use sezzle_sidecar::simulator::{Reset, Rule};

use crate::support::{Harness, Session, Setup};

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/status.schema.json");
    serde_json::from_str(&fs::read_to_string(path).expect("the schema")).expect("JSON")
}

/// Checks a value against the part of JSON Schema that the file uses, and notes each property that is there.
fn check(schema: &Value, value: &Value, at: &str, seen: &mut BTreeSet<String>) {
    let known =
        ["$schema", "title", "description", "type", "properties", "required", "additionalProperties", "items", "enum"];
    for keyword in schema.as_object().expect("a schema").keys() {
        assert!(known.contains(&keyword.as_str()), "{at}: {keyword}");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        several => {
            several.as_array().unwrap_or_else(|| panic!("{at}: a type")).iter().filter_map(Value::as_str).collect()
        }
    };
    let fits = types.iter().any(|kind| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: {other}"),
    });
    assert!(fits, "{at}: {value} is not of {types:?}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
    if let Some(object) = value.as_object() {
        let (properties, others) = (&schema["properties"], &schema["additionalProperties"]);
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(object.contains_key(required), "{at}: no {required}");
        }
        for (name, value) in object {
            let at = format!("{at}.{name}");
            match properties.get(name) {
                Some(schema) => {
                    seen.insert(at.clone());
                    check(schema, value, &at, seen);
                }
                None if others.is_object() => check(others, value, &at, seen),
                None => panic!("{at} is not in the schema"),
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let _ = index;
        check(&schema["items"], item, &format!("{at}[]"), seen);
    }
}

/// Every property that the schema has.
fn properties(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        properties(schema, &at, found);
        found.insert(at);
    }
    if schema["items"].is_object() {
        properties(&schema["items"], &format!("{at}[]"), found);
    }
}

async fn trouble(harness: &Harness) -> Session {
    let session = Session::tokenize(&harness.gateway);
    harness.get(&session.path).await;
    harness.get(&session.path).await;
    let path = format!("{}/checkout", session.order_path);
    harness.gateway.script(Rule::path(&path).reset(Reset::AfterEffect));
    let unknown = harness.send(Method::DELETE, &path, &[("x-request-id", "write-7")], "").await;
    assert_eq!(unknown.error_code(), "sidecar.outcome_unknown");
    session
}

#[tokio::test]
async fn the_document_matches_the_schema_and_has_every_property() {
    let (schema, mut seen) = (schema(), BTreeSet::new());
    let harness = Setup::default().set("CONTROL__LISTEN", "127.0.0.1:0").set("WEBHOOKS__LISTEN", "127.0.0.1:0");
    let harness = harness.start().await;
    let status = async || {
        let answer = harness.client.get(harness.control(), "/status.json").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.header("cache-control"), "no-store");
        answer.json()
    };
    check(&schema, &status().await, "status", &mut seen);
    let session = trouble(&harness).await;
    let after = status().await;
    check(&schema, &after, "status", &mut seen);
    let mut promised = BTreeSet::new();
    properties(&schema, "status", &mut promised);
    // Without TLS, callers, a fleet and a reload there is nothing to show of these.
    let absent = ["status.certificates[]", "status.known_callers[]", "status.fleet.", "status.configuration.reload."];
    let missing: Vec<_> =
        promised.difference(&seen).filter(|path| !absent.iter().any(|absent| path.starts_with(absent))).collect();
    assert!(missing.is_empty(), "{missing:?}");

    let write = &after["unknown_writes"][0];
    assert_eq!(
        (write["route"].as_str(), write["method"].as_str()),
        (Some("/v2/order/{order}/checkout"), Some("DELETE"))
    );
    assert_eq!(
        (write["order"].as_str(), write["request_id"].as_str()),
        (Some(session.order.as_str()), Some("write-7"))
    );
    assert_eq!(write["sezzle_request_id"], Value::Null);
    assert_eq!((after["level"].as_str(), after["ready"].as_bool()), (Some("trouble"), Some(true)));
    assert_eq!(after["hour"]["lookups"]["hit"], 1);
    assert_eq!(after["hour"]["callers"]["5xx"], 1);
    harness.stop().await;
}

#[tokio::test]
async fn the_ops_listener_leaves_out_identifiers() {
    let harness = Setup::default().set("CONTROL__LISTEN", "127.0.0.1:0").start().await;
    let session = trouble(&harness).await;
    let operator = harness.client.get(harness.control(), "/status.json").await.json();
    let merchant = operator["merchant"].as_str().expect("the merchant").to_owned();
    let text = async |address, path, accept| {
        harness.client.send(address, Method::GET, path, &[("accept", accept)], "").await.text()
    };
    for (path, accept) in [("/", "text/html"), ("/", "text/plain"), ("/status.json", "*/*")] {
        let (all, less) = (text(harness.control(), path, accept).await, text(harness.ops, path, accept).await);
        for identifier in [merchant.as_str(), "write-7", &session.order] {
            assert!(all.contains(identifier), "{accept} {identifier}");
            assert!(!less.contains(identifier), "{accept} {identifier}");
        }
        assert!(less.contains("/v2/order/{order}/checkout"), "{accept}");
        // Data that the log leaves out stands in neither.
        for personal in [session.uuid.as_str(), "sz_pr_", "Bearer"] {
            assert!(!all.contains(personal) && !less.contains(personal), "{accept} {personal}");
        }
    }
    assert_eq!(harness.client.get(harness.ops, "/status.json").await.json()["has_identifiers"], false);
    harness.stop().await;

    let without = Setup::default().set("OPS__STATUS_PAGE", "false").start().await;
    for path in ["/", "/status.json"] {
        assert_eq!(without.client.get(without.ops, path).await.status, 404, "{path}");
    }
    without.stop().await;
}
