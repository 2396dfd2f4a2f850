//! One call over one connection to the gateway.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::body::Incoming;
use super::connector::Life;
use super::error::{Sent, Unanswered, UpstreamError};
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
                let method = request.method().clone();
                let mut answer = pin!(sender.requests.try_send_request(request));
                let answer = poll_fn(|context| match answer.as_mut().poll(context) {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
                });
                let mut refused = match answer.await? {
                    Ok(answer) => return Some(Ok(answer.map(Incoming::Http1))),
                    Err(refused) => refused,
                };
                let untouched = refused.take_message().is_some();
                let error = refused.into_error();
                if error.is_parse() {
                    let again = timeout_at(deadline, sender.read_again(method, &error)).await.ok()?;
                    let again = again.map_err(|error| Unanswered { error, untouched });
                    return Some(again.map(|answer| answer.map(Incoming::Http1)));
                }
                let error = UpstreamError::from_exchange(&error);
                let error = if untouched { UpstreamError { sent: Sent::No, ..error } } else { error };
                Some(Err(Unanswered { error, untouched }))
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
