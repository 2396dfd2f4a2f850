//! Who makes a call, and whether that caller may make it. Used only if `[[callers]]` are configured.

use arc_swap::ArcSwap;
use http::request::Parts;

use super::Proxy;
use super::error::ProxyError;
use super::presence::HeaderPresence;
use super::record::Record;
use super::route::{Matched, Route};
use crate::caller::{Caller, overflow_uid};
use crate::callers::named::{KnownCaller, Stranger};
use crate::callers::table::Table;
use crate::clock::Now;

impl Proxy {
    /// Finds the caller of a call, and checks whether it may make that call. Comes before any body is read, anything is
    /// sent, and memory is asked.
    #[inline(never)]
    pub(super) fn check_caller(
        &self,
        callers: &ArcSwap<Table>,
        head: &Parts,
        present: HeaderPresence,
        connection: &Caller,
        matched: &Matched,
        record: &mut Record,
    ) -> Result<(), ProxyError> {
        match identify(&callers.load(), head, present, connection, record.began) {
            Ok(known) => record.caller = Some(known),
            Err(Stranger::OfTwo(one, other)) => self.ambiguous_certificates.warn(&one, &other, record),
            Err(Stranger::Unmarked) => {}
        }
        check_permission(record.caller.as_ref(), matched, head)
    }
}

/// The caller of a request over this connection.
pub fn identify(
    table: &Table,
    head: &Parts,
    present: HeaderPresence,
    connection: &Caller,
    now: Now,
) -> Result<KnownCaller, Stranger> {
    let uid = connection.peer.and_then(|peer| peer.own_uid(overflow_uid()));
    let headers = present.authorization.then_some(&head.headers);
    let names = connection.certificate.as_deref().unwrap_or_default();
    table.identify(uid, names, headers, now)
}

/// Checks whether a caller may make a call.
pub fn check_permission(known: Option<&KnownCaller>, matched: &Matched, head: &Parts) -> Result<(), ProxyError> {
    // An exchange is told by the keys in its body, which are read later.
    if matched.route == Route::Authentication {
        return Ok(());
    }
    let allow = known.ok_or(ProxyError::UnknownCaller)?.caller.allow;
    let needed = matched.permissions(&head.method, head.uri.path());
    match allow.lacking(needed) {
        None => Ok(()),
        Some(lacking) => Err(ProxyError::NotAllowed(lacking)),
    }
}
