//! The next step of a caller when nobody can say whether a write was done. Pure.

use http::{HeaderValue, Method};

use super::{Matched, Route, Subject};
use crate::method::is_safe;

/// A way out of a doubt, which can have no second effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Another attempt is harmless without a key as well.
    Repeat,
    /// Repeat the call under the key that the caller sent.
    SameKey,
    /// Repeat the call under this key, which the sidecar made.
    MintedKey(HeaderValue),
    /// Create another session. Nobody has been sent to the first one, and its identifier came with the lost answer.
    NewSession,
    /// Create another card. The token of the first one is used up.
    NewCard,
    ReadSession,
    ReadOrder,
    ReadCustomer,
    ListWebhooks,
    /// No call of Sezzle's shows what such a write did.
    AskSezzle,
}

/// The idempotency key of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'k> {
    None,
    Callers,
    Minted(&'k HeaderValue),
}

impl Matched {
    /// The way out of a doubt about a call with this method, which was sent with this key.
    pub fn remedy(&self, method: &Method, key: Key<'_>) -> Remedy {
        match key {
            Key::Callers => Remedy::SameKey,
            Key::Minted(key) => Remedy::MintedKey(key.clone()),
            Key::None => self.remedy_without_key(method),
        }
    }

    fn remedy_without_key(&self, method: &Method) -> Remedy {
        match self.route {
            Route::CardToken => Remedy::NewCard,
            _ if is_safe(method) => Remedy::Repeat,
            // Sezzle charges nobody before a shopper has finished the checkout.
            Route::Sessions | Route::CardSession if *method == Method::POST => Remedy::NewSession,
            // The same order again.
            Route::SessionCard if *method == Method::PATCH => Remedy::Repeat,
            // One more event that is only a test.
            Route::WebhookTest if *method == Method::POST => Remedy::Repeat,
            Route::Customer | Route::Preapprove => Remedy::ReadCustomer,
            Route::Webhooks | Route::Webhook => Remedy::ListWebhooks,
            // An order of version 1 has an identifier of its own.
            Route::Version1 => Remedy::AskSezzle,
            Route::Sessions | Route::CardSession | Route::Session | Route::SessionCard => self.read_subject(),
            Route::Order | Route::Checkout | Route::Capture | Route::Refund => self.read_subject(),
            Route::Release | Route::Reauthorize | Route::Upcharge => self.read_subject(),
            Route::Authentication | Route::Customers | Route::CustomerOrder => self.read_subject(),
            Route::TokenSession | Route::TokenCustomer | Route::WebhookTest => self.read_subject(),
            Route::SettlementSummaries | Route::SettlementDetails | Route::OrdersReport => self.read_subject(),
            Route::InterestBalance | Route::InterestActivity => self.read_subject(),
            Route::FeatureFlag | Route::Configuration | Route::WidgetQueue | Route::Other => self.read_subject(),
        }
    }

    /// The order or the session below which the path lies shows what a write did.
    fn read_subject(&self) -> Remedy {
        match self.subject {
            Subject::Order(_) => Remedy::ReadOrder,
            Subject::Session { .. } => Remedy::ReadSession,
            Subject::Token(_) | Subject::Other => Remedy::AskSezzle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "fadbc642-05a4-4e38-9e74-80e325623af9";
    const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

    /// A path of this call, as a caller writes it.
    fn path(route: Route) -> String {
        match route {
            Route::Other => return "/v2/new/thing".to_owned(),
            Route::Version1 => return "/v1/order/o/refund".to_owned(),
            _ => {}
        }
        route.template().replace("{session}", UUID).replace(['{', '}'], "")
    }

    fn remedy(method: &Method, path: &str) -> Remedy {
        matched(path).remedy(method, Key::None)
    }

    fn matched(path: &str) -> Matched {
        Matched::path(path).or_else(|| Matched::version_1(path)).expect("a call")
    }

    /// Each call with each method. A row names the methods that Sezzle documents for a write, and what other unsafe
    /// methods get.
    #[test]
    fn every_call_has_its_remedy() {
        use Remedy::{AskSezzle, ListWebhooks, NewCard, NewSession, ReadCustomer, ReadOrder, ReadSession, Repeat};
        let (post, patch) = (Some((Method::POST, NewSession)), Method::PATCH);
        let mut tried = 0;
        for route in Route::ALL {
            let (documented, other) = match route {
                Route::Sessions | Route::CardSession => (post.clone(), AskSezzle),
                Route::SessionCard => (Some((patch.clone(), Repeat)), ReadSession),
                Route::Session => (None, ReadSession),
                Route::CardToken => (None, NewCard),
                Route::Order | Route::Checkout => (None, ReadOrder),
                Route::Capture | Route::Refund | Route::Release | Route::Reauthorize | Route::Upcharge => {
                    (None, ReadOrder)
                }
                Route::Customer | Route::Preapprove => (None, ReadCustomer),
                Route::Webhooks | Route::Webhook => (None, ListWebhooks),
                Route::WebhookTest => (Some((Method::POST, Repeat)), AskSezzle),
                Route::Authentication
                | Route::Customers
                | Route::CustomerOrder
                | Route::TokenSession
                | Route::TokenCustomer
                | Route::SettlementSummaries
                | Route::SettlementDetails
                | Route::OrdersReport
                | Route::InterestBalance
                | Route::InterestActivity
                | Route::FeatureFlag
                | Route::Configuration
                | Route::WidgetQueue
                | Route::Other
                | Route::Version1 => (None, AskSezzle),
            };
            for method in METHODS {
                let expected = match &documented {
                    _ if *route == Route::CardToken => NewCard,
                    _ if is_safe(&method) => Repeat,
                    Some((known, remedy)) if *known == method => remedy.clone(),
                    _ => other.clone(),
                };
                for path in [path(*route), format!("{}/", path(*route))] {
                    assert_eq!(remedy(&method, &path), expected, "{method} {path}");
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, Route::ALL.len() * METHODS.len() * 2);
    }

    #[test]
    fn a_key_is_the_remedy_of_every_call_that_has_one() {
        let minted = HeaderValue::from_static("k");
        for route in Route::ALL {
            let matched = matched(&path(*route));
            assert_eq!(matched.remedy(&Method::POST, Key::Callers), Remedy::SameKey, "{route:?}");
            assert_eq!(matched.remedy(&Method::POST, Key::Minted(&minted)), Remedy::MintedKey(minted.clone()));
        }
    }

    #[test]
    fn an_unknown_call_below_an_order_or_a_session_leads_there() {
        assert_eq!(remedy(&Method::POST, "/v2/order/o/new/thing"), Remedy::ReadOrder);
        assert_eq!(remedy(&Method::POST, "/v2/Order/o/capture"), Remedy::ReadOrder);
        assert_eq!(remedy(&Method::POST, &format!("/v2/session/{UUID}/new")), Remedy::ReadSession);
        assert_eq!(remedy(&Method::GET, "/v2/order/o/new"), Remedy::Repeat);
    }
}
