//! A change of the authorities of callers is said as what it is, and no certificate of a caller passes for an authority.

use std::fs;

use sezzle_sidecar::simulator::Options;

use crate::support::eventually;
use crate::support::process::Sidecar;
use crate::support::secure::Secure;
use crate::support::tls::Authority;

#[tokio::test]
async fn changed_authorities_are_used_or_refused_and_the_log_says_which() {
    let (ca, callers, others) = (Authority::new(), Authority::new(), Authority::new());
    let (certificate, key) = ca.files("proxy", &["localhost"]);
    let by_others = others.signed("shop", &["shop.internal"], |_| ());
    let variables = [
        ("PROXY__TLS__CERTIFICATE_FILE", certificate.as_str()),
        ("PROXY__TLS__KEY_FILE", &key),
        ("PROXY__TLS__CLIENT_CA_FILE", &callers.file()),
        ("LOG__LEVEL", "info"),
    ];
    let mut sidecar = Sidecar::start(Options::default(), &variables).await;
    callers.write("ca.pem", &others.pem());
    sidecar.process.says("the proxy listener verifies the certificates of callers by other authorities").await;
    let caller = Secure::showing(&ca.pem(), &by_others);
    assert_eq!(caller.get(sidecar.proxy, "/v2/customer").await.0.status, 200);

    callers.write("ca.pem", &fs::read_to_string(&by_others.0).expect("a file"));
    sidecar.process.says("this certificate may sign no others").await;
    let unusable = r#"tls_files_unusable{listener="proxy"}"#;
    eventually("not used", async || sidecar.metric(unusable).await == 1.0).await;
    assert_eq!(caller.get(sidecar.proxy, "/v2/customer").await.0.status, 200);
    let ended = sidecar.stop().await;
    assert!(!ended.stdout.contains("shows a new certificate"), "{}", ended.stdout);
}
