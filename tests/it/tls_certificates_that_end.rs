//! The certificate of a caller ends, or the caller renews it, while it has a session.

use std::time::{Duration, SystemTime};

use rcgen::CertificateParams;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use crate::support::secure::Secure;
use crate::support::tls::Authority;
use crate::support::{Harness, Setup, eventually};

const CUSTOMER: &str = "/v2/customer";

async fn start(ca: &Authority, callers: &Authority) -> Harness {
    let (certificate, key) = ca.files("proxy", &["localhost"]);
    let files = [("CERTIFICATE_FILE", certificate), ("KEY_FILE", key), ("CLIENT_CA_FILE", callers.file())];
    let set = |setup: Setup, (name, file)| setup.set(&format!("PROXY__TLS__{name}"), file);
    files.into_iter().fold(Setup::default(), set).start().await
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
