//! Values of `[[callers]]`.

use rustls::pki_types::ServerName;

use super::{Parsed, nearest};
use crate::callers::amount::Amount;
use crate::callers::permission::Permissions;

/// A word of `allow`.
pub(in crate::config) fn permissions(text: &str) -> Parsed<Permissions> {
    Permissions::from_word(text).ok_or_else(|| match intended_word(text) {
        Some(known) => format!("expected a word for what a caller may do; did you mean {known:?}?"),
        None => "expected a word for what a caller may do".to_owned(),
    })
}

/// The word that the author of a mistaken word seems to have meant. An author who follows the hint must not give more
/// rights than intended, so a word for many rights is a hint only if one letter is wrong.
fn intended_word(text: &str) -> Option<&'static str> {
    let trimmed = text.trim();
    let same = Permissions::words().find(|word| word.eq_ignore_ascii_case(trimmed));
    let letters = |word: &str| strsim::damerau_levenshtein(trimmed, word);
    let is_near = |word: &&str| match *word {
        "all" | "other" => letters(word) <= 1,
        _ => letters(word).saturating_mul(2) <= word.len(),
    };
    same.or_else(|| nearest(trimmed, Permissions::words().filter(is_near)))
}

/// A bound of `max_amount`.
pub(in crate::config) fn amount(text: &str) -> Parsed<Amount> {
    Amount::parse(text).ok_or_else(|| "expected an amount and its currency, such as \"500.00 USD\"".to_owned())
}

pub(in crate::config) fn uid(text: &str) -> Parsed<u32> {
    // The last number stands for no user.
    let uid = text.parse().ok().filter(|uid| *uid != u32::MAX);
    uid.ok_or_else(|| format!("expected the number of a user, from 0 to {}", u32::MAX - 1))
}

/// A DNS name or a URI of a certificate.
pub(in crate::config) fn certificate_name(text: &str) -> Parsed<String> {
    let is_uri = text.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
            && rest.chars().all(|c| c.is_ascii_graphic())
    });
    if text.len() <= LONGEST_NAME && is_uri {
        return Ok(text.to_owned());
    }
    match ServerName::try_from(text) {
        Ok(ServerName::DnsName(name)) => Ok(name.as_ref().to_ascii_lowercase()),
        _ => Err("expected a DNS name or a URI of the certificate, such as \"till.shop.internal\" or \
                  \"spiffe://shop.internal/till\""
            .to_owned()),
    }
}

// The longest SPIFFE id.
const LONGEST_NAME: usize = 2048;

/// A public key that clients send. The form of Sezzle's public keys is allowed, because some clients check the form. A
/// private key of Sezzle's is refused.
pub(in crate::config) fn public_key(text: &str) -> Parsed<String> {
    let is_plain = !text.is_empty() && text.len() <= LONGEST_KEY && text.chars().all(|c| c.is_ascii_graphic());
    if !is_plain || text.to_ascii_lowercase().contains("sz_pr_") {
        return Err("expected a public key: printable ASCII without white space".to_owned());
    }
    Ok(text.to_owned())
}

const LONGEST_KEY: usize = 256;

/// The name of a caller. The name is a label of metrics and a field of the log.
pub(in crate::config) fn caller_name(text: &str) -> Parsed<String> {
    super::word(text).ok().filter(|name| name.len() <= LONGEST_CALLER).ok_or_else(|| {
        format!("expected a word of at most {LONGEST_CALLER} letters, digits, hyphens, underscores and dots")
    })
}

const LONGEST_CALLER: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_callers() {
        let wrong = permissions("order.reed").expect_err("no word");
        assert!(wrong.ends_with("did you mean \"order.read\"?"), "{wrong}");
        for (wrong, hint) in [
            ("READ", Some("read")),
            ("Order.Read", Some("order.read")),
            (" capture", Some("capture")),
            ("all ", Some("all")),
            ("ALL", Some("all")),
            ("al", Some("all")),
            ("alll", Some("all")),
            ("chekout", Some("checkout")),
            ("order", Some("order.read")),
            ("session", Some("session.read")),
            ("", None),
            (" ", None),
            ("*", None),
            ("a", None),
            ("every", None),
            ("allow", None),
            ("anything at all", None),
        ] {
            let said = permissions(wrong).expect_err(wrong);
            let hint = hint.map(|hint| format!("did you mean {hint:?}?"));
            assert_eq!(said.split_once("; ").map(|(_, hint)| hint.to_owned()), hint, "{wrong:?}");
        }
        assert_eq!(uid("0"), Ok(0));
        assert_eq!(uid("4294967294"), Ok(4_294_967_294));
        for wrong in ["", "-1", "4294967295", "root", "1.0"] {
            assert!(uid(wrong).is_err(), "{wrong}");
        }
        assert_eq!(certificate_name("Till.Shop.Internal"), Ok("till.shop.internal".to_owned()));
        assert_eq!(certificate_name("spiffe://Shop/ns/till"), Ok("spiffe://Shop/ns/till".to_owned()));
        for wrong in ["", "*.shop", "a b", "10.0.0.1", "spiffe://", "://a", "spiffe://a b", "1://a"] {
            assert!(certificate_name(wrong).is_err(), "{wrong}");
        }
        assert!(public_key("sz_pub_x").is_ok() && public_key("any:thing").is_ok());
        for wrong in ["", "a b", "sz_pr_x", "x sz_pr_x", "\u{e9}", &"x".repeat(257)] {
            assert!(public_key(wrong).is_err(), "{wrong}");
        }
        assert!(caller_name(&"x".repeat(32)).is_ok() && caller_name("till-1.shop_a").is_ok());
        for wrong in ["", "a b", "a\"b", "caf\u{e9}", &"x".repeat(33)] {
            assert!(caller_name(wrong).is_err(), "{wrong}");
        }
    }
}
