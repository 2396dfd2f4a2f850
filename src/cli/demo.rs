//! `demo`: the sidecar at work before a simulated gateway, without an account.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;

use super::failure::Failure;
use super::process::{Signals, say};
use crate::address::Address;
use crate::app::{App, StartError};
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::simulator::{Options, Simulator};
use crate::telemetry::log;

/// Runs a simulated gateway and a sidecar before it, and shows its work. Then waits for a signal, unless `once`.
pub async fn demo(once: bool) -> Result<(), Failure> {
    // Warnings go to standard error; the tour goes to standard output.
    let _log = log::install(std::io::stderr(), log::Format::Text, LevelFilter::WARN);
    let mut signals = Signals::new()?;
    let gateway = Simulator::start(Options::default()).await?;
    let usual = settings(&gateway.url(), free_port(8080), free_port(9464))?;
    let app = match App::start(&usual, Clock::system()) {
        // Another process took a port between the look and the start.
        Err(StartError::Bind(_)) => App::start(&settings(&gateway.url(), ANY_PORT, ANY_PORT)?, Clock::system())?,
        started => started?,
    };
    let proxy =
        app.proxy_addresses.iter().find_map(Address::tcp).ok_or_else(|| failed("the sidecar has no address"))?;

    let mut tour = Tour { client: Client::builder(TokioExecutor::new()).build_http(), proxy, gateway };
    let ids = tour.take().await?;
    if once {
        say("The tour is over.\n");
    } else {
        say(&invitation(proxy, app.ops_address, &ids));
        signals.next().await;
        say("\nStopping.\n");
    }
    // No service depends on this sidecar, so no grace.
    tokio::select! {
        () = app.drain() => {}
        () = signals.next() => {}
    }
    tour.gateway.stop().await;
    Ok(())
}

/// The configuration, loaded as every other one is.
fn settings(gateway: &str, proxy: SocketAddr, ops: SocketAddr) -> Result<Settings, Failure> {
    let defaults = Options::default();
    let variables = [
        ("GATEWAY__ENVIRONMENT", "sandbox".to_owned()),
        ("GATEWAY__URL", gateway.to_owned()),
        ("CREDENTIALS__PUBLIC_KEY", defaults.public_key),
        ("CREDENTIALS__PRIVATE_KEY", defaults.private_key),
        ("PROXY__LISTEN", proxy.to_string()),
        ("OPS__LISTEN", ops.to_string()),
        ("OPS__STATUS_PAGE", "true".to_owned()),
        ("DRAIN__GRACE", "0s".to_owned()),
    ];
    let environment =
        variables.map(|(name, value)| (OsString::from(format!("SEZZLE_SIDECAR__{name}")), OsString::from(value)));
    let loaded = config::load(&[], environment).map_err(|problems| failed(&problems.to_string()))?;
    Ok(loaded.settings)
}

/// The usual port if it is free, else any.
fn free_port(usual: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, usual));
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => ANY_PORT,
    }
}

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The session and order that the tour created, for the lines to try.
struct Ids {
    session: String,
    order: String,
}

struct Tour {
    client: Client<HttpConnector, Full<Bytes>>,
    proxy: SocketAddr,
    gateway: Simulator,
}

impl Tour {
    async fn take(&mut self) -> Result<Ids, Failure> {
        say(&format!(
            "This process runs a simulated Sezzle gateway and a sidecar in front of it.\n\
             The sidecar listens on http://{}. No call below carries a key or a token.\n\n",
            self.proxy
        ));
        let ids = self.create().await?;
        self.look_up_twice(&ids.session).await?;
        self.look_up_together().await?;
        self.capture(&ids).await?;
        let exchanges = self.gateway.count("POST", "/v2/authentication");
        expect(exchanges == 1, "the sidecar exchanged its keys for a token more than once")?;
        say("5. For the whole tour the sidecar exchanged its keys for a token once.\n\n");
        Ok(ids)
    }

    async fn create(&self) -> Result<Ids, Failure> {
        let body = r#"{"cancel_url":{"href":"https://shop.example/no"},"complete_url":{"href":"https://shop.example/yes"},"order":{"intent":"AUTH","reference_id":"demo","description":"demo","order_amount":{"amount_in_cents":10000,"currency":"USD"}}}"#;
        let answer = self.call(Method::POST, "/v2/session", body).await?;
        expect(answer.status == StatusCode::CREATED, "the session was not created")?;
        let text = |pointer| answer.json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let ids = (text("/uuid"), text("/order/uuid"));
        let (Some(session), Some(order)) = ids else { return Err(failed("the new session names no order")) };
        say(&format!("1. A service creates a session, POST /v2/session: {}\n   session {session}\n\n", answer.status));
        Ok(Ids { session, order })
    }

