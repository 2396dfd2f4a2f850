//! One call over one connection to the gateway.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::either::Either;

use super::body::Incoming;
use super::connector::ConnectionLifetime;
use super::error::Unanswered;
use super::stream_permit::StreamPermit;
use super::{http1, http2};
use crate::boxed::boxed_future;

/// A connection in use by one call.
#[derive(Debug)]
pub struct Channel {
    pub(super) sender: Sender,
    pub lifetime: ConnectionLifetime,
    /// Whether the connection was kept idle, so that the gateway may have closed it meanwhile.
    pub kept: bool,
    /// Identifies the connection within its pool.
    pub(super) id: u64,
    /// Reset for each request: resetting a timer is cheaper than making one.
    alarm: Pin<Box<Sleep>>,
}

#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::Sender),
    Http2(Box<Stream>),
}

/// An HTTP/2 connection's sender, with the stream that is counted for this call.
#[derive(Debug)]
pub(super) struct Stream {
    pub sender: http2::Sender,
    pub permit: Option<StreamPermit>,
}

impl Channel {
    pub(super) fn new(sender: Sender, lifetime: ConnectionLifetime, kept: bool, id: u64) -> Self {
        Self { sender, lifetime, kept, id, alarm: Box::pin(sleep(AT_FIRST)) }
    }

    /// Sends a request, and waits for the head of the response. `None` if the head does not arrive in time.
    ///
    /// Not an `async fn`: its future would keep the request after sending, and every call would pay for that room.
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
                let Stream { sender, permit } = &mut **stream;
                let (request, body) = (request.map(drop), body.clone());
                Either::Right(boxed_future(|| async move {
                    tokio::select! {
                        biased;
                        answer = sender.send(request, body, permit) => {
                            Some(answer.map(|answer| answer.map(|body| Incoming::Http2(Box::new(body)))))
                        }
                        () = alarm => None,
                    }
                }))
            }
        }
    }

    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// Whether the gateway has lowered its limit of streams since this one was counted: the request must not be sent.
    pub fn is_over_limit(&self) -> bool {
        match &self.sender {
            Sender::Http1(_) => false,
            Sender::Http2(stream) => !stream.sender.is_within_limit(),
        }
    }
}

// A placeholder until the alarm is set for a request.
const AT_FIRST: Duration = Duration::from_secs(60);
