//! The path of a request as the log may show it: pure.
//!
//! A path may hold a token, a customer's identifier or anything that a caller put there by mistake. Only segments that
//! look like words of an API are shown, which is enough to find a wrong base URL.

use super::route::Matched;
use crate::telemetry::log::excerpt::LONGEST;

/// The path of a request for the log, up to [`LONGEST`] bytes: the template of a known call, otherwise the path itself
/// with `{…}` in place of each segment that is no word.
pub fn shown_path(path: &str) -> String {
    let known = Matched::path(path).map(|matched| matched.route).filter(|route| route.is_known());
    known.map_or_else(|| words_of(path), |route| route.template().to_owned())
}

fn words_of(path: &str) -> String {
    let mut shown = String::with_capacity(LONGEST);
    let mut before = "";
    for (place, segment) in path.split('/').enumerate() {
        if place > 0 {
            shown.push('/');
        }
        shown.push_str(if is_word(segment) && !names_a_secret(before) { segment } else { "{}" });
        before = segment;
        if shown.len() >= LONGEST {
            break;
        }
    }
    shown.truncate(LONGEST);
    shown
}

/// Whether a segment looks like a word of an API, and like no identifier, address or key.
fn is_word(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let plain = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~*".contains(&byte));
    segment.len() <= LONGEST_WORD && digits <= MOST_DIGITS && plain && !segment.contains("sz_p")
}

/// Whether the segment after this one may be a token or a customer, whatever it looks like.
fn names_a_secret(segment: &str) -> bool {
    let segment = segment.to_ascii_lowercase();
    segment.contains("token") || segment.contains("customer") || segment.contains('%')
}

const LONGEST_WORD: usize = 32;
// A version such as `v2` has digits, and so do most identifiers.
const MOST_DIGITS: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_shows_what_was_meant_and_no_identifier() {
        for (path, shown) in [
            ("/", "/"),
            ("*", "*"),
            ("/session", "/session"),
            ("/session/6c9db5d4-d09a-4224-860a-b5438ac32ca8", "/session/{}"),
            ("/v1/order/6c9db5d4-d09a-4224-860a-b5438ac32ca8/capture", "/v1/order/{}/capture"),
            ("/v2/order/6c9db5d4-d09a-4224-860a-b5438ac32ca8/capture", "/v2/order/{order}/capture"),
            ("/v2/settlements/details/hidden", "/v2/settlements/details/{payout}"),
            ("/v2/new/call", "/v2/new/call"),
            ("/api/v2/customer/secret/order", "/api/v2/customer/{}/order"),
            ("/session/card/token/secret", "/session/card/token/{}"),
            ("/v2/v2/Session/CARD/Token/secret", "/v2/v2/Session/CARD/Token/{}"),
            ("/%74oken/secret", "/{}/{}"),
            ("/orders/shopper@example.com", "/orders/{}"),
            ("/auth/sz_pr_secret", "/auth/{}"),
            ("/auth/4111111111111111", "/auth/{}"),
            ("//v2//session", "//v2//session"),
            ("/metrics;x", "/{}"),
        ] {
            assert_eq!(shown_path(path), shown, "{path}");
        }
        let long = shown_path(&"/word".repeat(100));
        assert!("/word".repeat(100).starts_with(&long) && long.len() == LONGEST, "{long}");
    }

    proptest! {
        #[test]
        fn nothing_longer_or_unprintable_is_shown(path in "[ -~\u{e9}]{0,200}") {
            let shown = shown_path(&path);
            prop_assert!(shown.len() <= LONGEST && shown.bytes().all(|byte| byte.is_ascii_graphic()), "{}", shown);
        }

        #[test]
        fn what_follows_a_token_is_never_shown(secret in "[a-z]{8,30}", base in "(/[a-z]{1,6}){0,3}") {
            let path = format!("{base}/token/{secret}");
            prop_assert!(!shown_path(&path).contains(&secret), "{}", path);
        }
    }
}
