//! Spans reach a collector in OTLP's format, in their caller's trace, and without private data. A slow or broken
//! collector delays no caller.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::Value;
use sezzle_sidecar::simulator::{Options, Rule, Simulator};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use crate::support::process::{Ended, Folder, Process, Sidecar, check, lines};
use crate::support::secure::Secure;
use crate::support::tls::Authority;
use crate::support::{Session, eventually};

/// A collector whose answers a test chooses.
struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<(String, Bytes)>>>,
    conduct: Arc<Mutex<Conduct>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Conduct {
    Answer(u16),
    Hang,
}

impl Collector {
    async fn start(conduct: Conduct) -> Self {
        Self::serving(conduct, None).await
    }

    /// Starts a collector, over TLS if a certificate is given.
    async fn serving(conduct: Conduct, tls: Option<Arc<ServerConfig>>) -> Self {
        let tls = tls.map(TlsAcceptor::from);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::<Mutex<Vec<(String, Bytes)>>>::default();
        let (log, conduct) = (Arc::clone(&received), Arc::new(Mutex::new(conduct)));
        let told = Arc::clone(&conduct);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, told) = (Arc::clone(&log), Arc::clone(&told));
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let (log, told) = (Arc::clone(&log), Arc::clone(&told));
                    async move {
                        let head = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
                        let body = request.into_body().collect().await?.to_bytes();
                        log.lock().expect("not poisoned").push((head, body));
                        let conduct = *told.lock().expect("not poisoned");
                        match conduct {
                            Conduct::Answer(status) => {
                                let mut answer = Response::new(Full::new(Bytes::new()));
                                *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
                                Ok::<_, hyper::Error>(answer)
                            }
                            Conduct::Hang => std::future::pending().await,
                        }
                    }
                });
                let tls = tls.clone();
                tokio::spawn(async move {
                    let stream = match tls {
                        Some(tls) => Either::Left(tls.accept(stream).await.ok()?),
                        None => Either::Right(stream),
                    };
                    let server = hyper::server::conn::http1::Builder::new();
                    server.serve_connection(TokioIo::new(stream), service).await.ok()
                });
            }
        });
        Self { address, received, conduct }
    }

    fn conduct(&self, conduct: Conduct) {
        *self.conduct.lock().expect("not poisoned") = conduct;
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> Vec<(String, Bytes)> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// Every received span, with its resource.
    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (_, body) in self.requests() {
            for resource_spans in Message::read(&body).messages(1) {
                let resource = attributes(&resource_spans.messages(1)[0], 1);
                for scope_spans in resource_spans.messages(2) {
                    spans.extend(scope_spans.messages(2).iter().map(|span| Span::read(span, &resource)));
                }
            }
        }
        spans
    }
}

/// A span, read by the numbers of OTLP's `trace.proto`.
#[derive(Clone, Debug)]
struct Span {
    trace_id: String,
    span_id: String,
    parent: String,
    name: String,
    kind: u64,
    start: u64,
    end: u64,
    flags: u64,
    status: u64,
    attributes: Vec<(String, Value)>,
    resource: Vec<(String, Value)>,
}

impl Span {
    fn read(message: &Message, resource: &[(String, Value)]) -> Self {
        let hex = |number| message.bytes(number).iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            trace_id: hex(1),
            span_id: hex(2),
            parent: hex(4),
            name: String::from_utf8(message.bytes(5)).expect("UTF-8"),
            kind: message.number(6),
            start: message.number(7),
            end: message.number(8),
            flags: message.number(16),
            status: message.messages(15).first().map_or(0, |status| status.number(3)),
            attributes: attributes(message, 9),
            resource: resource.to_vec(),
        }
    }

    fn get(&self, name: &str) -> Value {
        let mut found = self.attributes.iter().filter(|(known, _)| known == name);
        let value = found.next().map_or(Value::Null, |(_, value)| value.clone());
        assert!(found.next().is_none(), "{name} twice");
        value
    }
}

