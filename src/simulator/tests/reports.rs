use crate::simulator::Options;
use crate::simulator::Simulator;
use crate::simulator::tests::Caller;
use crate::simulator::tests::start;

#[tokio::test]
async fn the_order_report_has_its_size_and_is_chunked() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    for bytes in [61, 610_000, 6_100_000] {
        simulator.set_report_bytes(bytes);
        let reply = caller.get("/v2/orders/report?start-date=2026-01-01").await;
        assert_eq!((reply.status.as_u16(), reply.body.len() as u64), (200, bytes));
        assert_eq!(reply.headers["content-type"], "text/csv");
        assert_eq!(reply.headers["transfer-encoding"], "chunked");
        assert!(!reply.headers.contains_key("content-length"));
    }
}

#[tokio::test]
async fn the_order_report_states_its_length_on_demand() {
    let options = Options { report_bytes: 1_000_000, report_length: true, ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let reply = Caller::login(&simulator).await.get("/v2/orders/report").await;
    assert_eq!(reply.headers["content-length"], reply.body.len().to_string().as_str());
    assert!(reply.body.len() >= 1_000_000 && reply.body.ends_with(b"\n"));
}

#[tokio::test]
async fn the_other_reports_are_there() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let summaries = caller.get("/v2/settlements/summaries?start-date=2026-01-01").await.json();
    let details = format!("/v2/settlements/details/{}", summaries[0]["uuid"].as_str().unwrap());
    assert_eq!(caller.get(&details).await.headers["content-type"], "text/csv");
    assert_eq!(caller.get("/v2/settlements/details/other").await.status, 404);
    assert!(caller.get("/v2/interest/balance").await.json()["interest_balance"].is_number());
    assert_eq!(caller.get("/v2/interest/activity").await.headers["content-type"], "text/csv");
}
