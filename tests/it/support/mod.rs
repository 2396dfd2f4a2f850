//! A simulated gateway and a sidecar in front of it, in this process, on free ports, with a clock that a test can move.

pub mod audit_file;
pub mod both_sides;
pub mod browser;
pub mod client;
pub mod dashboard;
pub mod doer;
pub mod egress;
pub mod fleet;
pub mod frame_caller;
pub mod frame_gateway;
pub mod frames;
pub mod name_server;
pub mod open_connections;
pub mod origin;
pub mod pages;
pub mod peer;
pub mod process;
pub mod prometheus;
pub mod promql;
pub mod redis;
pub mod redis_proxy;
pub mod relay;
pub mod rules;
pub mod scripted;
pub mod secure;
pub mod service;
mod session;
pub mod stack;
pub mod tls;
pub mod upstream;
pub mod wire;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use sezzle_sidecar::address::Address;
use sezzle_sidecar::app::{App, StartError};
use sezzle_sidecar::clock::{Clock, ClockShift};
use sezzle_sidecar::config;
use sezzle_sidecar::simulator::{Gate, Options, Simulator};
use tokio::time::{Instant, sleep, timeout};

use self::client::{Answer, Client};
pub use self::session::Session;
use self::tls::Authority;
use self::wire::Wire;

/// A sidecar and its gateway, for a test to call.
pub struct Harness {
    pub gateway: Simulator,
    pub clock: Arc<ClockShift>,
    pub proxy: SocketAddr,
    pub ops: SocketAddr,
    pub client: Client,
    app: App,
}

/// Differences from the defaults.
#[derive(Default)]
pub struct Setup {
    gateway: Options,
    running: Option<Simulator>,
    gateway_host: Option<&'static str>,
    variables: Vec<(String, String)>,
    files: Vec<PathBuf>,
}

impl Setup {
    /// Sets the variable of this name, without its prefix, as in `CACHE__MAX_TTL`. An empty value unsets it.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// Reads this configuration file.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Lets callers speak TLS, with a certificate by this authority for the loopback.
    pub fn tls(self, authority: &Authority) -> Self {
        let (certificate, key) = authority.files("proxy", &["localhost", "127.0.0.1"]);
        self.set("PROXY__TLS__CERTIFICATE_FILE", certificate).set("PROXY__TLS__KEY_FILE", key)
    }