fn attributes(message: &Message, number: u64) -> Vec<(String, Value)> {
    let attribute = |pair: &Message| {
        let value = &pair.messages(2)[0];
        let value = match value.0.first().expect("a value") {
            (1, Field::Bytes(text)) => String::from_utf8(text.clone()).expect("UTF-8").into(),
            (2, Field::Number(flag)) => (*flag == 1).into(),
            (3, Field::Number(number)) => (*number).into(),
            (4, Field::Number(bits)) => f64::from_bits(*bits).into(),
            other => panic!("{other:?}"),
        };
        (String::from_utf8(pair.bytes(1)).expect("UTF-8"), value)
    };
    message.messages(number).iter().map(attribute).collect()
}

/// A reader of protobuf's wire format. The product does not share it, so that one mistake cannot cancel out on both
/// sides.
struct Message(Vec<(u64, Field)>);

#[derive(Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Message {
    fn read(mut bytes: &[u8]) -> Self {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    return value;
                }
                shift += 7;
            }
        }
        fn take<'b>(bytes: &mut &'b [u8], length: usize) -> &'b [u8] {
            let (taken, rest) = bytes.split_at(length);
            *bytes = rest;
            taken
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight"))),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).expect("short");
                    Field::Bytes(take(&mut bytes, length).to_vec())
                }
                5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().expect("four")).into()),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, field));
        }
        Self(fields)
    }

    fn messages(&self, number: u64) -> Vec<Message> {
        let all = self.0.iter().filter(|(known, _)| *known == number);
        all.map(|(_, field)| match field {
            Field::Bytes(bytes) => Self::read(bytes),
            Field::Number(_) => panic!("no message: {field:?}"),
        })
        .collect()
    }

    fn number(&self, number: u64) -> u64 {
        match self.0.iter().find(|(known, _)| *known == number) {
            Some((_, Field::Number(value))) => *value,
            Some(other) => panic!("{other:?}"),
            None => 0,
        }
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        match self.0.iter().find(|(known, _)| *known == number) {
            Some((_, Field::Bytes(bytes))) => bytes.clone(),
            Some(other) => panic!("{other:?}"),
            None => Vec::new(),
        }
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

async fn start(collector: &Collector, variables: &[(&str, &str)]) -> Sidecar {
    let endpoint = collector.endpoint();
    Sidecar::start(Options::default(), &[&[("OTLP__ENDPOINT", endpoint.as_str())], variables].concat()).await
}

async fn counted(sidecar: &Sidecar, result: &str) -> f64 {
    sidecar.metric(&format!("spans_total{{result=\"{result}\"}}")).await
}

#[tokio::test]
async fn a_request_is_a_span_in_the_trace_of_its_caller() {
    let collector = Collector::start(Conduct::Answer(200)).await;
    let sidecar = start(&collector, &[("PROXY__CARD_DATA", "forward")]).await;
    let Session { uuid, path: lookup, order, order_path, .. } = Session::tokenize(&sidecar.gateway);
    let (sampled, not) = (format!("00-{TRACE}-{PARENT}-01"), format!("00-{TRACE}-{PARENT}-00"));
    sidecar.gateway.script(Rule::path("/v2/customer").status(StatusCode::INTERNAL_SERVER_ERROR).body("[]"));
    let card = "/v2/session/card/token/canary";
    sidecar.gateway.script(Rule::path(card).status(StatusCode::OK).body(r#"{"pan":"canary"}"#));
    for (id, method, path, trace, body) in [
        ("missed", Method::GET, lookup.clone(), sampled.as_str(), ""),
        ("hit", Method::GET, lookup.clone(), &sampled, ""),
        ("written", Method::POST, format!("{order_path}/capture?canary=1"), &sampled, r#"{"canary":1}"#),
        ("failed", Method::GET, "/v2/customer".to_owned(), &sampled, ""),
        ("refused", Method::GET, "/elsewhere/canary".to_owned(), "", ""),
        ("card", Method::GET, card.to_owned(), &sampled, ""),
        ("unwanted", Method::GET, lookup.clone(), &not, ""),
    ] {
        let headers = [("x-request-id", id), ("traceparent", trace), ("cookie", "canary")];
        sidecar.send(method, &path, &headers, body).await;
    }
    eventually("six spans", async || counted(&sidecar, "exported").await == 6.0).await;
    let log = sidecar.stop().await.stdout;

    let spans = collector.spans();
    assert_eq!(spans.len(), 6);
    let of = |id: &str| spans.iter().find(|span| span.get("sezzle_sidecar.request_id") == id).expect(id);
    for (id, name, code, source, cache, status) in [
        ("missed", "GET /v2/session/{session}", 200, "upstream", "miss", 0),
        ("hit", "GET /v2/session/{session}", 200, "cache", "hit", 0),
        ("written", "POST /v2/order/{order}/capture", 422, "upstream", "bypass", 0),
        ("failed", "GET /v2/customer", 500, "upstream", "bypass", 2),
        ("card", "GET /v2/session/card/token/{token}", 200, "upstream", "bypass", 0),
        ("refused", "GET", 404, "sidecar", "bypass", 0),
    ] {
        let span = of(id);
        assert_eq!((span.name.as_str(), span.kind, span.status), (name, 2, status), "{span:?}");
        assert_eq!(span.get("http.response.status_code"), code, "{span:?}");
        assert_eq!(span.get("http.request.method"), name.split(' ').next().expect("a method"), "{span:?}");
        assert_eq!(span.get("http.route"), name.split(' ').nth(1).map_or(Value::Null, Value::from), "{span:?}");
        assert_eq!(
            (span.get("sezzle_sidecar.source"), span.get("sezzle_sidecar.cache")),
            (source.into(), cache.into())
        );
        assert!(span.end >= span.start && span.start > 1_700_000_000_000_000_000, "{span:?}");
        assert_eq!(span.flags & 1, 1, "{span:?}");
        let line = lines(&log).into_iter().find(|line| line["request_id"] == id).expect("a line");
        assert_eq!(line["trace_id"], span.trace_id.as_str(), "{line}");
        let took = (span.end - span.start) as f64 / 1e6;
        assert!((took - line["dur_ms"].as_f64().expect("a number")).abs() < 0.01, "{line} {span:?}");
    }
    for id in ["missed", "hit", "written", "failed"] {
        assert_eq!((of(id).trace_id.as_str(), of(id).parent.as_str()), (TRACE, PARENT));
    }
    assert!(of("refused").parent.is_empty() && of("refused").trace_id != TRACE, "it begins a trace");
    assert_eq!(of("failed").get("error.type"), "500");
    assert_eq!(of("refused").get("error.type"), "not_found");
    assert_eq!(of("hit").get("error.type"), Value::Null);
    assert_eq!(
        (of("written").get("http.request.body.size"), of("written").get("sezzle_sidecar.attempts")),
        (12.into(), 1.into())
    );
    assert_eq!(of("failed").get("http.response.body.size"), 2);
    assert_eq!(of("card").get("http.response.body.size"), Value::Null, "nothing is told of a card");
    assert!(of("missed").get("sezzle_sidecar.upstream_ms").as_f64().is_some_and(|ms| ms > 0.0));
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    assert_eq!(ids.len(), 6, "each has its own");

    let name = ("service.name".to_owned(), Value::from("sezzle-sidecar"));
    assert!(spans.iter().all(|span| span.resource.contains(&name)), "{:?}", spans[0].resource);
    for (head, body) in collector.requests() {
        assert!(head.starts_with("POST /v1/traces ") && head.contains("application/x-protobuf"), "{head}");
        let body = String::from_utf8_lossy(&body).into_owned();
        for secret in ["canary", uuid.as_str(), order.as_str(), "sz_pub", "sz_pr", "Bearer", "127.0.0.1"] {
            assert!(!body.contains(secret), "{secret} in a span");
        }
    }
}

#[tokio::test]
async fn a_span_names_the_caller_as_the_log_line_does() {
    let collector = Collector::start(Conduct::Answer(200)).await;
    let (folder, longest, token) = (Folder::new(), "c".repeat(32), "canary-0123456789abcdef");
    let secret = folder.write_with("token", token, 0o600);
    let file = folder.write(
        "sidecar.toml",
        &format!("[[callers]]\nname = \"{longest}\"\ntoken_file = \"{secret}\"\nallow = [\"customer.read\"]\n"),
    );
    let options = Options::default();
    let keys = (options.public_key.clone(), options.private_key.clone());
    let gateway = Simulator::start(options).await.expect("gateway starts");
    let endpoint = collector.endpoint();
    let start = |variables: &[(&str, &str)]| Process::start(&["run", "--config", &file], variables);
    let sidecar = Sidecar::by(gateway, &keys.0, &keys.1, &[("OTLP__ENDPOINT", &endpoint)], start).await;
    sidecar.ready().await;
    let own = format!("Bearer {token}");
    for (id, path, authorization) in [
        ("known", "/v2/customer", own.as_str()),
        ("not_allowed", "/v2/webhooks", &own),
        ("stranger", "/v2/customer", "Bearer canary-of-nobody-0123456789"),
        ("nobody", "/v2/customer", ""),
    ] {
        sidecar.send(Method::GET, path, &[("x-request-id", id), ("authorization", authorization)], "").await;
    }
    eventually("four spans", async || counted(&sidecar, "exported").await == 4.0).await;
    let log = sidecar.stop().await.stdout;
    let spans = collector.spans();
    assert_eq!(spans.len(), 4);
    for span in &spans {
        let id = span.get("sezzle_sidecar.request_id");
        let line = lines(&log).into_iter().find(|line| line["request_id"] == id).expect("a line");
        assert_eq!(span.get("sezzle_sidecar.caller"), line["caller"], "{line} {span:?}");
        let name = if id == "known" || id == "not_allowed" { longest.as_str().into() } else { Value::Null };
        assert_eq!(span.get("sezzle_sidecar.caller"), name, "{span:?}");
    }
    for (_, body) in collector.requests() {
        assert!(!String::from_utf8_lossy(&body).contains("canary"), "a secret in a span");
    }
}

#[tokio::test]
async fn a_span_has_the_scheme_of_its_connection() {
    let (collector, authority) = (Collector::start(Conduct::Answer(200)).await, Authority::new());
    let (certificate, key) = authority.files("proxy", &["localhost"]);
    let tls = [("PROXY__TLS__CERTIFICATE_FILE", certificate.as_str()), ("PROXY__TLS__KEY_FILE", &key)];
    for (variables, scheme) in [(&tls[..], "https"), (&[], "http")] {
        let sidecar = start(&collector, variables).await;
        if variables.is_empty() {
            sidecar.get("/v2/customer").await;
        } else {
            Secure::new(&authority.pem()).get(sidecar.proxy, "/v2/customer").await;
        }
        eventually(scheme, async || counted(&sidecar, "exported").await == 1.0).await;
        assert_eq!(collector.spans().pop().expect("a span").get("url.scheme"), scheme);
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn the_environment_says_where_it_runs_and_not_where_spans_go() {
    let collector = Collector::start(Conduct::Answer(200)).await;
    let endpoint = format!("{}/custom/path", collector.endpoint());
    let options = Options::default();
    let (public, private) = (options.public_key.clone(), options.private_key.clone());
    let gateway = Simulator::start(options).await.expect("gateway starts");
    let start = |variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(crate::support::process::BINARY);
        command.arg("run").env_clear();
        command.envs(variables.iter().map(|(name, value)| (format!("SEZZLE_SIDECAR__{name}"), value)));
        command.envs([
            ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=shop-1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1"),
        ]);
        Process::spawn(command)
    };
    let variables = [("OTLP__ENDPOINT", endpoint.as_str()), ("OTLP__SAMPLE", "3")];
    let sidecar = Sidecar::by(gateway, &public, &private, &variables, start).await;
    sidecar.ready().await;
    let session = Session::order(&sidecar.gateway).path;
    for _ in 0..9 {
        sidecar.get(&session).await;
    }
    sidecar.stop().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 3, "every third, and what was left at the end");
    let pod = ("k8s.pod.name".to_owned(), Value::from("shop-1"));
    assert!(spans[0].resource.contains(&pod), "{:?}", spans[0].resource);
    let (head, _) = &collector.requests()[0];
    assert!(head.starts_with("POST /custom/path ") && head.contains("\"x-tenant\": \"shop\""), "{head}");
}

#[tokio::test]
async fn a_collector_that_fails_is_told_of_once_and_costs_nobody_anything() {
    let collector = Collector::start(Conduct::Answer(503)).await;
    let mut sidecar = start(&collector, &[]).await;
    sidecar.get("/v2/customer").await;
    sidecar.process.says("the sidecar cannot export spans").await;
    sidecar.get("/v2/customer").await;
    eventually("both are lost", async || counted(&sidecar, "export_failed").await == 2.0).await;
    collector.conduct(Conduct::Answer(200));
    sidecar.get("/v2/customer").await;
    sidecar.process.says("the sidecar exports spans again").await;
    assert_eq!(counted(&sidecar, "exported").await, 1.0);
    let log = sidecar.stop().await.stdout;
    assert_eq!(log.matches("the sidecar cannot export spans").count(), 1, "{log}");
    assert!(log.contains("status code: 503"), "{log}");
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_neither_requests_nor_the_end() {
    let collector = Collector::start(Conduct::Hang).await;
    let sidecar = start(&collector, &[("LOG__LEVEL", "warn")]).await;
    let session = Session::order(&sidecar.gateway).path;
    sidecar.get(&session).await;
    eventually("it hangs", async || !collector.requests().is_empty()).await;
    // More spans than the sidecar keeps while the collector takes none.
    let request = format!("GET {session} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut wire = crate::support::wire::Wire::connect(sidecar.proxy).await;
    for _ in 0..200 {
        wire.send(request.repeat(50)).await;
        for _ in 0..50 {
            assert_eq!(wire.answer().await.status, 200);
        }
    }
    assert!(counted(&sidecar, "queue_full").await > 0.0);
    let began = Instant::now();
    let Ended { code, stderr, .. } = sidecar.stop().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn nothing_is_sent_to_a_collector_that_nobody_vouches_for() {
    let authority = Authority::new();
    let collector = Collector::serving(Conduct::Answer(200), Some(authority.server(&["localhost"]))).await;
    let endpoint = format!("https://localhost:{}", collector.address.port());
    let ca_file = authority.file();
    for (known, result) in [(true, "exported"), (false, "export_failed")] {
        let variables = [("OTLP__ENDPOINT", endpoint.as_str()), ("GATEWAY__CA_FILE", &ca_file)];
        let sidecar = Sidecar::start(Options::default(), &variables[..1 + usize::from(known)]).await;
        sidecar.get("/v2/customer").await;
        eventually(result, async || counted(&sidecar, result).await == 1.0).await;
        sidecar.stop().await;
    }
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_bad_configuration() {
    for endpoint in
        ["collector:4318", "http://user:canary@collector:4318", "grpc://collector", "http://collector?canary"]
    {
        let ended = check(&[("OTLP__ENDPOINT", endpoint)]).await;
        assert_eq!(ended.code, Some(78), "{endpoint}");
        assert!(ended.stderr.starts_with("otlp.endpoint: expected a URL"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
    let fine = check(&[("OTLP__ENDPOINT", "https://collector.example")]).await;
    assert_eq!(fine.code, Some(0), "{}", fine.stderr);
}
