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
    let reply = Caller::login(&simulator).await.get("/v2/orders/report?start-date=2026-01-01").await;
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
    assert_eq!(caller.get("/v2/interest/activity?start-date=2026-01-01").await.headers["content-type"], "text/csv");
}

#[tokio::test]
async fn a_report_needs_its_dates() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    for path in ["/v2/orders/report", "/v2/settlements/summaries", "/v2/interest/activity"] {
        for (query, location) in [
            ("", "start-date"),
            ("?start-date=yesterday", "start-date"),
            ("?start-date=2026-01-02&end-date=2026-01-01", "end-date"),
        ] {
            let reply = caller.get(&format!("{path}{query}")).await;
            assert_eq!((reply.status.as_u16(), reply.locations()), (400, vec![location.to_owned()]), "{path}{query}");
            assert!(reply.json()[0]["debug_uuid"].is_string());
        }
    }
    let week = "/v2/orders/report?start-date=2026-01-01&end-date=2026-01-0";
    assert_eq!(caller.get(&format!("{week}8")).await.status, 200);
    assert_eq!(caller.get(&format!("{week}9")).await.locations(), ["end-date"]);
}

#[tokio::test]
async fn payouts_come_in_pages_of_their_days_and_currency() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let path = "/v2/settlements/summaries?start-date=2025-01-01&end-date=2025-01-25";
    let (first, second) = (caller.get(path).await.json(), caller.get(&format!("{path}&offset=20")).await.json());
    let dates: Vec<&str> = [&first, &second]
        .iter()
        .flat_map(|page| page.as_array().unwrap())
        .map(|payout| payout["payout_date"].as_str().unwrap())
        .collect();
    assert_eq!((first.as_array().unwrap().len(), dates.len()), (20, 25));
    assert_eq!((dates[0], dates[24]), ("2025-01-01T00:00:00Z", "2025-01-25T00:00:00Z"));
    assert_eq!(caller.get(&format!("{path}&offset=-1")).await.locations(), ["offset"]);
    assert_eq!(caller.get(&format!("{path}&currency-code=CAD")).await.json(), serde_json::json!([]));
    assert_eq!(caller.get("/v2/interest/balance?currency-code=CAD").await.json()["interest_balance"], 0.0);
    let activity = "/v2/interest/activity?start-date=2026-01-01";
    let (all, none) = (caller.get(activity).await, caller.get(&format!("{activity}&offset=20")).await);
    assert_eq!((all.body.len(), none.body.len()), (610, 61));
}
