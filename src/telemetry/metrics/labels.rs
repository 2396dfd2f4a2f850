//! The closed sets of label values that no other module owns.

use http::StatusCode;

/// `reason` of `shed_total`.
pub const SHED_REASONS: [&str; 5] = ["queue_full", "queue_timeout", "receiving", "rate_limited", "circuit_open"];
/// `class` of `breaker_state`. Writes have no breaker.
pub const BREAKERS: [&str; 4] = ["session", "read", "report", "webhooks"];
/// `class` of `rate_limited_until_timestamp_seconds`. Calls that move money are never held back.
pub const RATE_LIMITED_CLASSES: [&str; 4] = BREAKERS;
/// `cause` of `cache_evictions_total`.
pub const EVICTION_CAUSES: [&str; 4] = ["expired", "explicit", "replaced", "size"];
/// `source` of `cache_invalidations_total`.
pub const INVALIDATION_SOURCES: [&str; 4] = ["write", "control", "webhook", "reload"];
/// `result` of `token_refreshes_total`.
pub const TOKEN_RESULTS: [&str; 4] = ["success", "rejected", "wrong_merchant", "failed"];
/// `trigger` of `token_refreshes_total`.
pub const TOKEN_TRIGGERS: [&str; 4] = ["start", "schedule", "demand", "rotation"];
/// `result` of `caller_exchanges_total`.
pub const CALLER_EXCHANGE_RESULTS: [&str; 6] =
    ["placeholder", "granted", "refused", "failed", "remembered", "rate_limited"];
/// `result` of `secret_reloads_total`: the new key pair is in use (`success`), or why it is not.
pub const RELOAD_RESULTS: [&str; 5] = ["success", "unusable", "rejected", "wrong_merchant", "failed"];
/// `reason` of `caller_requests_refused_total`.
pub const CALLER_REFUSALS: [&str; 2] = ["not_allowed", "amount_over_limit"];
/// `result` of `caller_secret_reloads_total`.
pub const CALLER_SECRET_RESULTS: [&str; 2] = ["success", "unusable"];
/// `task` of `task_restarts_total`: the tasks that must live as long as the process.
pub const TASKS: [&str; 13] = [
    "token_keeper",
    "caller_keeper",
    "certificate_keeper",
    "proxy_listener",
    "control_listener",
    "ops_listener",
    "webhooks_listener",
    "status_history",
    "span_exporter",
    "fleet_link",
    "webhook_subscription",
    "contract_drift",
    LOG_WRITER,
];
/// The thread that writes the log, which belongs to the process rather than to one sidecar.
pub const LOG_WRITER: &str = "log_writer";
/// `result` of `upstream_retries_total`.
pub const RETRY_RESULTS: [&str; 3] = ["success", "failure", "no_budget"];
/// `listener` of `connections`.
pub const LISTENERS: [&str; 4] = ["proxy", "control", "ops", "webhooks"];
/// `tls_version` of `tls_handshakes_total`.
pub const TLS_VERSIONS: [&str; 2] = ["1.2", "1.3"];
/// `kind` of `tls_handshakes_total`.
pub const TLS_KINDS: [&str; 2] = ["full", "resumed"];
/// `event` of `webhooks_total`: the events that Sezzle documents. All others are [`OTHER_EVENT`].
pub const WEBHOOK_EVENTS: [&str; 9] = [
    "customer.tokenized",
    "order.authorized",
    "order.captured",
    "order.refunded",
    "dispute.merchant_input_requested",
    "dispute.deadline_approaching",
    "dispute.closed.customer_win",
    "dispute.closed.merchant_win",
    "dispute.closed.neutral",
];
/// `event` of `webhooks_total` for every other event, and for a webhook whose event was not read.
pub const OTHER_EVENT: &str = "other";

/// `route` of unknown calls.
pub const OTHER_ROUTE: &str = "other";
/// `route` of every call below `/v1/`.
pub const VERSION_1_ROUTE: &str = "v1";
/// `method` of methods without a label.
pub const OTHER_METHOD: &str = "_OTHER";

/// A status code as a label value. Codes that are not registered share one word, so that a gateway cannot create
/// series.
pub fn code_label(status: StatusCode) -> &'static str {
    // `StatusCode::as_str` borrows from the value, so registered codes need static texts of their own.
    const CODES: [&str; 62] = [
        "100", "101", "102", "103", "200", "201", "202", "203", "204", "205", "206", "207", "208", "226", "300", "301",
        "302", "303", "304", "305", "307", "308", "400", "401", "402", "403", "404", "405", "406", "407", "408", "409",
        "410", "411", "412", "413", "414", "415", "416", "417", "418", "421", "422", "423", "424", "425", "426", "428",
        "429", "431", "451", "499", "500", "501", "502", "503", "504", "505", "506", "507", "508", "511",
    ];
    CODES.iter().find(|code| **code == status.as_str()).copied().unwrap_or("other")
}

/// `method`.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER_METHOD];

/// A method as a label: a known method, or [`OTHER_METHOD`].
pub fn method_label(method: &http::Method) -> &'static str {
    METHODS.iter().find(|known| **known == method.as_str()).copied().unwrap_or(OTHER_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_outside_the_registry_share_a_label() {
        for (code, label) in [(200, "200"), (499, "499"), (511, "511"), (299, "other"), (999, "other")] {
            assert_eq!(code_label(StatusCode::from_u16(code).expect("valid")), label);
        }
    }
}
