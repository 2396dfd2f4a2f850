//! The meaning of the words of the metrics.

/// Explains a word of the metrics.
pub fn meaning(word: &str) -> &'static str {
    MEANINGS.iter().find(|(known, _)| *known == word).map_or("", |(_, meaning)| meaning)
}

const MEANINGS: [(&str, &str); 39] = [
    ("5xx", "Sezzle answered 5xx"),
    ("429", "Sezzle asked for fewer calls"),
    ("dns", "the gateway's name was not resolved"),
    ("connection_refused", "connection refused"),
    ("connection_failed", "no connection could be made"),
    ("connect_timeout", "no connection was made in time"),
    ("egress_proxy", "the proxy on the way out made no tunnel"),
    ("tls_certificate", "the gateway's certificate was not trusted"),
    ("tls", "TLS failed"),
    ("stream_limit", "every HTTP/2 stream that Sezzle allows was taken"),
    ("timeout", "no answer came in time"),
    ("reset", "the connection ended before the answer"),
    ("head_too_large", "the head of the answer was too large"),
    ("protocol", "the answer was not HTTP"),
    ("body", "the answer broke off"),
    ("queue_full", "the queue of the class was full"),
    ("queue_timeout", "no permit became free in time"),
    ("receiving", "too many bodies were being received"),
    ("rate_limited", "Sezzle asked for fewer calls"),
    ("circuit_open", "the circuit breaker was open"),
    ("success", "sent again, and answered"),
    ("failure", "sent again, and failed again"),
    ("no_budget", "not sent again: the budget was used up"),
    ("accepted", "purged, and accepted by the service if there is one"),
    ("malformed", "signed, and no JSON: every session was purged"),
    ("browser_refused", "a browser sent it"),
    ("not_found", "another path than webhooks.path"),
    ("method_not_allowed", "another method than POST"),
    ("bad_signature", "not signed with the sidecar's key"),
    ("too_large", "larger than a webhook may be"),
    ("body_broken", "the body broke off"),
    ("body_timeout", "the body did not arrive in time"),
    ("forward_failed", "the service did not accept it"),
    ("forward_timeout", "the service did not answer in time"),
    ("busy", "too many webhooks were being handed on"),
    ("down", "there is no connection"),
    ("joining", "connected, and the log is not read yet"),
    ("synced", "the log is read in time"),
    ("late", "a reply is overdue, or the server refused something"),
];
