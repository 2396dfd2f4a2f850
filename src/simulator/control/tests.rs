#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use crate::simulator::Options;
use crate::simulator::control::calls::{ENDPOINTS, Endpoint};
use crate::simulator::control::{PREFIX, parse};

/// Status and message of a refusal; 200 and nothing for a command.
fn outcome(method: &str, target: &str, body: &str) -> (u16, String) {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    match parse(method, path, query, body.as_bytes()) {
        Ok(_) => (200, String::new()),
        Err(refusal) => (refusal.status.as_u16(), refusal.message),
    }
}

#[test]
fn a_call_is_found_by_its_method_and_its_path() {
    for (method, path, status) in [
        ("GET", "/_simulator/", 200),
        ("GET", "/_simulator", 404),
        ("GET", "/_simulator/nothing", 404),
        ("GET", "/_simulator//", 404),
        ("GET", "/_simulator/orders/a/effects", 200),
        ("GET", "/_simulator/orders//effects", 404),
        ("GET", "/_simulator/orders/a/effects/", 404),
        ("GET", "/_simulator/orders/a/b/effects", 404),
        ("HEAD", "/_simulator/", 405),
        ("POST", "/_simulator/orders/a/effects", 405),
        ("PUT", "/_simulator/settings", 405),
        ("POST", "/_simulator/reset", 200),
        ("POST", "/v2/session", 404),
        ("", "", 404),
    ] {
        assert_eq!(outcome(method, path, "").0, status, "{method} {path}");
    }
    let refusal = parse("PUT", "/_simulator/settings", None, b"").unwrap_err();
    assert_eq!(refusal.allow.as_deref(), Some("GET, PATCH"));
}

#[test]
fn what_a_call_does_not_take_is_refused() {
    for (method, target, body, status) in [
        ("POST", "/_simulator/reset", "{}", 200),
        ("POST", "/_simulator/reset", " \n", 200),
        ("POST", "/_simulator/reset", "{\"now\":true}", 400),
        ("POST", "/_simulator/reset?", "", 200),
        ("POST", "/_simulator/reset?now", "", 400),
        ("POST", "/_simulator/sessions?kind=order", "{\"kind\":\"order\"}", 400),
        ("GET", "/_simulator/journal", "x", 400),
        ("GET", "/_simulator/journal?since=1&method=GET&path=%2Fv2%2F%2A&", "", 200),
        ("GET", "/_simulator/journal?since=", "", 400),
        ("GET", "/_simulator/journal?since=-1", "", 400),
        ("GET", "/_simulator/journal?path=%ff", "", 400),
        ("GET", "/_simulator/journal?limit=1", "", 400),
        ("GET", "/_simulator/deliveries?since=3", "", 200),
        ("GET", "/_simulator/deliveries?path=/", "", 400),
    ] {
        assert_eq!(outcome(method, target, body).0, status, "{method} {target} {body}");
    }
}

