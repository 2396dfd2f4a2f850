//! Which call of Sezzle's v2 API a request is: pure, from method and path alone.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use crate::session::invalidation::Tag;
use crate::telemetry::metrics::{OTHER_ROUTE, label};

/// A call of the v2 surface, or `Other`. Identifiers are opaque and not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/v2/authentication`
    Authentication,
    /// `/v2/session`
    Sessions,
    /// `/v2/session/{session}`
    Session,
    /// `/v2/order/{order}`
    Order,
    /// `/v2/order/{order}/checkout`
    Checkout,
    /// `/v2/order/{order}/capture`
    Capture,
    /// `/v2/order/{order}/refund`
    Refund,
    /// `/v2/order/{order}/release`
    Release,
    /// `/v2/order/{order}/reauthorize`
    Reauthorize,
    /// `/v2/order/{order}/upcharge`
    Upcharge,
    /// `/v2/customer`
    Customers,
    /// `/v2/customer/{customer}`
    Customer,
    /// `/v2/customer/{customer}/preapprove`
    Preapprove,
    /// `/v2/customer/{customer}/order`
    CustomerOrder,
    /// `/v2/token/{token}/session`
    TokenSession,
    /// `/v2/token/{token}/customer`
    TokenCustomer,
    /// `/v2/webhooks`
    Webhooks,
    /// `/v2/webhooks/test`
    WebhookTest,
    /// `/v2/webhooks/{webhook}`
    Webhook,
    /// `/v2/settlements/summaries`
    SettlementSummaries,
    /// `/v2/settlements/details/{payout}`
    SettlementDetails,
    /// `/v2/orders/report`
    OrdersReport,
    /// `/v2/interest/balance`
    InterestBalance,
    /// `/v2/interest/activity`
    InterestActivity,
    /// Any other path under `/v2/`.
    Other,
}

/// What kind of call it is: what it may cost to wait for it, and to send it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The cached lookup.
    Session,
    /// Other lookups.
    Read,
    /// Long lists and files.
    Report,
    /// Writes: may move money.
    Money,
    /// Webhook subscriptions.
    Webhooks,
    /// The token exchange.
    Credentials,
}

impl Class {
    /// The word for it in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Read => "read",
            Self::Report => "report",
            Self::Money => "money",
            Self::Webhooks => "webhooks",
            Self::Credentials => "credentials",
        }
    }
}

/// A path, matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Which call.
    pub route: Route,
    identifier: Identifier,
}

/// What the path names, where the call has something to name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identifier {
    None,
    /// A session, by a UUID in its usual form.
    Session(Uuid),
    /// Anything else, decoded.
    Text(Arc<str>),
}

impl Matched {
    /// Matches the path of a session by its UUID, which leaves no room for anything that had to be checked before.
    pub fn session_path(path: &str) -> Option<Self> {
        let session = usual_uuid(path.strip_prefix("/v2/session/")?)?;
        Some(Self { route: Route::Session, identifier: Identifier::Session(session) })
    }

