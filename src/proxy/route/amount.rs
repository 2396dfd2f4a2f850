//! Where the body of a call says how much money the call moves. Pure.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};

use super::Route;
use crate::callers::amount::{Amount, Bounds, OutOfBounds};
use crate::callers::body;
use crate::method::is_safe;

/// The place of a call's amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountPlace {
    /// The call moves no money, or less than before.
    None,
    /// The amount stands at this path of members in the body, the outermost first; without members the body is the
    /// amount.
    Under(&'static [&'static str]),
    /// Sezzle documents no amount for this call, so it may move any.
    Unknown,
}

impl Route {
    pub fn amount_place(self, method: &Method) -> AmountPlace {
        if is_safe(method) {
            return AmountPlace::None;
        }
        // The one unsafe method that is documented for the call, and the place of the amount with it.
        let (documented, place) = match self {
            Self::Sessions => (Method::POST, AmountPlace::Under(&["order", "order_amount"])),
            Self::Capture => (Method::POST, AmountPlace::Under(&["capture_amount"])),
            Self::Upcharge => (Method::POST, AmountPlace::Under(&["upcharge_amount"])),
            Self::CustomerOrder => (Method::POST, AmountPlace::Under(&["order_amount"])),
            Self::Refund | Self::Reauthorize => (Method::POST, AmountPlace::Under(&[])),
            Self::Release | Self::Preapprove => (Method::POST, AmountPlace::None),
            Self::Configuration | Self::WidgetQueue => (Method::POST, AmountPlace::None),
            Self::Order | Self::SessionCard => (Method::PATCH, AmountPlace::None),
            // `PATCH` of a checkout may name a new amount for each way of shipping.
            Self::Checkout | Self::Customer => (Method::DELETE, AmountPlace::None),
            Self::Authentication | Self::Webhooks | Self::WebhookTest | Self::Webhook => return AmountPlace::None,
            Self::CardSession | Self::Session | Self::CardToken | Self::Customers => return AmountPlace::Unknown,
            Self::TokenSession | Self::TokenCustomer | Self::FeatureFlag => return AmountPlace::Unknown,
            Self::SettlementSummaries | Self::SettlementDetails | Self::OrdersReport => return AmountPlace::Unknown,
            Self::InterestBalance | Self::InterestActivity => return AmountPlace::Unknown,
            Self::Other | Self::Version1 => return AmountPlace::Unknown,
        };
        if *method == documented { place } else { AmountPlace::Unknown }
    }

    /// Checks whether a call with this body stays within the bounds of its caller.
    pub fn check_amount(self, head: &Parts, body: &[u8], bounds: &Bounds) -> Result<(), OutOfBounds> {
        match self.amount_place(&head.method) {
            AmountPlace::None => Ok(()),
            AmountPlace::Under(_) | AmountPlace::Unknown => bounds.check(self.amount(head, body)),
        }
    }

    /// The amount that a call with this body moves. `None` unless every server would read the same amount.
    pub fn amount(self, head: &Parts, body: &[u8]) -> Option<Amount> {
        match self.amount_place(&head.method) {
            AmountPlace::Under(members) if is_json_alone(head) => body::read(body, members),
            AmountPlace::Under(_) | AmountPlace::None | AmountPlace::Unknown => None,
        }
    }
}

/// Whether a server can read the call only as JSON in UTF-8. The same bytes can be JSON with a small amount and a form
/// with a large one, and a server may take an amount from the query as well.
fn is_json_alone(Parts { uri, headers, .. }: &Parts) -> bool {
    uri.query().is_none_or(str::is_empty)
        && all(headers, CONTENT_ENCODING, |coding| coding.eq_ignore_ascii_case("identity"))
        && headers.get_all(CONTENT_TYPE).iter().count() <= 1
        && all(headers, CONTENT_TYPE, is_utf8_json)
}

fn all(headers: &HeaderMap, name: HeaderName, is_right: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(|text| is_right(text.trim())))
}

