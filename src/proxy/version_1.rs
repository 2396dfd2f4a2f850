//! Calls of Sezzle's older API, below `/v1/`. A client that takes the sidecar for the gateway may make some.

use super::error::ProxyError;
use super::route::{Matched, Route};

/// Finds the call of a path outside `/v2/`. `forward` is the setting `proxy.v1`. An exchange of keys is never let
/// through: its keys would go to Sezzle, and a token would come back.
pub fn match_version_1(forward: bool, path: &str) -> Result<Matched, ProxyError> {
    let matched = Matched::version_1(path).ok_or(ProxyError::NotFound(ELSEWHERE))?;
    match matched.route {
        _ if !forward => Err(ProxyError::NotFound(REFUSED)),
        Route::Authentication => Err(ProxyError::NotFound(EXCHANGE)),
        _ => Ok(matched),
    }
}

const ELSEWHERE: &str = "this sidecar serves only paths under /v2/";
const REFUSED: &str = "this sidecar serves only paths under /v2/, and passes calls of version 1 on only with proxy.v1 = \
                       \"forward\"; it sent nothing to Sezzle";
const EXCHANGE: &str = "this sidecar passes on no exchange of keys of version 1; exchange the keys at POST \
                        /v2/authentication; it sent nothing to Sezzle";

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::route::Class;
    use super::*;
    use crate::session::invalidation::Tag;
    use crate::upstream::retry::RetrySafety;

    fn admitted(forward: bool, path: &str) -> Result<Route, &'static str> {
        match_version_1(forward, path).map(|matched| matched.route).map_err(|error| match error {
            ProxyError::NotFound(why) => why,
            other => panic!("{other:?} for {path}"),
        })
    }

    #[test]
    fn each_path_outside_version_2_has_its_answer() {
        use Route::{CardToken, Version1};
        for (path, refusing, forwarding) in [
            ("/v1/logs/merchant", REFUSED, Ok(Version1)),
            ("/v1/merchant_data/woocommerce/merchant", REFUSED, Ok(Version1)),
            ("/v1/checkouts/o-1/complete", REFUSED, Ok(Version1)),
            ("/v1/orders/o-1/refund/", REFUSED, Ok(Version1)),
            ("/v1/session", REFUSED, Ok(Version1)),
            ("/v1/", REFUSED, Ok(Version1)),
            ("/v1/authentications", REFUSED, Ok(Version1)),
            ("/v1/authentication", REFUSED, Err(EXCHANGE)),
            ("/v1/authentication/", REFUSED, Err(EXCHANGE)),
            ("/v1/authentication/more/of/it", REFUSED, Err(EXCHANGE)),
            ("/v1/AUTHENTICATION", REFUSED, Err(EXCHANGE)),
            ("/v1/authent\u{131}cation", REFUSED, Err(EXCHANGE)),
            ("/v1/authent%C4%B1cation/x", REFUSED, Err(EXCHANGE)),
            ("/v1/Session/CARD/token/t", REFUSED, Ok(CardToken)),
            ("/v1/%C5%BFession/card/to%E2%84%AAen/t", REFUSED, Ok(CardToken)),
            ("/v1", ELSEWHERE, Err(ELSEWHERE)),
            ("/V1/logs/merchant", ELSEWHERE, Err(ELSEWHERE)),
            ("/v1.0/logs", ELSEWHERE, Err(ELSEWHERE)),
            ("/v11/logs", ELSEWHERE, Err(ELSEWHERE)),
            ("/v3/session", ELSEWHERE, Err(ELSEWHERE)),
            ("/", ELSEWHERE, Err(ELSEWHERE)),
            ("*", ELSEWHERE, Err(ELSEWHERE)),
        ] {
            assert_eq!(admitted(false, path), Err(refusing), "{path}");
            assert_eq!(admitted(true, path), forwarding, "{path}");
        }
    }

    #[test]
    fn a_write_is_one_that_may_move_money_and_is_sent_once() {
        let matched = match_version_1(true, "/v1/checkouts/o-1/complete").expect("a call");
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(matched.route.class(&method), Class::Money, "{method}");
            assert_eq!(matched.retry_safety(&method), RetrySafety::Unkeyed, "{method}");
            assert!(!matched.route.is_keyed(&method), "{method}");
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(matched.route.class(&method), Class::Read, "{method}");
            assert_eq!(matched.retry_safety(&method), RetrySafety::Safe, "{method}");
        }
        assert!(!matched.route.carries_links() && !matched.route.judges_token() && !matched.route.is_known());
    }

    #[test]
    fn a_call_names_what_it_changes_and_nothing_for_the_log() {
        let uuid = "fadbc642-05a4-4e38-9e74-80e325623af9";
        let session = uuid.parse().ok().map(Tag::Session);
        for (path, purges) in [
            ("order/o-1/refund", Some(Tag::order("o-1"))),
            ("Order/o-1", Some(Tag::order("o-1"))),
            ("token/T/session", Some(Tag::token("t"))),
            (&*format!("session/{uuid}"), session),
            ("orders/o-1/refund", None),
            ("checkouts/o-1/complete", None),
            ("logs/merchant", None),
            ("session", None),
        ] {
            let matched = match_version_1(true, &format!("/v1/{path}")).expect("a call");
            assert_eq!(matched.purges(), purges, "{path}");
            assert_eq!((matched.session(), matched.order()), (None, None), "{path}");
        }
    }
}