#[test]
fn a_wrong_body_is_refused_with_the_field_named() {
    let rules = ("POST", "/_simulator/rules");
    let sessions = ("POST", "/_simulator/sessions");
    let settings = ("PATCH", "/_simulator/settings");
    for ((method, path), body, status, named) in [
        (sessions, "", 400, "EOF"),
        (sessions, "kind=order", 400, "line 1 column 1"),
        (sessions, "{}", 422, "`kind`"),
        (sessions, r#"{"kind":"refund"}"#, 422, "`order_and_tokenize`"),
        (sessions, r#"{"kind":"order","amount":1}"#, 422, "`amount`"),
        (settings, "[]", 422, "map"),
        (settings, r#"{"token_live":"30s"}"#, 422, "unknown setting \"token_live\""),
        (settings, r#"{"token_life":30}"#, 422, "token_life"),
        (settings, r#"{"token_life":"soon"}"#, 422, "token_life"),
        (settings, r#"{"clock_skew":0.5}"#, 422, "clock_skew"),
        (settings, r#"{"expiration_digits":10}"#, 422, "expiration_digits"),
        (settings, r#"{"expiration_digits":-1}"#, 422, "expiration_digits"),
        (settings, r#"{"tokenize_place":"nowhere"}"#, 422, "tokenize_place"),
        (settings, r#"{"report_bytes":-1}"#, 422, "report_bytes"),
        (settings, r#"{"approving":"no"}"#, 422, "approving"),
        (settings, r#"{"link_base":""}"#, 422, "link_base"),
        (settings, r#"{"idle_timeout":"never"}"#, 422, "or null"),
        (settings, r#"{"tokenize_expiration":{"offset":1440}}"#, 422, "less than a day"),
        (settings, r#"{"tokenize_expiration":"local"}"#, 422, "go_zero"),
        (("PUT", "/_simulator/keys"), r#"{"public_key":"a","private_key":"b","overlap":1}"#, 422, "a duration"),
        (settings, r#"{"webhook_retries":["1s","soon"]}"#, 422, "webhook_retries"),
        (rules, r#"{"time":2}"#, 422, "`time`"),
        (rules, r#"{"times":0}"#, 422, "nonzero"),
        (rules, r#"{"method":"NO WAY"}"#, 422, "method"),
        (rules, r#"{"path":"v2/session"}"#, 422, "path"),
        (rules, r#"{"path":"/v2/session?a=b"}"#, 422, "path"),
        (rules, r#"{"status":199}"#, 422, "status"),
        (rules, r#"{"status":600}"#, 422, "status"),
        (rules, r#"{"body":7}"#, 422, "body"),
        (rules, r#"{"delay":"-1s"}"#, 422, "\"-1s\""),
        (rules, r#"{"reset":"now"}"#, 422, "`before_effect`"),
        (rules, r#"{"gate":"a/b"}"#, 422, "gate"),
        (rules, r#"{"gate_after_effect":""}"#, 422, "gate"),
        (rules, r#"{"set_headers":{"a b":"c"}}"#, 422, "\"a b\""),
        (rules, r#"{"add_headers":{"a":"\n"}}"#, 422, "headers: a"),
        (rules, r#"{"remove_headers":["content-length"]}"#, 422, "content-length"),
        (rules, r#"{"set_headers":{"Transfer-Encoding":"chunked"}}"#, 422, "transfer-encoding"),
        (rules, r#"{"fault":"cut"}"#, 422, "`cut_body`"),
        (rules, r#"{"fault":{"dripping_body":{"bytes":1,"wait":"1ms","more":1}}}"#, 422, "`more`"),
    ] {
        let (found, message) = outcome(method, path, body);
        assert_eq!(found, status, "{body}: {message}");
        assert!(message.contains(named), "{body}: {message}");
    }
}

#[test]
fn every_call_and_every_setting_is_in_the_manual() {
    for Endpoint { method, path, .. } in &ENDPOINTS {
        assert!(MANUAL.contains(&format!("`{method} {path}`")), "{method} {path} is not explained");
    }
    for (name, default) in Options::default().settings() {
        let row = format!("| `{name}` | `{}` |", default.to_string().replace(',', ", "));
        assert!(MANUAL.contains(&row), "the setting {name} is not explained by {row}");
    }
}

#[test]
fn every_control_call_in_the_manual_can_be_read() {
    let mut commands = 0;
    for line in MANUAL.lines().map(str::trim).filter(|line| line.starts_with("curl ") && line.contains(PREFIX)) {
        let between = |from: &str, to: &str| line.split_once(from).map(|(_, rest)| rest.split(to).next().unwrap());
        let method = between("-X ", " ").unwrap_or("GET");
        let target = between(":8081", " ").unwrap().trim_end_matches('\'');
        assert_eq!(outcome(method, target, between("-d '", "'").unwrap_or_default()), (200, String::new()), "{line}");
        commands += 1;
    }
    assert!(commands >= ENDPOINTS.len(), "only {commands} found");
}

#[test]
fn every_fault_in_the_manual_can_be_asked_for() {
    let (_, rest) = MANUAL.split_once("\n## Faults\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let faults: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).skip(1).collect();
    assert_eq!(faults.len(), 8, "{faults:?}");
    for fault in faults {
        let rule = format!("{{\"fault\":{fault}}}");
        assert_eq!(outcome("POST", "/_simulator/rules", &rule), (200, String::new()), "{rule}");
    }
}

const MANUAL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/simulator.md"));

proptest! {
    #[test]
    fn nothing_makes_the_reading_panic(
        call in 0..ENDPOINTS.len(),
        path in prop_oneof![Just(None), ".*".prop_map(Some)],
        query in proptest::option::of("((since|path|method)=[0-9a-f%]*&?)*|.*"),
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            r#"\{"(times|status|delay|fault|token_life|clock_skew|body)":("?[0-9]{0,30}[smh]?"?|\[|\{)\}?"#
                .prop_map(String::into_bytes),
        ],
    ) {
        let known = ENDPOINTS[call].path;
        let path = path.unwrap_or_else(|| known.to_owned());
        let _ = parse(ENDPOINTS[call].method, &path, query.as_deref(), &body);
    }
}
