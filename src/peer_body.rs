//! The body of a message as a peer sends it: whole, or an error.
//!
//! hyper ends a body without an error when its HTTP/2 stream is reset with NO_ERROR, since a server may do that to a
//! request which it has answered early (RFC 9113, 8.1). For whoever reads the body it is cut off all the same: nothing
//! but END_STREAM ends one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A body that ends with an error unless all of it came.
#[derive(Debug)]
pub struct PeerBody {
    inner: Incoming,
    http2: bool,
}

/// Why a body stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum CutOff {
    /// The connection or the stream failed, or the body broke its own framing.
    #[error(transparent)]
    Failed(#[from] hyper::Error),
    /// The peer ended the stream without a word of why, and without END_STREAM; or less came than was stated.
    #[error("the peer ended it before it was whole")]
    Early,
}

impl PeerBody {
    /// The body of a message of this version.
    pub fn new(inner: Incoming, version: Version) -> Self {
        Self { inner, http2: version == Version::HTTP_2 }
    }

    /// Whether it is still to come, and nothing but END_STREAM will say that it is whole.
    pub fn has_unstated_end(&self) -> bool {
        self.http2 && !self.inner.is_end_stream() && self.inner.size_hint().exact().is_none()
    }

    /// Whether the end that hyper sees is that of the message. Asked at that end only.
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
