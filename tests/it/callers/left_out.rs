//! The pages of the ops listener, which a network may reach, show neither the marks nor the bounds of callers.

use super::{OFFICE_PRIVATE, TILL};
use crate::support::Setup;
use crate::support::process::Folder;
use crate::support::tls::Authority;

const CALLERS: &str = r#"
[[callers]]
name = "till"
certificate = "till.internal"
uid = 471147
allow = ["checkout"]
max_amount = ["471.47 USD"]

[[callers]]
name = "office"
token_file = "@/till-token-file"
public_key = "sz_pub_office"
private_key_file = "@/office-key-file"
allow = ["read"]
"#;

#[tokio::test]
async fn no_page_of_the_ops_listener_says_how_callers_are_told() {
    let (ca, callers, folder) = (Authority::new(), Authority::new(), Folder::new());
    folder.write("till-token-file", TILL);
    folder.write("office-key-file", OFFICE_PRIVATE);
    let listen = format!("127.0.0.1:0,unix:{}", folder.path().join("proxy.sock").display());
    let harness = Setup::default()
        .set("PROXY__LISTEN", listen)
        .tls(&ca)
        .set("PROXY__TLS__CLIENT_CA_FILE", callers.file())
        .set("CONTROL__LISTEN", "127.0.0.1:0")
        .file(folder.write("callers.toml", &super::at(&folder, CALLERS)))
        .start()
        .await;
    let told = ["till.internal", "471147", "471.47 USD", "till-token-file", "office-key-file"];
    for path in ["/", "/status.json"] {
        let page = harness.client.get(harness.ops, path).await;
        assert!(page.status == 200 && page.text().contains("callers.name"), "{path}: {}", page.text());
        for told in told {
            assert!(!page.text().contains(told), "{path} says {told}");
        }
    }
    let page = harness.client.get(harness.control(), "/status.json").await;
    for told in told {
        assert!(page.text().contains(told), "operators see {told}");
    }
    harness.stop().await;
}
