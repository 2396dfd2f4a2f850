//! The body of an answer: pieces that are made and sent one after the other.

use std::iter::once;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::idle::Busy;

pub(super) struct Payload {
    pieces: Box<dyn Iterator<Item = Piece> + Send>,
    /// Bytes still to come, if the length is stated; without it the body is chunked.
    length: Option<u64>,
    /// Bytes still to be sent before the connection is closed too early, if a rule asks for that.
    cut: Option<usize>,
    waiting: Option<(Pause, Bytes)>,
    /// Marks the connection as busy until the body is sent or dropped.
    _busy: Option<Busy>,
}

/// A timer, unless there is nothing to wait for.
type Pause = Option<Pin<Box<Sleep>>>;

/// Some bytes, and how long to wait before they are sent.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) wait: Duration,
    pub(super) bytes: Bytes,
}

impl Piece {
    /// Bytes to be sent at once.
    pub(super) fn now(bytes: Bytes) -> Self {
        Self { wait: Duration::ZERO, bytes }
    }
}

/// How a connection ends when a request gets no answer. hyper hands this on as the error of the service.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a rule ends the connection")]
pub(super) enum ConnectionEnd {
    Close,
    Reset,
    /// Sends these pieces past HTTP, then closes.
    Raw(Vec<Piece>),
}

impl Payload {
    /// `length` is the length that the answer states, if any.
    pub(super) fn new(pieces: impl Iterator<Item = Piece> + Send + 'static, length: Option<u64>) -> Self {
        Self { pieces: Box::new(pieces), length, cut: None, waiting: None, _busy: None }
    }

    pub(super) fn whole(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self::new(once(Piece::now(bytes)), Some(length))
    }

    /// Replaces the pieces of the body.
    pub(super) fn reshape<I>(self, change: impl FnOnce(Box<dyn Iterator<Item = Piece> + Send>) -> I) -> Self
    where
        I: Iterator<Item = Piece> + Send + 'static,
    {
        Self { pieces: Box::new(change(self.pieces)), ..self }
    }

    /// Keeps its connection busy until the end.
    pub(super) fn busy(self, busy: Busy) -> Self {
        Self { _busy: Some(busy), ..self }
    }

    /// Closes the connection after `kept` bytes of the body.
    pub(super) fn cut(self, kept: usize) -> Self {
        Self { cut: Some(kept), ..self }
    }

    /// The pieces from the beginning, until they have at least `limit` bytes.
    pub(super) fn beginning(self, limit: usize) -> Bytes {
        let mut bytes = BytesMut::new();
        for piece in self.pieces {
            if bytes.len() >= limit {
                break;
            }
            bytes.extend_from_slice(&piece.bytes);
        }
        bytes.freeze()
    }

    /// The next piece, and the wait before it. At the cut comes an empty piece after a short wait, so that hyper writes
    /// all bytes before it.
    fn next(&mut self) -> Option<(Pause, Bytes)> {
        if self.cut == Some(0) {
            return Some((pause(FLUSH), Bytes::new()));
        }
        let Piece { wait, mut bytes } = self.pieces.next()?;
        if let Some(cut) = &mut self.cut {
            bytes.truncate(*cut);
            *cut -= bytes.len();
        }
        Some((pause(wait), bytes))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = ConnectionEnd;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionEnd>>> {
        let cut = self.cut == Some(0);
        if self.waiting.is_none() {
            self.waiting = self.next();
        }
        if let Some((Some(pause), _)) = &mut self.waiting {
            ready!(pause.as_mut().poll(context));
        }
        let Some((_, bytes)) = self.waiting.take() else { return Poll::Ready(None) };
        if cut && bytes.is_empty() {
            return Poll::Ready(Some(Err(ConnectionEnd::Close)));
        }
        self.length = self.length.map(|length| length.saturating_sub(bytes.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn pause(wait: Duration) -> Pause {
    (!wait.is_zero()).then(|| Box::pin(sleep(wait)))
}

/// Time for hyper to write its bytes before it learns of the cut.
const FLUSH: Duration = Duration::from_millis(1);