    /// Matches the path of a request. `None` when it does not lie under `/v2/`.
    ///
    /// Expects a path that [`super::inbound`] has accepted.
    pub fn path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        // No call has more than three, and what has is none.
        let mut segments = ["", "", "", ""];
        let count = segments.iter_mut().zip(Segments(Some(rest))).map(|(segment, found)| *segment = found).count();
        let (route, identifier) = match *segments.get(..count)? {
            // Whatever it is, it may hold keys, and so goes no further than here.
            [first, ..] if first.eq_ignore_ascii_case("authentication") => (Route::Authentication, None),
            ["session"] => (Route::Sessions, None),
            ["session", session] => (Route::Session, Some(session)),
            // Whatever is done below an order is done to the order, a call that is not known yet too.
            ["order", order] => (Route::Order, Some(order)),
            ["order", order, "checkout"] => (Route::Checkout, Some(order)),
            ["order", order, "capture"] => (Route::Capture, Some(order)),
            ["order", order, "refund"] => (Route::Refund, Some(order)),
            ["order", order, "release"] => (Route::Release, Some(order)),
            ["order", order, "reauthorize"] => (Route::Reauthorize, Some(order)),
            ["order", order, "upcharge"] => (Route::Upcharge, Some(order)),
            ["customer"] => (Route::Customers, None),
            ["customer", customer] => (Route::Customer, Some(customer)),
            ["customer", customer, "preapprove"] => (Route::Preapprove, Some(customer)),
            ["customer", customer, "order"] => (Route::CustomerOrder, Some(customer)),
            ["token", token, "session"] => (Route::TokenSession, Some(token)),
            ["token", token, "customer"] => (Route::TokenCustomer, Some(token)),
            ["webhooks"] => (Route::Webhooks, None),
            ["webhooks", "test"] => (Route::WebhookTest, None),
            ["webhooks", webhook] => (Route::Webhook, Some(webhook)),
            ["settlements", "summaries"] => (Route::SettlementSummaries, None),
            ["settlements", "details", payout] => (Route::SettlementDetails, Some(payout)),
            ["orders", "report"] => (Route::OrdersReport, None),
            ["interest", "balance"] => (Route::InterestBalance, None),
            ["interest", "activity"] => (Route::InterestActivity, None),
            _ => (Route::Other, None),
        };
        // `/v2/order//capture` or `/v2/session/` name nothing.
        if identifier == Some("") {
            return Some(Self { route: Route::Other, identifier: Identifier::None });
        }
        let identifier = match identifier {
            None => Identifier::None,
            Some(text) => match usual_uuid(text).filter(|_| route == Route::Session) {
                Some(session) => Identifier::Session(session),
                None if !text.contains('%') => Identifier::Text(text.into()),
                None => Identifier::Text(percent_decode_str(text).decode_utf8_lossy().into()),
            },
        };
        Some(Self { route, identifier })
    }

    /// The identifier in the path, where the call has one.
    pub fn identifier(&self) -> Option<Cow<'_, str>> {
        match &self.identifier {
            Identifier::None => None,
            Identifier::Session(session) => Some(session.hyphenated().to_string().into()),
            Identifier::Text(text) => Some(text.as_ref().into()),
        }
    }

    /// The session a lookup is for, when its path names one by a UUID in its usual form.
    pub fn session(&self) -> Option<Uuid> {
        match self.identifier {
            Identifier::Session(session) => Some(session),
            Identifier::None | Identifier::Text(_) => None,
        }
    }

    /// The order that the call is about, where its identifier can be one of Sezzle's, which are made like UUIDs without
    /// always being some: a caller may have put anything in its place, and this goes to logs.
    pub fn order(&self) -> Option<&str> {
        use Route::{Capture, Checkout, Order, Reauthorize, Refund, Release, Upcharge};
        let about_one = matches!(self.route, Order | Checkout | Capture | Refund | Release | Reauthorize | Upcharge);
        let plain =
            |text: &&str| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        match &self.identifier {
            Identifier::Text(text) if about_one => Some(text.as_ref()).filter(plain),
            Identifier::None | Identifier::Session(_) | Identifier::Text(_) => None,
        }
    }

    /// What a write to `path` changes, as far as its URL tells: the tags to purge. The path decides, not the route,
    /// so that a write to an order that this program does not know yet is one all the same.
    pub fn written(path: &str) -> Option<Tag> {
        let mut segments = path.strip_prefix("/v2/")?.split('/');
        let collection = segments.next()?;
        let identifier = percent_decode_str(segments.next().filter(|text| !text.is_empty())?).decode_utf8_lossy();
        // A server that does not mind the case of a path would do it all the same.
        match collection.to_ascii_lowercase().as_str() {
            "order" => Some(Tag::order(&identifier)),
            "token" => Some(Tag::token(&identifier)),
            "session" => Uuid::try_parse(&identifier).ok().map(Tag::Session),
            _ => None,
        }
    }
}

/// The pieces of a path between slashes, as `split('/')` gives them in twice the time.
struct Segments<'p>(Option<&'p str>);

impl<'p> Iterator for Segments<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let path = self.0.take()?;
        let Some(slash) = path.bytes().position(|byte| byte == b'/') else { return Some(path) };
        let (segment, rest) = path.split_at_checked(slash)?;
        self.0 = rest.get(1..);
        Some(segment)
    }
}

/// A UUID of 36 characters: there are other forms, which Sezzle need not know.
fn usual_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

label!(Route, Route::Other, template);
label!(Class, Class::Credentials, as_str);

impl Route {
    /// The calls that may write, for metrics that start at 0: with an unsafe method each is a write, also where Sezzle
    /// documents none, but for the token exchange.
    pub const WRITES: [Self; 24] = [
        Self::Sessions,
        Self::Session,
        Self::Order,
        Self::Checkout,
        Self::Capture,
        Self::Refund,
        Self::Release,
        Self::Reauthorize,
        Self::Upcharge,
        Self::Customers,
        Self::Customer,
        Self::Preapprove,
        Self::CustomerOrder,
        Self::TokenSession,
        Self::TokenCustomer,
        Self::Webhooks,
        Self::WebhookTest,
        Self::Webhook,
        Self::SettlementSummaries,
        Self::SettlementDetails,
        Self::OrdersReport,
        Self::InterestBalance,
        Self::InterestActivity,
        Self::Other,
    ];

