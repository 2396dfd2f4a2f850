//! The known paths, with their variable parts.

use crate::simulator::EffectKind;

/// The resource that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    Authentication,
    Sessions,
    /// `/v2/session/`, with a slash at its end.
    SessionsSlash,
    Session(&'a str),
    Cards,
    CardToken(&'a str),
    CardOrder(&'a str),
    Order(&'a str),
    Checkout(&'a str),
    Money(&'a str, EffectKind),
    Renewal(&'a str, EffectKind),
    Customers,
    Customer(&'a str),
    Preapprove(&'a str),
    CustomerOrder(&'a str),
    Token(&'a str),
    TokenCustomer(&'a str),
    Webhooks,
    Webhook(&'a str),
    WebhookTest,
    OrdersReport,
    SettlementSummaries,
    SettlementDetails(&'a str),
    InterestBalance,
    InterestActivity,
    Configuration,
    WidgetQueue,
    FeatureFlag,
}

impl<'a> Resource<'a> {
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        Some(match *segments {
            ["v2", "authentication"] => Self::Authentication,
            ["v2", "session"] => Self::Sessions,
            ["v2", "session", ""] => Self::SessionsSlash,
            ["v2", "session", "card"] => Self::Cards,
            ["v2", "session", "card", "token", token] => Self::CardToken(token),
            ["v2", "session", id] => Self::Session(id),
            ["v2", "session", id, "card"] => Self::CardOrder(id),
            ["v2", "order", id] => Self::Order(id),
            ["v2", "order", id, "checkout"] => Self::Checkout(id),
            ["v2", "order", id, "capture"] => Self::Money(id, EffectKind::Capture),
            ["v2", "order", id, "refund"] => Self::Money(id, EffectKind::Refund),
            ["v2", "order", id, "release"] => Self::Money(id, EffectKind::Release),
            ["v2", "order", id, "reauthorize"] => Self::Renewal(id, EffectKind::Reauthorize),
            ["v2", "order", id, "upcharge"] => Self::Renewal(id, EffectKind::Upcharge),
            ["v2", "customer"] => Self::Customers,
            ["v2", "customer", id] => Self::Customer(id),
            ["v2", "customer", id, "preapprove"] => Self::Preapprove(id),
            ["v2", "customer", id, "order"] => Self::CustomerOrder(id),
            ["v2", "token", token, "session"] => Self::Token(token),
            ["v2", "token", token, "customer"] => Self::TokenCustomer(token),
            ["v2", "webhooks"] => Self::Webhooks,
            ["v2", "webhooks", "test"] => Self::WebhookTest,
            ["v2", "webhooks", id] => Self::Webhook(id),
            ["v2", "orders", "report"] => Self::OrdersReport,
            ["v2", "settlements", "summaries"] => Self::SettlementSummaries,
            ["v2", "settlements", "details", payout] => Self::SettlementDetails(payout),
            ["v2", "interest", "balance"] => Self::InterestBalance,
            ["v2", "interest", "activity"] => Self::InterestActivity,
            ["v2", "configuration"] => Self::Configuration,
            ["v2", "widget", "queue"] => Self::WidgetQueue,
            ["v2", "feature-flags", flag] if !flag.is_empty() => Self::FeatureFlag,
            _ => return None,
        })
    }

    /// Whether a call to it may carry the public key alone, as the mobile SDKs and WooCommerce send it.
    pub(super) fn takes_public_key(self) -> bool {
        matches!(self, Self::Sessions | Self::SessionsSlash | Self::FeatureFlag)
    }
}
