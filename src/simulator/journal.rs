//! The record of every request the simulator received. Bounded in entries and in bytes: the oldest go first.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Version;
use http::request::Parts;

/// One request as it arrived, and what came of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Counts the accepted connections from 1: requests with the same number shared a connection.
    pub connection: usize,
    /// The version of HTTP it came by.
    pub version: Version,
    /// The request's method.
    pub method: Method,
    /// The request's path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's body. Empty until it was read to its end.
    pub body: Bytes,
    /// The status answered; `None` while the request runs, and for good if it was cut off.
    pub status: Option<u16>,
    /// Whether the request changed anything at the gateway. A repeated idempotent call does not.
    pub effect: bool,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: VecDeque<Exchange>,
    /// How many entries were dropped, so that an entry keeps its number.
    dropped: usize,
    body_bytes: usize,
}

impl Journal {
    /// Opens an entry and answers its number.
    pub(super) fn open(&mut self, connection: usize, head: &Parts) -> usize {
        let number = self.dropped + self.entries.len();
        self.entries.push_back(Exchange {
            connection,
            version: head.version,
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers: head.headers.clone(),
            body: Bytes::new(),
            status: None,
            effect: false,
        });
        self.trim();
        number
    }

    pub(super) fn read(&mut self, number: usize, body: Bytes) {
        let length = body.len();
        if let Some(entry) = self.entry(number) {
            entry.body = body;
            self.body_bytes += length;
            self.trim();
        }
    }

    pub(super) fn took_effect(&mut self, number: usize, effect: bool) {
        if let Some(entry) = self.entry(number) {
            entry.effect = effect;
        }
    }

    pub(super) fn answered(&mut self, number: usize, status: u16) {
        if let Some(entry) = self.entry(number) {
            entry.status = Some(status);
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Exchange> {
        self.entries.iter()
    }

    fn entry(&mut self, number: usize) -> Option<&mut Exchange> {
        self.entries.get_mut(number.checked_sub(self.dropped)?)
    }

    fn trim(&mut self) {
        while self.entries.len() > MAX_ENTRIES || self.body_bytes > MAX_BODY_BYTES {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.dropped += 1;
            self.body_bytes -= oldest.body.len();
        }
    }
}

/// More than any test sends, little enough for a demonstration that runs for days.
const MAX_ENTRIES: usize = 100_000;
/// Room for a few requests of the largest size.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn oldest_entries_go_first_and_numbers_stay_true() {
        let (head, ()) = http::Request::get("/v2/session/a?b=c").body(()).unwrap().into_parts();
        let mut journal = Journal::default();
        let first = journal.open(1, &head);
        for _ in 0..MAX_ENTRIES {
            journal.open(2, &head);
        }
        let last = journal.open(3, &head);
        journal.answered(first, 500);
        journal.answered(last, 200);
        assert_eq!(journal.entries().count(), MAX_ENTRIES);
        assert!(journal.entries().all(|entry| entry.connection != 1 && entry.status != Some(500)));
        assert_eq!(journal.entries().last().unwrap().status, Some(200));
        journal.read(last, Bytes::from(vec![0; MAX_BODY_BYTES + 1]));
        assert_eq!(journal.entries().count(), 0);
        assert_eq!(journal.body_bytes, 0);
    }
}
