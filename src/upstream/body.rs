//! The body of the gateway's answer, under deadlines.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use prometheus::IntCounter;
use tokio::time::{Instant, Sleep, sleep};

use crate::telemetry::metrics::Counted;

/// A body that ends with an error when the gateway stops sending, and when it has been waited for too long in all.
///
/// The time that a slow caller takes to read does not count: the clock runs only while the gateway is waited for, so a
/// report may take ten times as long as the gateway may.
#[derive(Debug)]
pub struct GatewayBody {
    inner: Incoming,
    silence: Duration,
    /// What is left of the time that may be spent waiting for the gateway in all.
    left: Duration,
    ends: Instant,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    failures: IntCounter,
    reused: bool,
    _active: Counted,
}

/// Why a body stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection failed, or the body broke its own framing.
    #[error("the gateway's answer broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// Nothing came for too long, or all of it took too long.
    #[error("the gateway did not send all of its answer in time")]
    Silent,
}

impl GatewayBody {
    /// `silence` bounds each wait for the gateway, `total` all of them together.
    pub(super) fn new(
        inner: Incoming,
        silence: Duration,
        total: Duration,
        failures: IntCounter,
        reused: bool,
        active: Counted,
    ) -> Self {
        let ends = Instant::now() + total.saturating_mul(SLOWER);
        Self { inner, silence, left: total, ends, waiting: None, failures, reused, _active: active }
    }

    /// Whether the connection it comes over was open before its request.
    pub fn is_of_reused(&self) -> bool {
        self.reused
    }
}

// A caller that takes longer keeps a place from others.
const SLOWER: u32 = 10;

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if Instant::now() >= this.ends {
            this.failures.inc();
            return Poll::Ready(Some(Err(BodyError::Silent)));
        }
        loop {
            if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
                if let Some((since, _)) = this.waiting.take() {
                    this.left = this.left.saturating_sub(since.elapsed());
                }
                return match frame {
                    // Trailers of the gateway have no use here.
                    Some(Ok(frame)) if frame.is_trailers() => continue,
                    Some(Err(error)) => {
                        this.failures.inc();
                        Poll::Ready(Some(Err(error.into())))
                    }
                    frame => Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from))),
                };
            }
            let limit = this.silence.min(this.left);
            let (_, alarm) = this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(limit))));
            ready!(alarm.as_mut().poll(context));
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
