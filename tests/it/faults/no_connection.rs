//! Connections that cannot be made. Nothing was sent, so every call may be tried again, and none took effect.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use sezzle_sidecar::simulator::{Options, Reset, Rule, Simulator};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::scene::{Call, Scene};
use super::{FAILED, Row, Sezzle, UNKNOWN, UNREACHABLE, at_once};
use crate::support::tls::Authority;
use crate::support::{Harness, Setup};

/// The door's handling of a connection.
#[derive(Clone, Copy)]
enum Way {
    /// The connection leads to this address.
    To(SocketAddr),
    /// The connection is closed before TLS is agreed on.
    Closed,
    /// The connection is accepted, and no byte follows.
    Silent,
}

/// Stands in front of a gateway, and lets connections through or not. Dropping the handle ends it.
struct Door {
    address: SocketAddr,
    ways: Arc<Mutex<Ways>>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Ways {
    /// The ways of the next connections.
    next: VecDeque<Way>,
    /// The way of all later connections; `None` closes them.
    then: Option<Way>,
    came: usize,
}

impl Door {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let ways: Arc<Mutex<Ways>> = Arc::default();
        let shared = Arc::clone(&ways);
        let accepting = tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let way = {
                    let mut ways = shared.lock().expect("not poisoned");
                    ways.came += 1;
                    ways.next.pop_front().or(ways.then)
                };
                match way {
                    Some(Way::To(address)) => {
                        tokio::spawn(pass(stream, address));
                    }
                    Some(Way::Silent) => kept.push(stream),
                    Some(Way::Closed) | None => close(stream).await,
                }
            }
        });
        Self { address, ways, accepting }
    }

    /// Resets the count of connections. The next ones go `first`, all later ones `then`.
    fn leads(&self, next: &[Way], then: Way) {
        *self.ways.lock().expect("not poisoned") =
            Ways { next: next.iter().copied().collect(), then: Some(then), came: 0 };
    }

    fn came(&self) -> usize {
        self.ways.lock().expect("not poisoned").came
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Relays a connection. When one side ends, the other ends the same way.
async fn pass(mut stream: TcpStream, address: SocketAddr) {
    let mut gateway = TcpStream::connect(address).await.expect("listens");
    let _ = copy_bidirectional(&mut stream, &mut gateway).await;
}

/// Reads the peer's first bytes, so that the peer sees an end and no reset.
async fn close(stream: TcpStream) {
    let _ = stream.readable().await;
    let _ = stream.try_read(&mut [0; 4096]);
}

/// A call, ready to be made, whose connections go through a door. No connection is open.
async fn behind(door: &Door, ca: &Authority, call: Call, setup: Setup) -> Scene {
    let harness = setup
        .gateway(|gateway| gateway.tls = Some(ca.server(&["localhost"])))
        .set("GATEWAY__URL", format!("https://localhost:{}", door.address.port()))
        .set("GATEWAY__CA_FILE", ca.file())
        .start_with(|gateway| door.leads(&[], Way::To(gateway.addr())))
        .await;
    harness.ready().await;
    let scene = Scene::prepare(call, harness).await;
    disconnect(&scene.harness).await;
    scene
}

/// Lets the gateway end the open connection once it is idle.
async fn disconnect(harness: &Harness) {
    let close = HeaderValue::from_static("close");
    harness.gateway.script(Rule::path("/v2/interest/balance").set_header(CONNECTION, close));
    assert_eq!(harness.get("/v2/interest/balance").await.status, 200);
    harness.gateway.clear_rules();
    harness.gateway.clear_journal();
}

/// Checks each call of a row, and the number of its connections, with the connections going these ways.
async fn hold(row: Row, ways: fn(SocketAddr) -> (Vec<Way>, Way), connections: fn(Call) -> usize) {
    let wrong = at_once(Call::ALL.map(|call| {
        let row = row.clone();
        async move {
            let (door, ca) = (Door::start().await, Authority::new());
            let scene = behind(&door, &ca, call, (row.setup)(Setup::default())).await;
            scene.bend(&row.bends);
            let (next, then) = ways(scene.harness.gateway.addr());
            door.leads(&next, then);
            let wrong = row.check(&scene).await;
            let came = door.came();
            scene.stop().await;
            let expected = connections(call);
            let count = || (came != expected).then(|| format!("{}: {call:?}: {came} connections", row.fault));
            wrong.or_else(count)
        }
    }))
    .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_closed_port() {
    let row = Row::new("refused").reads(0, UNREACHABLE).keyed(0, 0, UNREACHABLE).unkeyed(0, 0, UNREACHABLE);
    let wrong = at_once(Call::ALL.map(|call| {
        let row = row.clone();
        async move {
            let scene = Scene::prepare(call, Setup::default().start().await).await;
            disconnect(&scene.harness).await;
            scene.harness.gateway_goes_away().await;
            let wrong = row.check(&scene).await;
            let refused = scene.harness.metric(r#"upstream_errors_total{kind="connection_refused"}"#).await;
            scene.stop().await;
            wrong.or_else(|| (refused != 3.0).then(|| format!("{call:?}: {refused} attempts")))
        }
    }))
    .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_connection_that_is_made_at_last() {
    let row = |fault| Row::new(fault).reads(1, Sezzle).keyed(1, 1, Sezzle).unkeyed(1, 1, Sezzle);
    hold(row("the second"), |gateway| (vec![Way::Closed], Way::To(gateway)), |_| 2).await;
    hold(row("the third"), |gateway| (vec![Way::Closed, Way::Closed], Way::To(gateway)), |_| 3).await;
}

#[tokio::test]
async fn a_connection_that_is_never_made() {
    let row = |fault| Row::new(fault).reads(0, UNREACHABLE).keyed(0, 0, UNREACHABLE).unkeyed(0, 0, UNREACHABLE);
    hold(row("closed"), |_| (Vec::new(), Way::Closed), |_| 3).await;
    let silent = row("silent").within(Duration::from_secs(4)).setup(|setup| {
        let limits = ["READ", "WRITE", "REPORT"].map(|class| format!("GATEWAY__{class}_TIMEOUT"));
        limits.iter().fold(setup, |setup, limit| setup.set(limit, "700ms"))
    });
    hold(silent, |_| (Vec::new(), Way::Silent), |_| 1).await;
}

/// An attempt that is sent nowhere does not undo an earlier one that may have taken effect.
#[tokio::test]
async fn no_connection_for_the_attempts_after_the_first() {
    let row = |fault| Row::new(fault).reads(1, FAILED);
    let done = row("done").once(|rule| rule.reset(Reset::AfterEffect)).keyed(1, 1, UNKNOWN).unkeyed(1, 1, UNKNOWN);
    let not = row("not done").once(|rule| rule.reset(Reset::BeforeReading)).keyed(1, 0, UNKNOWN).unkeyed(1, 0, UNKNOWN);
    let connections = |call| match call {
        Call::NewSession | Call::DeleteCheckout | Call::Unknown => 1,
        _ => 3,
    };
    for row in [done, not] {
        hold(row, |gateway| (vec![Way::To(gateway)], Way::Closed), connections).await;
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_prove_its_name() {
    let row = |fault| Row::new(fault).reads(0, UNREACHABLE).keyed(0, 0, UNREACHABLE).unkeyed(0, 0, UNREACHABLE);
    for fault in ["expired", "another host", "an unknown authority"] {
        let row = row(fault);
        let wrong = at_once(Call::ALL.map(|call| {
            let row = row.clone();
            async move {
                let (door, ca, other) = (Door::start().await, Authority::new(), Authority::new());
                let scene = behind(&door, &ca, call, Setup::default()).await;
                let certificate = match fault {
                    "expired" => ca.expired(&["localhost"]),
                    "another host" => ca.server(&["other.example"]),
                    _ => other.server(&["localhost"]),
                };
                let options = Options { tls: Some(certificate), ..Options::default() };
                let impostor = Simulator::start(options).await.expect("starts");
                door.leads(&[], Way::To(impostor.addr()));
                let wrong = row.check(&scene).await;
                let (came, heard) = (door.came(), impostor.journal().len());
                scene.stop().await;
                impostor.stop().await;
                // Another attempt would fail in the same way.
                let once = || (came != 1 || heard != 0).then(|| format!("{fault}: {call:?}: {came} connections"));
                wrong.or_else(once)
            }
        }))
        .await;
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
