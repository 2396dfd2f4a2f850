//! No session and no open connection outlasts the certificate of its caller, and a renewed certificate counts at once.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, date_time_ymd};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::time::{sleep, timeout};

use crate::support::open_connections::{CUSTOMER, OpenConnections, is_served};
use crate::support::secure::Secure;
use crate::support::tls::Authority;
use crate::support::{Harness, Setup, eventually};

async fn start(ca: &Authority, callers: &Authority) -> Harness {
    Setup::default().tls(ca).set("PROXY__TLS__CLIENT_CA_FILE", callers.file()).start().await
}

/// The end of a certificate `life` from now. Certificates have whole seconds.
fn ends_in(life: Duration) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.not_after = (SystemTime::now() + life).into()
}

/// Long enough for the handshakes before the end, on a busy machine too.
const LIFE: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_caller_that_renews_its_certificate_is_served_whatever_sessions_it_has() {
    let (ca, callers) = (Authority::new(), Authority::new());
    let harness = start(&ca, &callers).await;
    let short = callers.signed("short", &["shop.internal"], ends_in(LIFE));
    let renewed = callers.signed("renewed", &["shop.internal"], |_| ());
    let all = [&TLS12, &TLS13].map(|version| Secure::renewing(&ca.pem(), version, &short));
    for (caller, _) in &all {
        assert_eq!(caller.get(harness.proxy, CUSTOMER).await.0.status, 200);
    }
    eventually("the end", async || all[0].0.try_get(harness.proxy, CUSTOMER).await.is_err()).await;
    for (caller, own) in &all {
        assert!(caller.try_get(harness.proxy, CUSTOMER).await.is_err(), "the certificate has ended");
        own.renew(&renewed);
        let (answer, handshake) = caller.get(harness.proxy, CUSTOMER).await;
        assert_eq!((answer.status, handshake.kind), (200, HandshakeKind::Full));
    }
    harness.stop().await;
}

#[tokio::test]
async fn an_open_connection_ends_with_its_certificate() {
    let (ca, callers) = (Authority::new(), Authority::new());
    let harness = start(&ca, &callers).await;
    let short = callers.signed("short", &["shop.internal"], ends_in(LIFE));
    ends_in_time(&harness, &Secure::showing(&ca.pem(), &short)).await;
    harness.stop().await;
}

#[tokio::test]
async fn an_open_connection_ends_with_the_certificate_of_an_intermediate_authority() {
    let (ca, callers) = (Authority::new(), Authority::new());
    let harness = start(&ca, &callers).await;
    let chained = callers.chained("chained", &["shop.internal"], ends_in(LIFE));
    ends_in_time(&harness, &Secure::showing(&ca.pem(), &chained)).await;
    harness.stop().await;
}

/// A request under way is answered, no other one is, and connections with another certificate or none notice nothing.
async fn ends_in_time(harness: &Harness, caller: &Secure) {
    let open = OpenConnections::of(caller, harness).await;
    let mut eager = caller.connect(harness.proxy).await.expect("connects");
    assert!(is_served(&mut eager).await);

    // This connection is never idle for long.
    let served = async {
        while is_served(&mut eager).await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LIMIT, served).await.expect("closes in time");
    assert!(caller.try_get(harness.proxy, CUSTOMER).await.is_err(), "not before the certificate has ended");
    open.end(LIMIT).await;
}

#[tokio::test]
async fn connections_without_a_certificate_or_with_one_that_goes_on_stay_open() {
    let (ca, callers) = (Authority::new(), Authority::new());
    let harness = start(&ca, &callers).await;
    let short = Secure::showing(&ca.pem(), &callers.signed("short", &["shop.internal"], ends_in(LIFE)));
    let long = Secure::showing(&ca.pem(), &callers.signed("long", &["shop.internal"], |_| ()));
    // TLS lets a caller send certificates that lead nowhere. Such a one may have ended long before.
    let useless = {
        let old = callers.signed("old", &["old.internal"], |params| params.not_after = date_time_ymd(2020, 1, 1));
        let (certificate, key) = callers.signed("more", &["shop.internal"], |_| ());
        let text = |file: &String| std::fs::read_to_string(file).expect("a file");
        Secure::showing(&ca.pem(), &(callers.write("more.pem", &(text(&certificate) + &text(&old.0))), key))
    };
    let mut open = Vec::new();
    for caller in [&long, &useless, &Secure::new(&ca.pem())] {
        open.push(caller.connect(harness.proxy).await.expect("connects"));
    }
    assert!(is_served(&mut short.connect(harness.proxy).await.expect("connects")).await);
    eventually("the end", async || short.try_get(harness.proxy, CUSTOMER).await.is_err()).await;
    for stream in &mut open {
        assert!(is_served(stream).await);
    }
    harness.stop().await;
}

const LIMIT: Duration = Duration::from_secs(20);
