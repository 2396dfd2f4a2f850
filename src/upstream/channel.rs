//! One call over one connection to the gateway.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::either::Either;

use super::body::Incoming;
use super::connector::Life;
use super::error::Unanswered;
use super::pool::Place;
use super::{http1, http2};

/// The way into one connection, for one call.
#[derive(Debug)]
pub struct Channel {
    pub(super) sender: Sender,
    /// When the connection was made, and when it is to carry no further request.
    pub life: Life,
    /// Whether the connection was kept for a while, in which the gateway may have closed it.
    pub kept: bool,
    /// Tells the connection from others of its pool.
    pub(super) id: u64,
    /// Set for each request: to put one off is cheaper than to make one.
    alarm: Pin<Box<Sleep>>,
}

#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::Sender),
    Http2(Box<Stream>),
}

/// A way into a connection of HTTP/2, with the stream that is counted for this call.
#[derive(Debug)]
pub(super) struct Stream {
    pub sender: http2::Sender,
    pub place: Option<Place>,
}

impl Channel {
    pub(super) fn new(sender: Sender, life: Life, kept: bool, id: u64) -> Self {
        Self { sender, life, kept, id, alarm: Box::pin(sleep(AT_FIRST)) }
    }

    /// Sends a request, and waits for the head of its answer. `None` if it does not come in time.
    ///
    /// No `async fn`: the future would keep the request after it is sent, and every call would pay for that room.
    ///
    /// # Errors
    /// Why there was none.
    pub fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        body: &Bytes,
        deadline: Instant,
    ) -> impl Future<Output = Option<Result<Response<Incoming>, Unanswered>>> {
        let alarm = &mut self.alarm;
        alarm.as_mut().reset(deadline);
        match &mut self.sender {
            Sender::Http1(sender) => Either::Left(sender.send(request, alarm.as_mut(), deadline)),
            Sender::Http2(stream) => {
                let Stream { sender, place } = &mut **stream;
                let (request, body) = (request.map(drop), body.clone());
                Either::Right(Box::pin(async move {
                    tokio::select! {
                        biased;
                        answer = sender.send(request, body, place) => {
                            Some(answer.map(|answer| answer.map(|body| Incoming::Http2(Box::new(body)))))
                        }
                        () = alarm => None,
                    }
                }))
            }
        }
    }

    /// Whether HTTP/2 is spoken.
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// Whether the gateway has lowered its limit of streams since this one was counted, so that nothing may be sent.
    pub fn is_over_limit(&self) -> bool {
        match &self.sender {
            Sender::Http1(_) => false,
            Sender::Http2(stream) => !stream.sender.is_within_limit(),
        }
    }
}

// Until the alarm is set.
const AT_FIRST: Duration = Duration::from_secs(60);
