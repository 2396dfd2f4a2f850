//! The decisions when a request arrives: whether it is admitted, under which rights it is sent, and whether memory
//! answers it.
//!
//! Without `[[callers]]`, every program that reaches the listener acts as the merchant. So a request is refused unless
//! it is plainly meant for the sidecar. A request that is refused here does not reach Sezzle.

use http::header::{TRANSFER_ENCODING, VIA};
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::arrival::shown_host;
use super::decision::{Call, Decision, Missed, Rights};
use super::error::ProxyError;
use super::options::Options;
use super::presence::HeaderPresence;
use super::record::Record;
use super::route::{Class, Matched};
use super::stored::from_hit;
use super::version_1::match_version_1;
use super::{Proxy, card_data};
use crate::caller::{Caller, Hosts, Refusal};
use crate::callers::named::KnownCaller;
use crate::clock::Now;
use crate::session::freshness::RequestDirectives;
use crate::session::{CacheResult, Found};
use crate::upstream::PSEUDONYM;

/// Longest path and query that is accepted, in bytes.
pub const MAX_TARGET: usize = 4096;

impl Proxy {
    /// Makes all decisions that need no wait.
    pub(super) fn decide(
        &self,
        head: &Parts,
        present: HeaderPresence,
        caller: &Caller,
        record: &mut Record,
    ) -> Result<Decision, ProxyError> {
        let (matched, class) = self.admit(head, present, caller, record)?;
        self.ask_memory(head, present, matched, class, record.began, record)
    }

    /// Admits the request, and finds its call.
    pub(super) fn admit(
        &self,
        head: &Parts,
        present: HeaderPresence,
        caller: &Caller,
        record: &mut Record,
    ) -> Result<(Matched, Class), ProxyError> {
        let Options { hosts, forwarded, .. } = &self.options;
        let matched = match_request(hosts, forwarded.version_1, head, present, caller).inspect_err(|error| {
            if matches!(error, ProxyError::NotFound(_)) {
                self.unserved_paths.warn(head, record.began.mono);
            }
        })?;
        let class = matched.route.class(&head.method);
        record.admitted(matched.clone(), class);
        // Strangers may exchange keys, but the sidecar waits for no body that a stranger sends with another method.
        if class == Class::Credentials && head.method != Method::POST {
            return Err(ProxyError::MethodNotAllowed("POST"));
        }
        if let Some(callers) = &self.options.callers {
            self.check_caller(callers, head, present, caller, &matched, record)?;
        }
        Ok((matched, class))
    }

    /// Decides under which rights a call is made that had arrived whole at `at`, and whether memory answers it. A read of
    /// card data is refused here, if the configuration does not allow it.
    pub(super) fn ask_memory(
        &self,
        head: &Parts,
        present: HeaderPresence,
        matched: Matched,
        class: Class,
        at: Now,
        record: &Record,
    ) -> Result<Decision, ProxyError> {
        let rights = self.rights(head, present, record)?;
        // A caller with fewer rights than the merchant may not see the sessions in memory.
        let may_see = class == Class::Session && matches!(rights, Rights::Merchant);
        let session = matched.session().filter(|_| may_see && is_cacheable(head));
        let Some(session) = session else {
            if matched.route.is_card_data() {
                card_data::check(self.options.forwarded.card_data, &head.method)?;
            }
            return Ok(Decision::Call(Call { matched, class, rights, at, missed: None }));
        };
        let directives = if present.cache_directives {
            RequestDirectives::read(&head.headers)
        } else {
            RequestDirectives::default()
        };
        let (result, by_request) = match self.sessions.find(session, &directives, at) {
            Found::Fresh(hit) => {
                record.sink.series.looked_up(CacheResult::Hit);
                return Ok(Decision::Answer(from_hit(head, present, &hit, record)));
            }
            Found::Unwanted => (CacheResult::Miss, true),
            Found::Stale => (CacheResult::Expired, false),
            Found::Absent => (CacheResult::Miss, directives.no_cache || directives.no_store),
        };
        let missed = Some(Missed { session, directives, result, by_request });
        Ok(Decision::Call(Call { matched, class, rights, at, missed }))
    }