fn is_utf8_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = |parameter: &str| {
        ["", "charset=utf-8", "charset=\"utf-8\"", "charset=utf8"].iter().any(|one| parameter.eq_ignore_ascii_case(one))
    };
    is_json && parts.all(is_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSAFE: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

    #[test]
    fn the_place_of_every_amount() {
        for (route, place) in [
            (Route::Sessions, AmountPlace::Under(&["order", "order_amount"])),
            (Route::Capture, AmountPlace::Under(&["capture_amount"])),
            (Route::Refund, AmountPlace::Under(&[])),
            (Route::Reauthorize, AmountPlace::Under(&[])),
            (Route::Upcharge, AmountPlace::Under(&["upcharge_amount"])),
            (Route::CustomerOrder, AmountPlace::Under(&["order_amount"])),
            (Route::Release, AmountPlace::None),
            (Route::CardSession, AmountPlace::Unknown),
            (Route::Other, AmountPlace::Unknown),
            (Route::Version1, AmountPlace::Unknown),
        ] {
            assert_eq!(route.amount_place(&Method::POST), place, "{route:?}");
            // No other unsafe method is documented for these.
            for method in UNSAFE.iter().filter(|method| **method != Method::POST) {
                assert_eq!(route.amount_place(method), AmountPlace::Unknown, "{method} {route:?}");
            }
        }
        for route in Route::ALL {
            for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                assert_eq!(route.amount_place(&method), AmountPlace::None, "{method} {route:?}");
            }
        }
    }

    #[test]
    fn a_body_is_checked_where_its_amount_stands() {
        let bounds = Bounds::new(vec![Amount::parse("5.00 USD").expect("an amount")]).expect("bounds");
        let (head, ()) = http::Request::post("/v2/x").body(()).expect("a request").into_parts();
        let check = |route: Route, body: &str| route.check_amount(&head, body.as_bytes(), &bounds);
        assert_eq!(check(Route::Refund, r#"{"amount_in_cents":500,"currency":"USD"}"#), Ok(()));
        assert_eq!(check(Route::Refund, r#"{"amount_in_cents":501,"currency":"USD"}"#), Err(OutOfBounds::Larger));
        assert_eq!(check(Route::Refund, r#"{"amount_in_cents":1,"currency":"CAD"}"#), Err(OutOfBounds::OtherCurrency));
        assert_eq!(check(Route::Capture, r#"{"amount_in_cents":1,"currency":"USD"}"#), Err(OutOfBounds::Unreadable));
        assert_eq!(check(Route::Release, "anything"), Ok(()));
        assert_eq!(check(Route::Other, r#"{"amount_in_cents":1,"currency":"USD"}"#), Err(OutOfBounds::Unreadable));
    }

    #[test]
    fn a_body_that_may_be_read_as_anything_but_json_has_no_amount() {
        let bounds = Bounds::new(vec![Amount::parse("5.00 USD").expect("an amount")]).expect("bounds");
        let check = |query: &str, lines: &[(&str, &str)]| {
            let request = http::Request::post(format!("/v2/order/o/refund{query}"));
            let request = lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let (head, ()) = request.body(()).expect("a request").into_parts();
            Route::Refund.check_amount(&head, br#"{"amount_in_cents":1,"currency":"USD"}"#, &bounds).is_ok()
        };
        for media_type in [
            "application/json",
            "Application/JSON;charset=UTF-8",
            "application/json; charset=\"utf-8\"",
            "application/json;",
            " application/json ; charset=utf8",
        ] {
            assert!(check("", &[("content-type", media_type)]), "{media_type}");
        }
        assert!(check("", &[]) && check("?", &[]) && check("", &[("content-encoding", "Identity")]));
        for media_type in [
            "",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=a",
            "text/xml",
            "application/json; charset=utf-16",
            "application/json; charset=utf-7",
            "application/json, text/xml",
        ] {
            assert!(!check("", &[("content-type", media_type)]), "{media_type}");
        }
        let json = ("content-type", "application/json");
        for lines in [[json, json], [json, ("content-type", "text/xml")], [json, ("content-encoding", "gzip")]] {
            assert!(!check("", &lines), "{lines:?}");
        }
        assert!(!check("?amount_in_cents=99999999", &[json]));
    }
}
