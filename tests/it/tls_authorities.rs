//! A change of the authorities of callers is logged as one, and no certificate of a caller passes for an authority.

use std::fs;

use sezzle_sidecar::simulator::Options;

use crate::support::eventually;
use crate::support::process::{Sidecar, check};
use crate::support::secure::Secure;
use crate::support::tls::{Authority, tls_files};

#[tokio::test]
async fn changed_authorities_are_used_or_refused_and_the_log_says_which() {
    let (ca, callers, others) = (Authority::new(), Authority::new(), Authority::new());
    let (certificate, key) = ca.files("proxy", &["localhost"]);
    let by_others = others.signed("shop", &["shop.internal"], |_| ());
    let authorities = callers.file();
    let variables = [&tls_files(&certificate, &key, &authorities)[..], &[("LOG__LEVEL", "info")]].concat();
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

/// rustls verifies by an authority whatever the date is.
#[tokio::test]
async fn an_authority_that_has_ended_lets_no_caller_in_and_is_named() {
    let (ca, ended, callers) = (Authority::new(), Authority::ended(), Authority::new());
    let (certificate, key) = ca.files("proxy", &["localhost"]);
    let (both, old) = (ended.pem() + &callers.pem(), ended.write("old.pem", &ended.pem()));
    let file = callers.write("both.pem", &both);
    let mut sidecar = Sidecar::start(Options::default(), &tls_files(&certificate, &key, &file)).await;
    let status = async |by: &Authority| {
        let pair = by.signed("caller", &["shop.internal"], |_| ());
        let tried = Secure::showing(&ca.pem(), &pair).try_get(sidecar.proxy, "/v2/customer").await;
        tried.map(|(answer, _)| answer.status).ok()
    };
    assert_eq!((status(&callers).await, status(&ended).await), (Some(200), None));
    let named = "the certificate old root ended on Wed, 01 Jan 2020 00:00:00 GMT, so callers with a certificate";
    sidecar.process.says(named).await;
    assert_eq!(sidecar.process.stdout().matches(named).count(), 1, "at the start");
    callers.write("both.pem", &(both + "\n"));
    sidecar.process.says("by other authorities").await;
    eventually("a line", async || sidecar.process.stdout().matches(named).count() == 2).await;
    sidecar.stop().await;

    let checked = check(&tls_files(&certificate, &key, &file)).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    assert!(checked.stdout.contains(&format!("# proxy.tls.client_ca_file: {named}")), "{}", checked.stdout);
    let checked = check(&tls_files(&certificate, &key, &old)).await;
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(78), ""));
    assert!(checked.stderr.contains("and no other authority is left"), "{}", checked.stderr);
}
