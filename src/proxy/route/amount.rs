//! Where the body of a call says how much money the call moves. Pure.

use http::Method;

use super::Route;
use crate::callers::amount::{Beyond, Bounds};
use crate::callers::body;
use crate::method::is_safe;

/// The place of a call's amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountPlace {
    /// The call moves no money, or less than before.
    None,
    /// The amount stands under these members of the body, one in the other; without members it is the body itself.
    Under(&'static [&'static str]),
    /// Nothing is documented, so the call may move any amount.
    Unknown,
}

impl Route {
    pub fn amount_place(self, method: &Method) -> AmountPlace {
        match (self, method.as_str()) {
            _ if is_safe(method) => AmountPlace::None,
            (Self::Sessions, "POST") => AmountPlace::Under(&["order", "order_amount"]),
            (Self::Capture, "POST") => AmountPlace::Under(&["capture_amount"]),
            (Self::Upcharge, "POST") => AmountPlace::Under(&["upcharge_amount"]),
            (Self::CustomerOrder, "POST") => AmountPlace::Under(&["order_amount"]),
            (Self::Refund | Self::Reauthorize, "POST") => AmountPlace::Under(&[]),
            (Self::Order, "PATCH") | (Self::Checkout, "PATCH" | "DELETE") | (Self::Customer, "DELETE") => {
                AmountPlace::None
            }
            (Self::Release | Self::Preapprove | Self::Configuration | Self::WidgetQueue, "POST") => AmountPlace::None,
            (Self::SessionCard, "PATCH") => AmountPlace::None,
            (Self::Authentication | Self::Webhooks | Self::WebhookTest | Self::Webhook, _) => AmountPlace::None,
            (_, _) => AmountPlace::Unknown,
        }
    }

    /// Whether a call with this body stays within the bounds of its caller.
    pub fn check_amount(self, method: &Method, body: &[u8], bounds: &Bounds) -> Result<(), Beyond> {
        match self.amount_place(method) {
            AmountPlace::None => Ok(()),
            AmountPlace::Under(members) => bounds.check(body::read(body, members)),
            AmountPlace::Unknown => Err(Beyond::Unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::amount::Amount;

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
        let check = |route: Route, body: &str| route.check_amount(&Method::POST, body.as_bytes(), &bounds);
        assert_eq!(check(Route::Refund, r#"{"amount_in_cents":500,"currency":"USD"}"#), Ok(()));
        assert_eq!(check(Route::Refund, r#"{"amount_in_cents":501,"currency":"USD"}"#), Err(Beyond::Larger));
        assert_eq!(check(Route::Refund, r#"{"amount_in_cents":1,"currency":"CAD"}"#), Err(Beyond::OtherCurrency));
        assert_eq!(check(Route::Capture, r#"{"amount_in_cents":1,"currency":"USD"}"#), Err(Beyond::Unreadable));
        assert_eq!(check(Route::Release, "anything"), Ok(()));
        assert_eq!(check(Route::Other, r#"{"amount_in_cents":1,"currency":"USD"}"#), Err(Beyond::Unreadable));
    }
}