    #[inline]
    fn rights(&self, head: &Parts, present: HeaderPresence, record: &Record) -> Result<Rights, ProxyError> {
        // The token of a caller is its only `Authorization`, and names no public key.
        let may_name_key = present.authorization && !record.caller.as_ref().is_some_and(KnownCaller::is_by_token);
        if may_name_key {
            self.authentication.rights(&head.headers, record.caller.as_ref())
        } else {
            Ok(Rights::Merchant)
        }
    }
}

/// Finds the call of a request that is plainly meant for the sidecar, and refuses any other. `forward_v1` is the setting
/// about version 1.
pub fn match_request(
    hosts: &Hosts,
    forward_v1: bool,
    head: &Parts,
    present: HeaderPresence,
    caller: &Caller,
) -> Result<Matched, ProxyError> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(ProxyError::MethodNotAllowed("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    // Before the check of the host, or a sidecar that reaches itself would hear of a wrong host and not of the loop.
    if present.via && head.headers.get_all(VIA).iter().any(|via| via.to_str().is_ok_and(names_a_sidecar)) {
        return Err(ProxyError::Loop);
    }
    hosts.check_host(head, caller).map_err(|refusal| host_error(refusal, head))?;
    if present.browser {
        return Err(Refusal::Browser.into());
    }
    if present.transfer_encoding && !is_chunked_once(&head.headers) {
        return Err(ProxyError::Malformed("the only transfer coding that the sidecar accepts is chunked, once"));
    }
    let path = head.uri.path();
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Err(ProxyError::TargetTooLong);
    }
    if let Some(matched) = Matched::session_path(path) {
        return Ok(matched);
    }
    if !is_plain(path) {
        check_path(path)?;
    }
    Matched::path(path).map_or_else(|| match_version_1(forward_v1, path), Ok)
}

/// The error for a refused host. The message quotes a host that is not ours, because nothing else shows a service its
/// own `Host`.
fn host_error(refusal: Refusal, head: &Parts) -> ProxyError {
    match (refusal, shown_host(head)) {
        (Refusal::Misdirected, host) if !host.is_empty() => ProxyError::Misdirected(
            format!("this sidecar does not answer for the Host {host:?} (see proxy.hosts)").into(),
        ),
        (refusal, _) => refusal.into(),
    }
}

fn is_chunked_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    chunked && codings.next().is_none()
}

/// Whether a path is made of letters, digits, hyphens, underscores and single slashes, as nearly all are: nothing in it
/// can be read in two ways.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    // Two loops without a way out, so that each takes sixteen bytes at a time.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'_' | b'/');
    let plain = bytes.iter().fold(true, |plain, byte| plain & is_plain(*byte));
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    let doubled = pairs.fold(false, |doubled, (one, next)| doubled | ((*one == b'/') & (*next == b'/')));
    plain & !doubled
}

/// Refuses a path that two parties could read differently, since the sidecar must know which call a write is.
fn check_path(path: &str) -> Result<(), ProxyError> {
    let refused = Err(ProxyError::Malformed("the path has empty, dot or ambiguously encoded segments"));
    // The first piece, before the leading slash, is skipped; a slash at the end leaves an empty last piece.
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return refused;
        }
        if !is_well_encoded(segment) {
            return refused;
        }
        let decoded: Vec<u8> = percent_decode_str(segment).collect();
        let ambiguous = decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | b'%' | b';' | 0x00..=0x1f | 0x7f));
        let padded = decoded.trim_ascii().len() != decoded.len();
        if ambiguous || padded || encodes_plain_letters(segment) || decoded == b"." || decoded == b".." {
            return refused;
        }
    }
    Ok(())
}

/// Whether a character is encoded that needs no encoding (RFC 3986, 2.3). No client does that, and `%6frder` would be
/// an order for Sezzle and an unknown word for the sidecar.
fn encodes_plain_letters(segment: &str) -> bool {
    let encoded = segment.split('%').skip(1).filter_map(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok());
    let mut plain = encoded.filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'));
    plain.next().is_some()
}

