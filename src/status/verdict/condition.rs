//! Every condition that the page can report, and the alerts that fire for it.

use crate::telemetry::metrics::words;

words! {
    /// A condition that needs attention. The word names the condition in `/status.json`.
    #[derive(Hash)]
    pub enum Condition {
        NotReady = "not_ready",
        NoToken = "no_token",
        TokenNotRenewed = "token_not_renewed",
        KeysNotUsed = "keys_not_used",
        CallersUnauthorized = "callers_unauthorized",
        CallersRefused = "callers_refused",
        CallerSecretsNotUsed = "caller_secrets_not_used",
        ClockSkew = "clock_skew",
        LookupsFailing = "lookups_failing",
        SlowAnswers = "slow_answers",
        OutcomeUnknown = "outcome_unknown",
        RefusedInDoubt = "refused_in_doubt",
        WritesNotSent = "writes_not_sent",
        MoneyShed = "money_shed",
        CallsShed = "calls_shed",
        AuditFailing = "audit_failing",
        SezzleFailing = "sezzle_failing",
        RateLimited = "rate_limited",
        WebhooksUnsigned = "webhooks_unsigned",
        WebhookUnsubscribed = "webhook_unsubscribed",
        ContractDrift = "contract_drift",
        WebhooksNotForwarded = "webhooks_not_forwarded",
        ConnectionsNearLimit = "connections_near_limit",
        LogLost = "log_lost",
        ReloadFailed = "reload_failed",
        RestartNeeded = "restart_needed",
        TaskRestarted = "task_restarted",
        CertificateEnds = "certificate_ends",
        CertificateNotUsed = "certificate_not_used",
        FleetUnsynced = "fleet_unsynced",
        FleetUnpublished = "fleet_unpublished",
        FleetUnconfirmed = "fleet_unconfirmed",
        FleetRejoining = "fleet_rejoining",
    }
}

impl Condition {
    /// The alerts of `deploy/prometheus/alerts.yml` that fire for this condition of one process. While such an alert
    /// fires because of a process, its page reports the condition.
    pub fn alerts(self) -> &'static [&'static str] {
        match self {
            Self::NotReady | Self::RateLimited | Self::RestartNeeded => &[],
            Self::CertificateEnds => &["SezzleSidecarCertificateEnds"],
            Self::CertificateNotUsed => &["SezzleSidecarCertificateNotUsed"],
            Self::LookupsFailing => &["SezzleSidecarLookupsFailing"],
            Self::SlowAnswers => &["SezzleSidecarSlowAnswers"],
            Self::WritesNotSent => &["SezzleSidecarMoneyNotSent"],
            Self::ReloadFailed => &["SezzleSidecarReloadFailed"],
            Self::TaskRestarted => &["SezzleSidecarTaskRestarted"],
            Self::NoToken => &["SezzleSidecarNoToken"],
            Self::TokenNotRenewed => &["SezzleSidecarTokenExpiring"],
            Self::KeysNotUsed => &["SezzleSidecarKeysNotUsed"],
            Self::CallersUnauthorized => &["SezzleSidecarUnauthorized"],
            Self::CallersRefused => &["SezzleSidecarCallersRefused"],
            Self::CallerSecretsNotUsed => &["SezzleSidecarCallerSecretsNotUsed"],
            Self::ClockSkew => &["SezzleSidecarClockSkew"],
            Self::OutcomeUnknown => &["SezzleSidecarOutcomeUnknown"],
            Self::RefusedInDoubt => &["SezzleSidecarWriteInDoubt"],
            Self::MoneyShed => &["SezzleSidecarMoneyShed"],
            Self::CallsShed => &["SezzleSidecarCallsShed"],
            Self::WebhookUnsubscribed => &["SezzleSidecarWebhookUnsubscribed"],
            Self::ContractDrift => &["SezzleSidecarContractDrift"],
            Self::AuditFailing => &["SezzleSidecarAuditFailing"],
            Self::SezzleFailing => &["SezzleSidecarSezzleUnreachable", "SezzleSidecarSezzleFailing"],
            Self::WebhooksUnsigned => &["SezzleSidecarWebhookBadSignature"],
            Self::WebhooksNotForwarded => &["SezzleSidecarWebhooksNotHandedOn"],
            Self::ConnectionsNearLimit => &["SezzleSidecarConnectionsNearLimit"],
            Self::LogLost => &["SezzleSidecarLogLost"],
            Self::FleetUnsynced => &["SezzleSidecarFleetUnsynced"],
            Self::FleetUnpublished => &["SezzleSidecarFleetUnpublished"],
            Self::FleetUnconfirmed => &["SezzleSidecarFleetUnconfirmed"],
            Self::FleetRejoining => &["SezzleSidecarFleetRejoining"],
        }
    }
}

/// The alerts for conditions that no process can see in itself, each with the reason.
pub const NOT_VISIBLE: [(&str, &str); 4] = [
    ("SezzleSidecarDown", "a process that does not answer shows no page"),
    ("SezzleSidecarRestarting", "a process does not know of those before it; the page says how long this one has run"),
    (
        "SezzleSidecarWebhooksStopped",
        "the alert looks at all sidecars of a job and at days, and the page remembers an hour",
    ),
    ("SezzleSidecarHitRatioCollapsed", "the alert compares with the day before, and the page remembers an hour"),
];
