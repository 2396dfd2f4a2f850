//! The sidecar understands its own entity tag when a caller sends it back, and Sezzle sees Sezzle's tag.

use http::Method;

use crate::support::Setup;
use crate::support::scripted::{Script, Scripted};

const ORDER: &str = "/v2/order/o";
const BODY: &str = r#"{"links":[{"href":"https://gateway.sezzle.com/v2/order/o","method":"GET","rel":"self"}]}"#;

fn answer(head: &str, body: &str) -> Script {
    let length = body.len();
    let json = "content-type: application/json";
    Script::Bytes(format!("HTTP/1.1 {head}\r\n{json}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes())
}

#[tokio::test]
async fn conditions_by_a_tag_of_the_sidecars_reach_sezzle_by_its_own() {
    let gateway = Scripted::start().await;
    let harness = Setup::default().set("GATEWAY__URL", format!("http://{}", gateway.addr)).start().await;
    for theirs in ["\"v1\"", "W/\"v1\""] {
        gateway.script(answer(&format!("200 OK\r\netag: {theirs}"), BODY));
        let order = harness.get(ORDER).await;
        let ours = order.header("etag").to_owned();
        assert!(order.text().contains(&harness.proxy.to_string()), "{}", order.text());
        assert_ne!(ours, theirs, "the bytes are not Sezzle's");

        gateway.script(Script::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()));
        let update = harness.send(Method::PATCH, ORDER, &[("if-match", &ours)], "{}").await;
        assert_eq!(update.status, 204);
        let last = || gateway.heads().pop().expect("a call").to_ascii_lowercase();
        let sent = theirs.to_ascii_lowercase();
        assert!(last().contains(&format!("if-match: {sent}\r\n")), "{}", last());

        gateway.script(Script::Bytes(format!("HTTP/1.1 304 Not Modified\r\netag: {theirs}\r\n\r\n").into_bytes()));
        let list = format!("\"other\", {ours}");
        let unchanged = harness.get_with(ORDER, &[("if-none-match", &list)]).await;
        assert!(last().contains(&format!("if-none-match: \"other\", {sent}\r\n")), "{}", last());
        assert_eq!((unchanged.status, unchanged.header("etag")), (304, ours.as_str()));

        // A foreign tag stays unchanged, and so does the tag of an answer with Sezzle's own bytes.
        let foreign = harness.get_with(ORDER, &[("if-none-match", "\"other\"")]).await;
        assert!(last().contains("if-none-match: \"other\"\r\n"), "{}", last());
        assert_eq!(foreign.header("etag"), theirs);
        gateway.script(answer(&format!("200 OK\r\netag: {theirs}"), r#"{"links":[]}"#));
        assert_eq!(harness.get(ORDER).await.header("etag"), theirs);
    }
    harness.stop().await;
}
