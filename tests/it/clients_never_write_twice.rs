//! Once a write's head has been read, its caller gets a status line, whatever happens to the write. Some clients repeat
//! a request by themselves if a connection that was used before ends in silence, and some if the status is 503. Here
//! each of them calls a gateway that does every write and then misbehaves. No write takes effect twice.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::client::Client;
use crate::support::doer::{Doer, Way};
use crate::support::eventually;
use crate::support::process::{Folder, Process, free_address};
use crate::support::relay::{Relay, Server};
use crate::support::stack::Framing::Length;
use crate::support::stack::{Call, ClientResult, Stack};

const CAPTURE: &str = "/v2/order/{way}/capture";
const CREATE: &str = "/v2/session";

macro_rules! clients {
    ($promise:ident: $($(#[$attribute:meta])* $name:ident: $command:expr;)+) => {$(
        #[tokio::test]
        $(#[$attribute])*
        async fn $name() {
            $promise(Stack { command: &$command, framings: &[Length] }).await;
        }
    )+};
}

/// Clients that repeat a request by themselves if a connection that was used before ends in silence.
macro_rules! repeaters {
    ($promise:ident) => {
        use super::*;

        clients! {
            $promise:
            curl: ["bash", "steps.sh"];
            #[ignore = "needs php and its curl: tests/run"]
            phps_curl: ["php", "steps.php", "curl"];
            #[ignore = "needs deno: tests/run"]
            denos_fetch: ["deno", "run", "-q", "--no-config", "--allow-all", "steps.mjs", "fetch"];
            #[ignore = "needs python3 and httplib2: tests/run"]
            httplib2: ["python3", "steps.py", "httplib2"];
            #[ignore = "needs a JDK and OkHttp: tests/run"]
            okhttp: ["java", "Repeaters.java", "okhttp"];
        }
    };
}

mod when_an_answer_breaks_off {
    repeaters!(answers_that_break_off);

    // Clients that repeat a request after 503.
    clients! {
        answers_that_break_off:
        #[ignore = "needs a JDK and HttpClient: tests/run"]
        apaches_http_client_4: ["java", "Repeaters.java", "apache4"];
        #[ignore = "needs a JDK and HttpClient: tests/run"]
        apaches_http_client_5: ["java", "Repeaters.java", "apache5"];
    }

    // Clients that repeat a request after 504, too. Only a key of the client's own makes that harmless.
    clients! {
        answers_to_keys_that_break_off:
        #[ignore = "needs node and superagent: tests/run"]
        superagent: ["node", "steps.mjs", "superagent"];
        #[ignore = "needs python3 and aiohttp-retry: tests/run"]
        aiohttp_retry: ["python3", "steps.py", "aiohttp-retry"];
    }
}

mod when_an_answer_breaks_off_on_a_unix_socket {
    repeaters!(answers_that_break_off_on_a_unix_socket);
}

mod when_the_sidecar_is_told_to_end {
    repeaters!(signals);
}

/// A sidecar in front of a [`Doer`], as a process of its own.
struct Scene {
    gateway: Doer,
    process: Process,
    relay: Relay,
    _folder: Folder,
}

/// The path of a caller's connection to the sidecar. Clients speak TCP, and a relay leads them to the Unix socket.
#[derive(Clone, Copy, Debug)]
enum By {
    Tcp,
    Unix,
}

impl Scene {
    async fn start(by: By) -> Self {
        let gateway = Doer::start().await;
        let (proxy, ops, folder) = (free_address(), free_address(), Folder::new());
        let socket = folder.path().join("proxy.sock");
        let listen = format!("{proxy},unix:{}", socket.display());
        let process = Process::start(
            &["run"],
            &[
                ("GATEWAY__ENVIRONMENT", "sandbox"),
                ("GATEWAY__URL", &format!("http://{}", gateway.addr)),
                ("GATEWAY__WRITE_TIMEOUT", "2s"),
                ("CREDENTIALS__PUBLIC_KEY", "sz_pub_simulated"),
                ("CREDENTIALS__PRIVATE_KEY", "sz_pr_simulated"),
                ("PROXY__LISTEN", &listen),
                // At the hard limit each worker ends with its remaining work.
                ("PROXY__WORKERS", "2"),
                ("OPS__LISTEN", &ops.to_string()),
                ("DRAIN__GRACE", "0s"),
                ("DRAIN__TIMEOUT", "3s"),
            ],
        );
        ready(ops).await;
        let server = match by {
            By::Tcp => Server::Tcp(proxy),
            By::Unix => Server::Unix(socket),
        };
        Self { gateway, process, relay: Relay::before(server).await, _folder: folder }
    }

    /// Checks that each request was answered, and that the client understood its answer.
    fn answered(&self, calls: &[Call], outcomes: &[ClientResult]) {
        let (requests, answers) = self.relay.requests_and_answers();
        assert_eq!(requests, answers, "status lines for each request: {outcomes:?}");
        for (call, outcome) in calls.iter().zip(outcomes) {
            // If the sidecar passed on a head before the body broke off, the client may report only the body.
            let broke_off = [Way::HeadOnly, Way::HalfText].iter().any(|way| call.names(*way));
            let is_status = outcome.status.parse().is_ok_and(|status: u16| status >= 200);
            assert!(is_status || broke_off, "{call:?}: {}", outcome.status);
        }
    }
}

impl Call {
    fn names(&self, way: Way) -> bool {
        [&self.target, &self.body].iter().any(|text| text.contains(&way.word()))
    }
}

async fn ready(ops: SocketAddr) {
    eventually("listening", async || tokio::net::TcpStream::connect(ops).await.is_ok()).await;
    let client = Client::new();
    client.until_ready(ops).await;
}

fn capture(way: Way) -> Call {
    let body = json!({ "capture_amount": { "amount_in_cents": 100, "currency": "USD" } });
    Call::new("POST", CAPTURE.replace("{way}", &way.word())).body(Length, body)
}

fn create(way: Way) -> Call {
    let price = json!({ "amount_in_cents": 100, "currency": "USD" });
    Call::new("POST", CREATE).body(Length, json!({ "order": { "reference_id": way.word(), "order_amount": price } }))
}

async fn answers_that_break_off(stack: Stack) {
    break_off(stack, By::Tcp, |way| vec![capture(way), create(way)]).await;
}

async fn answers_that_break_off_on_a_unix_socket(stack: Stack) {
    break_off(stack, By::Unix, |way| vec![capture(way), create(way)]).await;
}

async fn answers_to_keys_that_break_off(stack: Stack) {
    break_off(stack, By::Tcp, |way| vec![capture(way).key(way.word())]).await;
}

async fn break_off(stack: Stack, by: By, writes: impl Fn(Way) -> Vec<Call>) {
    let scene = Scene::start(by).await;
    let ways = || Way::BROKEN.into_iter().chain([Way::Nothing]);
    let mut calls = vec![Call::exchange()];
    for write in ways().flat_map(&writes) {
        // The lookup gets a good answer, so that the write uses a connection that was used before.
        calls.extend([Call::new("GET", "/v2/customer"), write]);
    }
    let outcomes = stack.start(&scene.relay.url(), &calls).outcomes().await;
    for way in ways() {
        for write in writes(way) {
            let told: Vec<_> = calls.iter().zip(&outcomes).filter(|(call, _)| call.names(way)).collect();
            assert_eq!(scene.gateway.effects(way, &write.target), 1, "{told:?}");
        }
    }
    scene.answered(&calls, &outcomes);
}

/// An event at the sidecar while a write waits for its answer.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Reload,
    Drain,
    /// The hard limit of a drain.
    HardEnd,
    SecondSignal,
}

async fn signals(stack: Stack) {
    for (by, meanwhile, way) in [
        (By::Tcp, Meanwhile::Reload, Way::Late),
        (By::Unix, Meanwhile::Reload, Way::Late),
        (By::Tcp, Meanwhile::Drain, Way::Late),
        (By::Unix, Meanwhile::Drain, Way::Late),
        (By::Tcp, Meanwhile::HardEnd, Way::HalfJsonThenNothing),
        (By::Unix, Meanwhile::HardEnd, Way::HalfJsonThenNothing),
        (By::Tcp, Meanwhile::SecondSignal, Way::Nothing),
        (By::Unix, Meanwhile::SecondSignal, Way::Nothing),
        (By::Tcp, Meanwhile::SecondSignal, Way::HalfJsonThenNothing),
    ] {
        let mut scene = Scene::start(by).await;
        let calls = [Call::exchange(), Call::new("GET", "/v2/customer"), capture(way).key("the client's own")];
        let client = stack.start(&scene.relay.url(), &calls);
        scene.gateway.written().await;
        scene.process.signal(if matches!(meanwhile, Meanwhile::Reload) { "HUP" } else { "TERM" });
        match meanwhile {
            Meanwhile::Reload | Meanwhile::Drain => scene.gateway.release(),
            Meanwhile::HardEnd => (),
            Meanwhile::SecondSignal => scene.process.signal_again("TERM").await,
        }
        let outcomes = client.outcomes().await;
        let told = format!("{by:?}, {meanwhile:?}, {way:?}: {outcomes:?}");
        assert_eq!(scene.gateway.effects(way, &calls[2].target), 1, "{told}");
        // A client that repeats 504 by itself finds no listener, and its repetition is not relayed.
        let (requests, answers) = scene.relay.requests_and_answers();
        assert_eq!(requests, answers, "{told}");
        if matches!(meanwhile, Meanwhile::Reload | Meanwhile::Drain) {
            assert_eq!(outcomes[2].status, "200", "{told}");
        }
    }
}
