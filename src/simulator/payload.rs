//! The body of an answer: pieces that are made and sent one after the other.

use std::convert::Infallible;
use std::iter::once;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use tokio::time::Sleep;
use tokio::time::sleep;

pub(super) struct Payload {
    pieces: Box<dyn Iterator<Item = Piece> + Send>,
    /// Bytes still to come, if the length is stated; without it the body is chunked.
    length: Option<u64>,
    waiting: Option<(Pause, Bytes)>,
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

impl Payload {
    pub(super) fn new(pieces: impl Iterator<Item = Piece> + Send + 'static, length: Option<u64>) -> Self {
        Self { pieces: Box::new(pieces), length, waiting: None }
    }

    pub(super) fn whole(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self::new(once(Piece::now(bytes)), Some(length))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.waiting.is_none() {
            self.waiting = self.pieces.next().map(|piece| (pause(piece.wait), piece.bytes));
        }
        if let Some((Some(pause), _)) = &mut self.waiting {
            ready!(pause.as_mut().poll(context));
        }
        let Some((_, bytes)) = self.waiting.take() else { return Poll::Ready(None) };
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
