//! The body of a message from a peer. An incomplete body ends with an error.
//!
//! hyper ends a body without an error when its HTTP/2 stream is reset with NO_ERROR, because a server may do that to a
//! request that it has answered early (RFC 9113, 8.1). To its reader such a body is incomplete all the same: only
//! END_STREAM ends one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A body that ends with an error unless all of it was received.
#[derive(Debug)]
pub struct PeerBody {
    inner: Incoming,
    http2: bool,
}

/// Why a body is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum CutOff {
    /// The connection or the stream failed, or the body broke its own framing.
    #[error(transparent)]
    Failed(#[from] hyper::Error),
    /// The peer ended the stream without a reason and without END_STREAM, or sent fewer bytes than it had stated.
    #[error("the peer ended the body before it was whole")]
    Early,
}

impl PeerBody {
    pub fn new(inner: Incoming, version: Version) -> Self {
        Self { inner, http2: version == Version::HTTP_2 }
    }

    /// Whether the body is unfinished and only END_STREAM will mark its end.
    pub fn has_unstated_end(&self) -> bool {
        self.http2 && !self.inner.is_end_stream() && self.inner.size_hint().exact().is_none()
    }

    /// Whether the end that hyper reports is that of the message. Called only at that end.
    fn is_whole(&self) -> bool {
        self.inner.is_end_stream() || (!self.http2 && self.inner.size_hint().exact().is_none())
    }
}

impl Body for PeerBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(match frame {
            Some(frame) => Some(frame.map_err(CutOff::from)),
            None if self.is_whole() => None,
            None => Some(Err(CutOff::Early)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
