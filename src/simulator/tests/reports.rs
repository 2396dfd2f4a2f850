use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::simulator::tests::{Caller, Reply, start};
use crate::simulator::{Columns, Options, OrderReport, Simulator};

const ORDERS: &str = "/v2/orders/report?start-date=2026-01-01";

#[tokio::test]
async fn the_order_report_is_an_array_and_chunked() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    for bytes in [2, 610_000, 6_100_000] {
        simulator.configure(|options| options.report_bytes = bytes);
        let reply = caller.get(ORDERS).await;
        assert_eq!(reply.headers["content-type"], "application/json");
        assert_eq!(reply.headers["transfer-encoding"], "chunked");
        assert!(!reply.headers.contains_key("content-length"));
        assert!((bytes..bytes + 1000).contains(&(reply.body.len() as u64)), "{}", reply.body.len());
        let orders = reply.json();
        for order in orders.as_array().unwrap() {
            let whole = |name: &str| order[name].as_i64().unwrap_or_else(|| panic!("{name} of {order}"));
            let text = |name: &str| order[name].as_str().unwrap_or_else(|| panic!("{name} of {order}"));
            assert_eq!(
                whole("order_amount_in_cents"),
                whole("captured_amount_in_cents") + whole("uncaptured_amount_in_cents")
            );
            assert_eq!(whole("net_amount_in_cents"), whole("captured_amount_in_cents") - whole("total_fees_in_cents"));
            assert_eq!((whole("refund_fee_in_cents"), whole("released_amount_in_cents")), (0, 0));
            assert!(text("customer_email").ends_with("@example.com") && text("customer_name").starts_with("Test "));
            let ids = ["order_uuid", "order_platform_uuid", "external_reference_id", "order_type", "financing_option"];
            assert!(ids.iter().all(|name| !text(name).is_empty()));
            assert_eq!((text("customer_currency_code"), text("merchant_currency_code")), ("USD", "USD"));
            assert!(OffsetDateTime::parse(text("created_at"), &Rfc3339).is_ok());
        }
    }
}

#[tokio::test]
async fn the_order_report_of_2021_is_csv() {
    let simulator = start().await;
    simulator.configure(|options| options.order_report = OrderReport::Csv);
    let mut caller = Caller::login(&simulator).await;
    for bytes in [61, 610_000] {
        simulator.configure(|options| options.report_bytes = bytes);
        let reply = caller.get(ORDERS).await;
        assert_eq!((reply.status.as_u16(), reply.body.len() as u64), (200, bytes));
        assert_eq!(reply.headers["content-type"], "text/csv");
        assert!(reply.body.ends_with(b"\n"));
    }
}

#[tokio::test]
async fn the_order_report_states_its_length_on_demand() {
    for order_report in [OrderReport::Json, OrderReport::Csv] {
        let options = Options { report_bytes: 1_000_000, report_length: true, order_report, ..Options::default() };
        let simulator = Simulator::start(options).await.unwrap();
        let reply = Caller::login(&simulator).await.get(ORDERS).await;
        assert_eq!(reply.headers["content-length"], reply.body.len().to_string().as_str());
        assert!(reply.body.len() >= 1_000_000);
    }
}

/// The rows of a CSV report.
fn rows(reply: &Reply) -> Vec<Vec<String>> {
    assert_eq!((reply.status.as_u16(), reply.headers["content-type"].to_str().unwrap()), (200, "text/csv"));
    let text = std::str::from_utf8(&reply.body).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[tokio::test]
async fn settlement_details_have_the_columns_that_sezzle_documents() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let summaries = caller.get("/v2/settlements/summaries?start-date=2026-01-05").await.json();
    let payout = summaries[0]["uuid"].as_str().unwrap().to_owned();
    let details = format!("/v2/settlements/details/{payout}");

    let report = rows(&caller.get(&details).await);
    assert_eq!(report[0].join(","), SUMMARY);
    assert_eq!(report[2].join(","), LINE);
    let summary: BTreeMap<_, _> =
        report[0].iter().zip(&report[1]).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((summary["payment_uuid"], summary["payout_date"]), (payout.as_str(), "2026-01-05 00:05:00 +0000 UTC"));
    assert_eq!(
        summary["net_settlement_amount"].parse::<f64>().unwrap(),
        summaries[0]["net_settlement_amount"].as_f64().unwrap()
    );
    for (sum, kind) in
        [("total_capture_amount", "CAPTURE"), ("total_fee_amount", "FEE"), ("total_refund_amount", "REFUND")]
    {
        let line = report[3..].iter().find(|line| line[0] == kind).unwrap();
        assert_eq!(line[8], summary[sum], "{kind}");
    }
    let plain = report[3..].iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(plain, vec![16; report.len() - 3], "every line has every column");

    let with = rows(&caller.get(&format!("{details}?metadata=location_id,none,store_name")).await);
    assert_eq!(with[2].join(","), format!("{LINE},location_id,store_name"), "no column for a key that no line has");
    assert!(with[3..].iter().all(|line| line[16..] == ["123", "Downtown"]), "{with:?}");

    simulator.configure(|options| options.settlement_columns = Columns::Older);
    let older = rows(&caller.get(&details).await);
    assert_eq!((older[0].len(), older[1].len(), older[2].len(), older[3].len()), (17, 17, 13, 13));
    assert!(!older[0].contains(&"payout_currency".to_owned()));
    assert_eq!(caller.get("/v2/settlements/details/other").await.status, 404);
}

const SUMMARY: &str = "total_order_amount,total_capture_amount,total_refund_amount,total_fee_amount,\
    total_returned_fee_amount,total_chargeback_amount,total_chargeback_reversal_amount,total_interest_transfer_amount,\
    total_correction_amount,total_referral_revenue_transfer_amount,total_bank_account_withdrawals,\
    total_bank_account_withdrawal_reversals,forex_fees,net_settlement_amount,payment_uuid,settlement_currency,payout_date,\
    payout_status,final_payout_amount,payout_currency";
const LINE: &str = "type,order_capture_date,order_created_at,event_date,order_uuid,customer_order_id,\
    external_reference_id,order_amount,amount,posting_currency,type_code,chargeback_code,sezzle_order_id,product_type,mid,\
    card_network_auth_ref";

#[tokio::test]
async fn interest_activity_has_the_columns_that_sezzle_documents() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    assert!(caller.get("/v2/interest/balance").await.json()["interest_balance"].is_number());
    let path = "/v2/interest/activity?start-date=2026-01-01";
    let all = rows(&caller.get(path).await);
    assert_eq!(
        all[0].join(","),
        "type,event_date,interest_account_change_amount,interest_account_balance_after_change"
    );
    assert_eq!(all.len(), 4);
    assert!(all[1..].windows(2).all(|pair| {
        let number = |text: &str| text.parse::<f64>().unwrap();
        (number(&pair[0][3]) + number(&pair[1][2]) - number(&pair[1][3])).abs() < 0.000_05
    }));
    let one = rows(&caller.get(&format!("{path}&offset=2")).await);
    assert_eq!(one, [all[0].clone(), all[3].clone()]);
    let none = caller.get(&format!("{path}&currency-code=CAD")).await;
    assert_eq!(rows(&none), [all[0].clone()]);
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
}