    /// How the gateway behaves.
    pub fn gateway(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.gateway);
        self
    }

    /// A gateway that is running already, with the default keys. The sidecar shares it with others.
    pub fn before(mut self, gateway: &Simulator) -> Self {
        self.running = Some(gateway.clone());
        self
    }

    /// The host name in `gateway.url`, in place of the gateway's address.
    pub fn gateway_host(mut self, host: &'static str) -> Self {
        self.gateway_host = Some(host);
        self
    }

    /// Starts both, and waits until the sidecar is ready.
    pub async fn start(self) -> Harness {
        let harness = self.start_unready().await;
        harness.ready().await;
        harness
    }

    /// Starts both. The first token may not have been obtained yet.
    pub async fn start_unready(self) -> Harness {
        self.start_with(|_| ()).await
    }

    /// Starts both. `prepare` is applied to the gateway before the sidecar starts.
    pub async fn start_with(self, prepare: impl FnOnce(&Simulator)) -> Harness {
        self.try_start_with(prepare).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts the gateway, and then the sidecar if its start succeeds. The first token may not have been obtained yet.
    pub async fn try_start(self) -> Result<Harness, StartError> {
        self.try_start_with(|_| ()).await
    }

    async fn try_start_with(self, prepare: impl FnOnce(&Simulator)) -> Result<Harness, StartError> {
        let keys = (self.gateway.public_key.clone(), self.gateway.private_key.clone());
        let gateway = match self.running {
            Some(gateway) => gateway,
            None => Simulator::start(self.gateway).await.expect("gateway starts"),
        };
        prepare(&gateway);
        let url = match self.gateway_host {
            Some(host) => gateway.url().replace("127.0.0.1", host),
            None => gateway.url(),
        };
        let mut variables = vec![
            ("GATEWAY__ENVIRONMENT".to_owned(), "sandbox".to_owned()),
            ("GATEWAY__URL".to_owned(), url),
            ("CREDENTIALS__PUBLIC_KEY".to_owned(), keys.0),
            ("CREDENTIALS__PRIVATE_KEY".to_owned(), keys.1),
            ("PROXY__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("OPS__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("DRAIN__GRACE".to_owned(), "0s".to_owned()),
        ];
        for (name, value) in self.variables {
            variables.retain(|(known, _)| *known != name);
            if !value.is_empty() {
                variables.push((name, value));
            }
        }
        let variables = variables
            .into_iter()
            .map(|(name, value)| (OsString::from(format!("SEZZLE_SIDECAR__{name}")), OsString::from(value)));
        let loaded = config::load(&self.files, variables).unwrap_or_else(|problems| panic!("{problems}"));
        let (clock, shift) = Clock::shifted();
        let app = App::start(&loaded.settings, clock)?;
        Ok(Harness {
            proxy: app.addresses.proxy.iter().find_map(Address::tcp).expect("an address with a port"),
            ops: app.addresses.ops,
            client: Client::new(),
            clock: shift,
            gateway,
            app,
        })
    }
}

impl Harness {
    /// Both with the defaults, ready.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// Waits until the sidecar is ready.
    pub async fn ready(&self) {
        self.client.until_ready(self.ops).await;
    }

    /// GET through the sidecar.
    pub async fn get(&self, path: &str) -> Answer {
        self.client.get(self.proxy, path).await
    }

    /// GET through the sidecar with the caller's headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.client.send(self.proxy, Method::GET, path, headers, "").await
    }

    /// POST of JSON through the sidecar.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], body).await
    }

    /// Any request through the sidecar.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.client.send(self.proxy, method, path, headers, body).await
    }

    /// A raw connection to the sidecar.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.proxy).await
    }

    /// Every address and port the sidecar listens on for callers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.app.addresses.proxy.iter().filter_map(Address::tcp).collect()
    }

    /// The address and port of the control listener.
    pub fn control(&self) -> SocketAddr {
        self.app.addresses.control.as_ref().and_then(Address::tcp).expect("an address with a port")
    }

    /// The address and port of the webhook listener.
    pub fn webhooks(&self) -> SocketAddr {
        self.app.addresses.webhooks.as_ref().and_then(Address::tcp).expect("an address with a port")
    }

    /// The requests that the gateway received besides token exchanges, as method, path and query.
    pub fn received(&self) -> Vec<String> {
        let calls = self.gateway.journal().into_iter().filter(|call| call.path != "/v2/authentication");
        let target =
            |path: String, query: Option<String>| query.map_or(path.clone(), |query| format!("{path}?{query}"));
        calls.map(|call| format!("{} {}", call.method, target(call.path, call.query))).collect()
    }

    /// The value of a series on /metrics, named as there but without the prefix, labels in alphabetical order. 0 for an
    /// absent series.
    pub async fn metric(&self, series: &str) -> f64 {
        self.client.metric(self.ops, series).await
    }

    /// Stops the gateway: nothing listens on its port any more. Returns once the sidecar has noticed. Before, a call
    /// might be written to a connection that is already closed, and nobody could say whether it was done.
    pub async fn gateway_goes_away(&self) {
        self.gateway.clone().stop().await;
        let open = r#"upstream_connections{state="open"}"#;
        eventually("the connections are closed", async || self.metric(open).await == 0.0).await;
    }

    /// Ends both. A drain that does not end fails the test.
    pub async fn stop(self) {
        timeout(Duration::from_secs(10), self.app.drain()).await.expect("the drain ends");
        timeout(Duration::from_secs(10), self.gateway.stop()).await.expect("the gateway stops");
    }

    /// Ends the sidecar, for a gateway that it shares with others. A drain that does not end fails the test.
    pub async fn stop_alone(self) {
        timeout(Duration::from_secs(10), self.app.drain()).await.expect("the drain ends");
    }

    /// Hands out the sidecar and the gateway, for a test that drains them itself.
    pub fn into_parts(self) -> (App, Simulator) {
        (self.app, self.gateway)
    }
}

/// Waits until `holds` is true. Fails after 30 s, which is long even for a busy machine.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    // Asks less and less often, since asking takes much of a machine on which many tests wait.
    let mut pause = Duration::from_millis(5);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        sleep(pause).await;
        pause = (pause * 5 / 4).min(Duration::from_millis(50));
    }
}

/// Waits until so many requests in all have reached a gate. Fails after 10 s.
pub async fn arrived(gate: &Gate, requests: usize) {
    timeout(Duration::from_secs(10), gate.arrived(requests)).await.expect("requests at the gate within 10 s");
}

/// Prints what a test left out because the machine lacks something.
#[expect(clippy::print_stderr, reason = "a promise that was not tried must not look as if it had been")]
pub fn not_tried(what: &str) {
    eprintln!("not tried: {what}");
}

/// A header as text; empty for an absent header.
pub fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().expect("text"))
}