/// Whether every `%` is followed by two hexadecimal digits.
fn is_well_encoded(segment: &str) -> bool {
    segment.split('%').skip(1).all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

fn names_a_sidecar(via: &str) -> bool {
    via.split(',').any(|hop| hop.split_ascii_whitespace().nth(1) == Some(PSEUDONYM))
}

/// Only the plain lookup is cached: a query may ask for something else.
pub(super) fn is_cacheable(head: &Parts) -> bool {
    head.uri.query().is_none() && matches!(head.method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn matched(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Matched, &'static str> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("valid").into_parts();
        match_request(&Hosts::default(), true, &head, HeaderPresence::scan(&head.headers), &Caller::default())
            .map_err(|error| error.code())
    }

    #[test]
    fn browsers_loops_and_tunnels_are_refused() {
        let with = |name, value| matched("POST", "/v2/session", &[("host", "localhost"), (name, value)]);
        assert_eq!(with("origin", "null"), Err("browser_refused"));
        assert_eq!(matched("GET", "http://other.example/v2/customer", &[("host", "localhost")]), Err("misdirected"));
        assert_eq!(with("via", "1.1 other, 1.1 sezzle-sidecar (x)"), Err("loop_detected"));
        assert!(with("via", "1.1 not-sezzle-sidecar").is_ok());
        assert_eq!(with("transfer-encoding", "gzip, chunked"), Err("bad_request"));
        assert_eq!(matched("TRACE", "/v2/session", &[("host", "localhost")]), Err("method_not_allowed"));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for path in [
            "/v2//session",
            "//v2/session",
            "/v2/./session",
            "/v2/order/../session",
            "/v2/order/%2e%2E/x",
            "/v2/order/a%2Fcapture",
            "/v2/order/a%5cb",
            "/v2/order/a%00",
            "/v2/order/a%25b",
            "/v2/order/a%zz",
            "/v2/order/a%4",
            "/v2/%6frder/a/capture",
            "/v2/order/a%2Db",
            "/v2/order/a%20/capture",
            "/v2/authentication%20",
            "/v2/order/a;x=1/capture",
            "/v2/order;x/a%3bb",
            "//v1/logs",
            "/v1//logs",
            "/v1/./logs",
            "/v1/../v2/order/o/capture",
            "/v1/%2e%2e/v2/order/o/capture",
            "/v1/logs%2f..",
            "/v1/%61uthentication",
            "/v1/authentication%20",
            "/v1/authentication;x",
            "/%76%31/logs",
        ] {
            assert_eq!(matched("GET", path, &[("host", "localhost")]), Err("bad_request"), "{path}");
        }
        for path in ["/v2/session/", "/v2/order/a%20b", "/v2/customer?a=%2F..//", "/v1/logs/m", "/v1/"] {
            assert!(matched("GET", path, &[("host", "localhost")]).is_ok(), "{path}");
        }
        assert_eq!(matched("GET", "/metrics", &[("host", "localhost")]), Err("not_found"));
        let long = format!("/v2/customer?{}", "a".repeat(MAX_TARGET));
        assert_eq!(matched("GET", &long, &[("host", "localhost")]), Err("target_too_long"));
    }

    proptest! {
        #[test]
        fn arbitrary_paths_never_panic(path in "[ -~]{0,60}") {
            let _ = check_path(&path);
        }

        #[test]
        fn the_path_of_a_session_needs_no_check(path in "/v2/session/[a-fA-F0-9-]{36}") {
            let matched = Matched::session_path(&path);
            prop_assert!(matched.is_none() || (matched == Matched::path(&path) && check_path(&path).is_ok()), "{path}");
        }

        #[test]
        fn a_plain_path_needs_no_check(path in "[/a-z0-9_.%;~-]{0,12}") {
            prop_assert!(!is_plain(&path) || check_path(&path).is_ok(), "{path}");
        }
    }
}
