//! Recognises Sezzle's errors, as opposed to those of an intermediary such as a firewall.

use serde::Deserialize;
use serde_json::Value;

/// Whether a body has the form of Sezzle's errors: an object with a `code`, or an array that begins with one.
pub fn is_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Body {
        Many(Vec<One>),
        One(One),
    }
    #[derive(Deserialize)]
    struct One {
        code: Value,
    }
    let first = match serde_json::from_slice(body) {
        Ok(Body::Many(many)) => many.into_iter().next(),
        Ok(Body::One(one)) => Some(one),
        Err(_) => None,
    };
    first.is_some_and(|one| one.code.is_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sezzle_writes_and_what_others_do() {
        for (body, expected) in [
            (r#"[{"code": "invalid", "location": "a", "message": "b", "debug_uuid": "c"}]"#, true),
            (r#"{"code": "bad_request", "message": "bad request"}"#, true),
            (r#"[{"code":"unauthed_checkout_url","message":"https://a"}]"#, true),
            (r#"{"message":"Forbidden"}"#, false),
            (r#"{"code":1020,"error":"access denied"}"#, false),
            ("[]", false),
            ("{}", false),
            ("null", false),
            ("\"code\"", false),
            ("404 page not found", false),
            ("<html>you have been blocked</html>", false),
            ("", false),
        ] {
            assert_eq!(is_error(body.as_bytes()), expected, "{body}");
        }
    }
}
