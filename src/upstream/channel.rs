//! One call over one connection to the gateway.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::client::conn::http1;
use tokio::time::{Instant, Sleep, sleep};

use super::body::Incoming;
use super::connector::Life;
use super::error::{Sent, Unanswered, UpstreamError};
use super::http2;
use super::pool::Place;

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
    Http1(http1::SendRequest<Full<Bytes>>),
    /// With the stream that is counted for this call.
    Http2(http2::Sender, Option<Place>),
}

impl Channel {
    pub(super) fn new(sender: Sender, life: Life, kept: bool, id: u64) -> Self {
        Self { sender, life, kept, id, alarm: Box::pin(sleep(AT_FIRST)) }
    }

    /// Sends a request, and waits for the head of its answer. `None` if it does not come in time.
    ///
    /// # Errors
    /// Why there was none.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        body: Bytes,
        deadline: Instant,
    ) -> Option<Result<Response<Incoming>, Unanswered>> {
        let alarm = &mut self.alarm;
        alarm.as_mut().reset(deadline);
        match &mut self.sender {
            Sender::Http1(sender) => {
                let mut answer = pin!(sender.try_send_request(request));
                let answer = poll_fn(|context| match answer.as_mut().poll(context) {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
                });
                let answer = answer.await?.map(|answer| answer.map(Incoming::Http1));
                Some(answer.map_err(|mut refused| {
                    let untouched = refused.take_message().is_some();
                    let error = UpstreamError::from_exchange(&refused.into_error());
                    Unanswered {
                        error: if untouched { UpstreamError { sent: Sent::No, ..error } } else { error },
                        untouched,
                    }
                }))
            }
            Sender::Http2(sender, place) => {
                let answer = sender.send(request.map(drop), body, place);
                tokio::select! {
                    biased;
                    answer = answer => Some(answer.map(|answer| answer.map(|body| Incoming::Http2(Box::new(body))))),
                    () = alarm => None,
                }
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
            Sender::Http2(sender, _) => !sender.is_within_limit(),
        }
    }
}

// Until the alarm is set.
const AT_FIRST: Duration = Duration::from_secs(60);
