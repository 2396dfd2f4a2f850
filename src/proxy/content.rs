//! The content of an answer, and how much of it is read before it is passed on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::upstream::body::GatewayBody;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};

/// The content of an answer.
#[derive(Debug)]
pub enum Content {
    /// Held whole; `None` for no content, and after the content was handed over.
    Whole(Option<Bytes>),
    /// Streamed from the gateway, as fast as the caller reads.
    Streamed {
        /// The bytes that were read ahead.
        read: Option<Bytes>,
        /// The rest.
        rest: GatewayBody,
    },
    /// Broken off: the part that came is on its way.
    Broken(Box<Parting>),
}

/// A short wait before the body of an answer that broke off fails. When a body fails, hyper discards its unwritten
/// bytes, the status line included. While a body makes hyper wait, hyper writes.
#[derive(Debug)]
pub struct Parting(Pin<Box<Sleep>>);

impl Parting {
    /// Starts the wait.
    pub fn begin() -> Box<Self> {
        Box::new(Self(Box::pin(sleep(PARTING))))
    }

    /// Ends in [`BrokenOff`].
    pub fn poll<T>(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, BrokenOff>>> {
        self.0.as_mut().poll(context).map(|()| Some(Err(BrokenOff)))
    }
}

const PARTING: Duration = Duration::from_millis(50);

/// The answer broke off. The record has the reason: hyper would look for the gateway's code of HTTP/2 among the causes, and end
/// the caller's stream by the same, which may be NO_ERROR.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

/// Which answers are read whole before they are passed on. If such an answer breaks off, the call can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// No answer.
    Nothing,
    /// Of every answer the first piece, if it comes within a moment.
    First,
    /// Answers that may carry links. Of others only the first piece.
    Links,
    /// Answers to writes: a write that may have been done must not end without a status line.
    Write,
    /// Every answer, for the cache.
    Session,
    /// The first piece, and the pieces that follow within a moment.
    Start,
}

/// Answers that carry links are small; a larger one is passed on as it is.
pub const MAX_LINKED: usize = 1024 * 1024;

/// How much of a body is read before it is passed on: until it is longer than `bytes`, or `AT_ONCE` has passed.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    bytes: usize,
    /// The start of that time.
    since: Since,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Head,
    FirstPiece,
    Never,
}

impl Share {
    /// Nearly every answer is whole by then, and an answer that broke off can still be told from one that is on its
    /// way.
    pub const START: Self = Self { bytes: AT_ONCE_BYTES, since: Since::FirstPiece };
    /// An answer that breaks off before its first piece counts as no answer. A slow answer is passed on.
    pub const FIRST: Self = Self { bytes: 0, since: Since::Head };

    /// The whole body, up to this size.
    pub fn whole(most: usize, body: &GatewayBody) -> Self {
        if body.size_hint().lower() > most as u64 { Self::START } else { Self { bytes: most, since: Since::Never } }
    }
}

/// Reads the part of a body that is read ahead. The rest is streamed.
///
/// # Errors
/// The body broke off.
pub async fn read(mut body: GatewayBody, share: Share) -> Result<Content, UpstreamError> {
    let mut read = BytesMut::new();
    let mut ends = (share.since == Since::Head).then(|| Instant::now() + AT_ONCE);
    while read.len() <= share.bytes {
        let frame = match ends {
            None => body.frame().await,
            Some(ends) => match timeout_at(ends, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => break,
            },
        };
        let Some(frame) = frame else { return Ok(Content::Whole(Some(read.freeze()))) };
        if let Ok(data) = frame.map_err(|error| UpstreamError::from_body(&error))?.into_data() {
            read.extend_from_slice(&data);
        }
        if share.since == Since::FirstPiece {
            ends.get_or_insert_with(|| Instant::now() + AT_ONCE);
        }
    }
    Ok(Content::Streamed { read: Some(read.freeze()).filter(|read| !read.is_empty()), rest: body })
}

/// Refuses a 200 without content, which is no answer to a read.
///
/// # Errors
/// When the answer is one.
pub fn something(status: StatusCode, content: Content) -> Result<Content, UpstreamError> {
    match content {
        Content::Whole(Some(body)) if body.is_empty() && status == StatusCode::OK => {
            Err(UpstreamError::new(ErrorKind::Body, Sent::Maybe, "200 without content"))
        }
        content => Ok(content),
    }
}

const AT_ONCE: Duration = Duration::from_millis(200);
const AT_ONCE_BYTES: usize = 16 * 1024;
