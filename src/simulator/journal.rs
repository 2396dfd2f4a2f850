//! The record of every request the simulator received.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use super::bounded_log::BoundedLog;

/// A request as it arrived, and its result.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Counts the accepted connections from 1: requests with the same number shared a connection.
    pub connection: usize,
    pub version: Version,
    pub method: Method,
    /// The request's path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// The request's body. Empty until it was read to its end.
    pub body: Bytes,
    /// The status answered; `None` while the request runs, and for good if it was cut off.
    pub status: Option<u16>,
    /// Whether the request changed anything at the gateway. A repeated idempotent call does not.
    pub effect: bool,
}

#[derive(Debug)]
pub(super) struct Journal(BoundedLog<Exchange>);

impl Journal {
    /// Opens an entry and answers its number.
    pub(super) fn open(&mut self, connection: usize, head: &Parts) -> usize {
        let exchange = Exchange {
            connection,
            version: head.version,
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers: head.headers.clone(),
            body: Bytes::new(),
            status: None,
            effect: false,
        };
        self.0.push(exchange, 0)
    }

    pub(super) fn read(&mut self, number: usize, body: Bytes) {
        self.0.change(number, body.len(), |entry| entry.body = body);
    }

    pub(super) fn took_effect(&mut self, number: usize, effect: bool) {
        self.0.change(number, 0, |entry| entry.effect = effect);
    }

    pub(super) fn answered(&mut self, number: usize, status: u16) {
        self.0.change(number, 0, |entry| entry.status = Some(status));
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Exchange> {
        self.0.iter()
    }

    pub(super) fn since(&self, number: usize) -> impl Iterator<Item = (usize, &Exchange)> {
        self.0.since(number)
    }

    pub(super) fn next(&self) -> usize {
        self.0.next()
    }

    /// Forgets all entries. Later results of their requests are not noted.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self(BoundedLog::new(MAX_ENTRIES, MAX_BODY_BYTES))
    }
}

/// More than any test sends, little enough for a demonstration that runs for days.
const MAX_ENTRIES: usize = 100_000;
/// Room for a few requests of the largest size.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
