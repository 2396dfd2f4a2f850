//! A certificate has names of several kinds, and tells a caller only by a name of the kind that the caller has.

use rcgen::SanType;

use crate::support::Setup;
use crate::support::process::Folder;
use crate::support::secure::Secure;
use crate::support::tls::Authority;

const CALLERS: &str = r#"
[[callers]]
name = "host"
certificate = "till.internal"
allow = ["customer.read"]

[[callers]]
name = "workload"
certificate = "spiffe://shop.internal/till"
allow = ["customer.read"]
"#;

/// An authority may be allowed to sign names of one kind only (RFC 5280, 4.2.1.10).
#[tokio::test]
async fn a_name_of_one_kind_does_not_pass_for_one_of_another() {
    let (ca, callers, folder) = (Authority::new(), Authority::new(), Folder::new());
    let harness = Setup::default()
        .tls(&ca)
        .set("PROXY__TLS__CLIENT_CA_FILE", callers.file())
        .file(folder.write("callers.toml", CALLERS))
        .start()
        .await;
    let (host, workload) = ("till.internal", "spiffe://shop.internal/till");
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    let uri = |name: &str| SanType::URI(name.try_into().expect("ASCII"));
    let mail = |name: &str| SanType::Rfc822Name(name.try_into().expect("ASCII"));
    for (what, names, status) in [
        ("a DNS name", vec![dns(host)], 200),
        ("a URI", vec![uri(workload)], 200),
        ("the DNS name as a URI", vec![uri(host)], 401),
        ("the URI as a DNS name", vec![dns(workload)], 401),
        ("the DNS name as an address of mail", vec![mail(host)], 401),
        ("both as the other", vec![uri(host), dns(workload), dns("other.internal")], 401),
    ] {
        let pair = callers.signed("caller", &[], |params| params.subject_alt_names = names);
        let (answer, _) = Secure::showing(&ca.pem(), &pair).get(harness.proxy, "/v2/customer").await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }
    harness.stop().await;
}