    async fn look_up_twice(&self, session: &str) -> Result<(), Failure> {
        say("2. The service looks it up twice. The second answer comes from memory:\n");
        let path = format!("/v2/session/{session}");
        for _ in 0..2 {
            let answer = self.call(Method::GET, &path, "").await?;
            say(&format!("   GET {path}: {}\n   Cache-Status: {}\n", answer.status, answer.cache));
        }
        let fetched = self.gateway.count("GET", &path);
        say(&format!("   Requests that reached the gateway: {fetched}\n\n"));
        expect(fetched == 1, "the second lookup was not answered from the cache")
    }

    async fn look_up_together(&self) -> Result<(), Failure> {
        let ids = self.gateway.create_session(crate::simulator::SessionKind::OrderAndTokenize);
        let path = format!("/v2/session/{}", ids.session);
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let request = self.request(Method::GET, &path, "")?;
            let answer = self.client.request(request);
            callers.spawn(async move { answer.await.is_ok_and(|answer| answer.status() == StatusCode::OK) });
        }
        let answered = callers.join_all().await.into_iter().filter(|ok| *ok).count();
        let fetched = self.gateway.count("GET", &path);
        say(&format!(
            "3. 100 callers look up another session at once: {answered} answers, {fetched} request to the gateway\n\n"
        ));
        expect(answered == 100 && fetched == 1, "one request did not serve all callers")
    }

    async fn capture(&self, ids: &Ids) -> Result<(), Failure> {
        self.gateway.complete_checkout(&ids.order);
        let path = format!("/v2/order/{}/capture", ids.order);
        let capture = r#"{"capture_amount":{"amount_in_cents":2500,"currency":"USD"},"partial_capture":true}"#;
        let answer = self.call(Method::POST, &path, capture).await?;
        say(&format!(
            "4. The shopper finishes the checkout. The service captures 25.00 USD through the sidecar: {}\n",
            answer.status
        ));
        let session = format!("/v2/session/{}", ids.session);
        let lookup = self.call(Method::GET, &session, "").await?;
        let captured = lookup.json.pointer("/order/captured_amount_in_cents").and_then(Value::as_i64);
        say(&format!(
            "   The capture's URL does not name the session, yet the next lookup shows the money:\n   \
             captured {} cents, Cache-Status: {}\n\n",
            captured.unwrap_or_default(),
            lookup.cache
        ));
        expect(captured == Some(2500), "the lookup after the capture does not show the capture")
    }

    async fn call(&self, method: Method, path: &str, body: &'static str) -> Result<Called, Failure> {
        let request = self.request(method, path, body)?;
        let answer: Response<_> = self.client.request(request).await.map_err(|error| failed(&error.to_string()))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error.to_string()))?.to_bytes();
        let cache = head.headers.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Called { status: head.status, cache: cache.to_owned(), json })
    }

    fn request(&self, method: Method, path: &str, body: &'static str) -> Result<Request<Full<Bytes>>, Failure> {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.proxy))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .map_err(|error| failed(&error.to_string()))
    }
}

struct Called {
    status: StatusCode,
    cache: String,
    json: Value,
}

fn invitation(proxy: SocketAddr, ops: SocketAddr, ids: &Ids) -> String {
    let Ids { session, order } = ids;
    format!(
        "The sidecar and the gateway keep running. Try, in another terminal:\n\n\
         \x20 curl -i http://{proxy}/v2/session/{session}\n\
         \x20 curl -i -X POST http://{proxy}/v2/order/{order}/capture -H 'Content-Type: application/json' \
         -d '{{\"capture_amount\":{{\"amount_in_cents\":500,\"currency\":\"USD\"}},\"partial_capture\":true}}'\n\
         \x20 curl -i http://{proxy}/v2/order/{order}\n\
         \x20 curl -i -X POST http://{proxy}/v2/authentication -d '{{}}'\n\
         \x20 curl -sS 'http://{proxy}/v2/orders/report?start-date=2026-01-01' -o /dev/null -w '%{{size_download}}'\n\
         \x20 curl -sS http://{ops}/readyz\n\
         \x20 curl -sS http://{ops}/metrics\n\n\
         Or open the status page http://{ops}/ in a browser.\n\
         Ctrl-C stops it.\n"
    )
}

fn expect(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(failed(otherwise)) }
}

fn failed(what: &str) -> Failure {
    Failure::Tour(what.to_owned())
}
