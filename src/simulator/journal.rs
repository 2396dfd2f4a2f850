//! The record of every request the simulator received.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use super::bounded_log::BoundedLog;

/// A request as it arrived, and its result.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The number of the connection, counted from 1. Requests with the same number shared a connection.
    pub connection: usize,
    pub version: Version,
    pub method: Method,
    /// The request's path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// The request's body; empty until the whole body is read.
    pub body: Bytes,
    /// The status of the answer; `None` while the request runs, and for ever after a rule cut the request off.
    pub status: Option<u16>,
    /// Whether the request changed anything at the gateway. A repeated idempotent call does not.
    pub effect: bool,
}

pub(super) type Journal = BoundedLog<Exchange>;

pub(super) fn empty() -> Journal {
    BoundedLog::new(MAX_ENTRIES, MAX_BODY_BYTES)
}

/// The entry of a request whose body is not read yet.
pub(super) fn entry(connection: usize, head: &Parts) -> Exchange {
    Exchange {
        connection,
        version: head.version,
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers.clone(),
        body: Bytes::new(),
        status: None,
        effect: false,
    }
}

/// The most requests: more than any test sends, and few enough for a demonstration that runs for days.
const MAX_ENTRIES: usize = 100_000;
/// The most bytes of bodies: room for a few requests of the largest size.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
