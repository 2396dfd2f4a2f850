//! The body of the gateway's response, under deadlines.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus::IntCounter;
use tokio::time::{Instant, Sleep, sleep};

use super::error::BodyError;
use super::http2;
use crate::clock::Mono;
use crate::telemetry::metrics::Counted;

/// A body that ends with an error when the gateway stops sending, or when all waits together took too long.
///
/// The time that a slow caller takes to read does not count: the clock runs only during waits for the gateway. In total
/// a body may take ten times the gateway's limit.
#[derive(Debug)]
pub struct GatewayBody {
    inner: Incoming,
    /// Time left for all waits for the gateway together.
    left: Duration,
    /// The time by which the whole body must have been passed on. Set once a further piece is expected after the first:
    /// most bodies have only one.
    ends: Option<Instant>,
    waiting: Option<Waiting>,
    failures: IntCounter,
    pub arrival: Arrival,
    _active: Counted,
}

/// The body as the connection delivers it.
#[derive(Debug)]
pub enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(Box<http2::ResponseBody>),
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Waiting {
    fn begin(limit: Duration) -> Self {
        Self { since: Instant::now(), alarm: Box::pin(sleep(limit)) }
    }
}

/// How the head of a response arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at: Mono,
    /// Whether the connection had been open before the request.
    pub reused: bool,
}

impl GatewayBody {
    /// `total` limits all waits for the gateway together.
    pub(super) fn new(
        inner: Incoming,
        total: Duration,
        failures: IntCounter,
        arrival: Arrival,
        active: Counted,
    ) -> Self {
        Self { inner, left: total, ends: None, waiting: None, failures, arrival, _active: active }
    }
}

// A report may take minutes, but a gateway that is silent for this long has stopped.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
// Limits how long a slow caller keeps the permit of its call.
const SLOWER: u32 = 10;

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.ends.is_some_and(|ends| Instant::now() >= ends) {
            this.failures.inc();
            return Poll::Ready(Some(Err(BodyError::Silent)));
        }
        loop {
            if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
                if let Some(waiting) = this.waiting.take() {
                    this.left = this.left.saturating_sub(waiting.since.elapsed());
                }
                let frame = match frame {
                    // The gateway's trailers are dropped.
                    Some(Ok(frame)) if frame.is_trailers() => continue,
                    Some(Err(error)) => {
                        this.failures.inc();
                        Some(Err(error))
                    }
                    frame => frame,
                };
                if !this.inner.is_end_stream() {
                    this.ends.get_or_insert_with(|| Instant::now() + this.left.saturating_mul(SLOWER));
                }
                return Poll::Ready(frame);
            }
            let limit = BODY_IDLE_TIMEOUT.min(this.left);
            ready!(this.waiting.get_or_insert_with(|| Waiting::begin(limit)).alarm.as_mut().poll(context));
            this.failures.inc();
            return Poll::Ready(Some(Err(BodyError::Silent)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Http1(body) => Pin::new(body).poll_frame(context).map_err(BodyError::from),
            Self::Http2(body) => Pin::new(&mut **body).poll_frame(context).map_err(BodyError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