    /// The path's template, the label of this call in metrics and logs.
    pub fn template(self) -> &'static str {
        match self {
            Self::Authentication => "/v2/authentication",
            Self::Sessions => "/v2/session",
            Self::Session => "/v2/session/{session}",
            Self::Order => "/v2/order/{order}",
            Self::Checkout => "/v2/order/{order}/checkout",
            Self::Capture => "/v2/order/{order}/capture",
            Self::Refund => "/v2/order/{order}/refund",
            Self::Release => "/v2/order/{order}/release",
            Self::Reauthorize => "/v2/order/{order}/reauthorize",
            Self::Upcharge => "/v2/order/{order}/upcharge",
            Self::Customers => "/v2/customer",
            Self::Customer => "/v2/customer/{customer}",
            Self::Preapprove => "/v2/customer/{customer}/preapprove",
            Self::CustomerOrder => "/v2/customer/{customer}/order",
            Self::TokenSession => "/v2/token/{token}/session",
            Self::TokenCustomer => "/v2/token/{token}/customer",
            Self::Webhooks => "/v2/webhooks",
            Self::WebhookTest => "/v2/webhooks/test",
            Self::Webhook => "/v2/webhooks/{webhook}",
            Self::SettlementSummaries => "/v2/settlements/summaries",
            Self::SettlementDetails => "/v2/settlements/details/{payout}",
            Self::OrdersReport => "/v2/orders/report",
            Self::InterestBalance => "/v2/interest/balance",
            Self::InterestActivity => "/v2/interest/activity",
            Self::Other => OTHER_ROUTE,
        }
    }

    /// The class of a call with this method. An unsafe method is a write unless it is known to be something milder.
    pub fn class(self, method: &Method) -> Class {
        match self {
            Self::Authentication => Class::Credentials,
            Self::Webhooks | Self::WebhookTest | Self::Webhook => Class::Webhooks,
            _ if !method.is_safe() => Class::Money,
            Self::Session => Class::Session,
            _ if self.is_report() => Class::Report,
            _ => Class::Read,
        }
    }

    /// Whether answers of this call may carry `links` to the gateway. Reports never do, and are streamed untouched.
    pub fn carries_links(self) -> bool {
        self != Self::Authentication && !self.is_report()
    }

    /// Whether Sezzle documents `Sezzle-Request-Id` for this call: under one key it has one effect.
    pub fn is_keyed(self, method: &Method) -> bool {
        use Route::{Capture, CustomerOrder, Reauthorize, Refund, Release, Upcharge};
        method == Method::POST && matches!(self, Capture | Refund | Release | Reauthorize | Upcharge | CustomerOrder)
    }

    fn is_report(self) -> bool {
        matches!(
            self,
            Self::SettlementSummaries
                | Self::SettlementDetails
                | Self::OrdersReport
                | Self::InterestBalance
                | Self::InterestActivity
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "fadbc642-05a4-4e38-9e74-80e325623af9";

    fn route(path: &str) -> Option<Route> {
        Matched::path(path).map(|matched| matched.route)
    }

    #[test]
    fn every_documented_call_has_its_route_and_class() {
        let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
        for (method, path, expected, class) in [
            (&post, "/v2/authentication", Route::Authentication, Class::Credentials),
            (&post, "/v2/Authentication/", Route::Authentication, Class::Credentials),
            (&post, "/v2/session", Route::Sessions, Class::Money),
            (&get, "/v2/session/x", Route::Session, Class::Session),
            (&get, "/v2/order/12a-g", Route::Order, Class::Read),
            (&patch, "/v2/order/12a-g", Route::Order, Class::Money),
            (&delete, "/v2/order/o/checkout", Route::Checkout, Class::Money),
            (&post, "/v2/order/o/capture", Route::Capture, Class::Money),
            (&post, "/v2/order/o/refund", Route::Refund, Class::Money),
            (&post, "/v2/order/o/release", Route::Release, Class::Money),
            (&post, "/v2/order/o/reauthorize", Route::Reauthorize, Class::Money),
            (&post, "/v2/order/o/upcharge", Route::Upcharge, Class::Money),
            (&get, "/v2/customer", Route::Customers, Class::Read),
            (&get, "/v2/customer/c", Route::Customer, Class::Read),
            (&delete, "/v2/customer/c", Route::Customer, Class::Money),
            (&post, "/v2/customer/c/preapprove", Route::Preapprove, Class::Money),
            (&post, "/v2/customer/c/order", Route::CustomerOrder, Class::Money),
            (&get, "/v2/token/t/session", Route::TokenSession, Class::Read),
            (&get, "/v2/token/t/customer", Route::TokenCustomer, Class::Read),
            (&post, "/v2/webhooks", Route::Webhooks, Class::Webhooks),
            (&get, "/v2/webhooks", Route::Webhooks, Class::Webhooks),
            (&post, "/v2/webhooks/test", Route::WebhookTest, Class::Webhooks),
            (&delete, "/v2/webhooks/w", Route::Webhook, Class::Webhooks),
            (&get, "/v2/settlements/summaries", Route::SettlementSummaries, Class::Report),
            (&get, "/v2/settlements/details/p", Route::SettlementDetails, Class::Report),
            (&get, "/v2/orders/report", Route::OrdersReport, Class::Report),
            (&get, "/v2/interest/balance", Route::InterestBalance, Class::Report),
            (&get, "/v2/interest/activity", Route::InterestActivity, Class::Report),
            (&get, "/v2/new/thing", Route::Other, Class::Read),
            (&post, "/v2/new/thing", Route::Other, Class::Money),
            (&post, "/v2/order/o/new", Route::Other, Class::Money),
            (&get, "/v2/order//capture", Route::Other, Class::Read),
            (&get, "/v2/session/", Route::Other, Class::Read),
        ] {
            assert_eq!(route(path), Some(expected), "{path}");
            assert_eq!(expected.class(method), class, "{method} {path}");
        }
        for path in ["/", "/v2", "/v1/session", "/V2/session", "/v22/session", ""] {
            assert_eq!(route(path), None, "{path}");
        }
    }

    #[test]
    fn only_a_uuid_in_its_usual_form_names_a_cached_session() {
        let session = |path: &str| Matched::path(path).and_then(|matched| matched.session());
        let uuid = Uuid::try_parse(UUID).ok();
        assert_eq!(session(&format!("/v2/session/{UUID}")), uuid);
        assert_eq!(session(&format!("/v2/session/{}", UUID.to_uppercase())), uuid, "one key in either case");
        assert_eq!(session(&format!("/v2/session/{}", UUID.replace('-', ""))), None);
        assert_eq!(session(&format!("/v2/session/{{{UUID}}}")), None);
        assert_eq!(session(&format!("/v2/order/{UUID}")), None);
        assert_eq!(session("/v2/session/12a34bc5-6de7-890f-g123-4hi1238jk902"), None);
    }

    #[test]
    fn the_calls_that_document_a_key() {
        for path in ["order/o/capture", "order/o/refund", "order/o/release", "order/o/reauthorize", "order/o/upcharge"]
            .into_iter()
            .chain(["customer/c/order"])
        {
            let route = Matched::path(&format!("/v2/{path}")).expect("a call").route;
            assert!(route.is_keyed(&Method::POST), "{path}");
            assert!(!route.is_keyed(&Method::PATCH) && !route.is_keyed(&Method::GET), "{path}");
        }
        for path in ["session", "order/o", "order/o/checkout", "customer/c", "customer/c/preapprove", "webhooks", "new"]
        {
            let route = Matched::path(&format!("/v2/{path}")).expect("a call").route;
            assert!(!route.is_keyed(&Method::POST), "{path}");
        }
    }

    #[test]
    fn a_write_names_what_it_changes() {
        let order = Some(Tag::order("12a-g"));
        for path in ["/v2/order/12a-g", "/v2/order/12a-G/capture", "/v2/ORDER/12a-g/new/call/"] {
            assert_eq!(Matched::written(path), order, "{path}");
        }
        assert_eq!(Matched::written("/v2/token/T/x"), Some(Tag::token("t")));
        assert_eq!(Matched::written(&format!("/v2/session/{UUID}")), Uuid::try_parse(UUID).ok().map(Tag::Session));
        for path in ["/v2/session", "/v2/session/x", "/v2/customer/c/order", "/v2/order/", "/other"] {
            assert_eq!(Matched::written(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_paths_never_panic(path in "\\PC{0,80}", tail in "[a-z%0-9/]{0,40}") {
            let _ = Matched::path(&path);
            let _ = Matched::path(&format!("/v2/{tail}")).map(|matched| matched.session());
            let _ = Matched::written(&format!("/v2/order/{tail}"));
        }
    }
}
