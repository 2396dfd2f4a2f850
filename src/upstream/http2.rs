//! HTTP/2 toward the gateway, directly on h2. hyper puts a request that finds no free stream into an internal queue,
//! where it cannot be observed and from which it is sent even after its caller has given up.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection as H2, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::time::{sleep, timeout};

use super::connector::GatewayConnection;
use super::error::{Sent, Unanswered, UpstreamError};
use super::stream_permit::StreamPermit;
use crate::http_client::{self, MAX_HEAD, UNSTATED_LIMIT};
use crate::method::is_safe;

/// An open connection, which makes progress while it is [driven](drive).
pub type Connection = H2<TokioIo<GatewayConnection>, Bytes>;

/// Sends requests over a connection.
#[derive(Clone, Debug)]
pub struct Sender {
    requests: SendRequest<Bytes>,
    /// The number of calls that the connection carries.
    pub calls: Arc<AtomicUsize>,
}

pub async fn open(io: GatewayConnection) -> Result<(Sender, Connection), h2::Error> {
    let (requests, connection) = http_client::http2().handshake(TokioIo::new(io)).await?;
    Ok((Sender { requests, calls: Arc::default() }, connection))
}

/// Runs a connection until it ends: by itself, when its last sender is dropped, or when the gateway has vanished.
/// `limit_changed` is called whenever the gateway changes its limit of streams.
pub async fn drive(mut connection: Box<Connection>, calls: Arc<AtomicUsize>, limit_changed: impl Fn()) {
    let pings = connection.ping_pong();
    let mut limit = connection.max_concurrent_send_streams();
    let mut work = pin!(poll_fn(|context| {
        let ended = Pin::new(&mut *connection).poll(context);
        let now = connection.max_concurrent_send_streams();
        if now != limit {
            limit = now;
            limit_changed();
        }
        ended
    }));
    tokio::select! {
        biased;
        ended = &mut work => {
            if let Err(error) = ended {
                tracing::debug!(%error, "HTTP/2 connection to Sezzle ended");
            }
        }
        () = vanished(pings, &calls) => tracing::debug!("HTTP/2 connection to Sezzle does not answer pings"),
    }
}

/// Waits until the gateway fails to answer a ping. Pings are sent only while responses are awaited: a gateway may treat
/// pings on an idle connection as an attack.
async fn vanished(pings: Option<PingPong>, calls: &AtomicUsize) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(PING_INTERVAL).await;
        if calls.load(Ordering::Relaxed) > 0 && timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await.is_err() {
            return;
        }
    }
}

impl Sender {
    /// How many streams the gateway allows at once, if it has stated a limit.
    pub fn limit(&self) -> Option<usize> {
        Some(self.requests.current_max_send_streams()).filter(|limit| *limit != UNSTATED_LIMIT)
    }

    /// Whether the gateway allows one more stream now. Until it has stated a limit, one request is allowed.
    pub fn has_room(&self) -> bool {
        self.calls.load(Ordering::Relaxed) < self.limit().unwrap_or(1)
    }

    /// Whether the gateway still allows the current number of streams.
    pub fn is_within_limit(&self) -> bool {
        self.calls.load(Ordering::Relaxed) <= self.limit().unwrap_or(1)
    }

    /// Whether the connection accepts no further request.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.requests.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Sends a request, and waits for the head of the response. `permit` is the stream counted for the request.
    pub async fn send(
        &mut self,
        request: Request<()>,
        body: Bytes,
        permit: &mut Option<StreamPermit>,
    ) -> Result<Response<ResponseBody>, Unanswered> {
        // The content that completes a write is sent once its stream is open. If the limit was lowered at this very
        // moment, a write that is given up meanwhile is never complete.
        let whole = body.is_empty() && is_safe(request.method());
        let sent = self.requests.send_request(request, whole);
        let (answer, mut stream) = sent.map_err(|error| Unanswered {
            error: UpstreamError { sent: Sent::No, ..UpstreamError::from_exchange(&error) },
            untouched: true,
        })?;
        let failed = |error: h2::Error| Unanswered { error: UpstreamError::from_exchange(&error), untouched: false };
        poll_fn(|context| self.requests.poll_ready(context)).await.map_err(failed)?;
        if !whole {
            // If the stream has already ended, the response tells why.
            let _ = stream.send_data(body, true);
        }
        let (head, incoming) = answer.await.map_err(failed)?.into_parts();
        if size(&head.headers) > MAX_HEAD {
            return Err(Unanswered { error: UpstreamError::head_too_large(Some(head.status)), untouched: false });
        }
        let length = if incoming.is_end_stream() { Some(0) } else { length(&head.headers) };
        Ok(Response::from_parts(head, ResponseBody { incoming, left: length, outgoing: stream, permit: permit.take() }))
    }
}

/// The size of a head by the count of RFC 9113, 6.5.2.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// The length that a response states, if it states one.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(|value| value.to_str().ok()?.parse().ok());
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

/// The body of a response. When it is dropped before its end, the gateway is told to stop.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: RecvStream,
    /// The rest of the stated length.
    left: Option<u64>,
    outgoing: SendStream<Bytes>,
    /// The counted stream, freed when all of the above is gone.
    permit: Option<StreamPermit>,
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // This has no effect if both sides have ended. A request that the gateway has not read to its end would
        // otherwise keep its stream.
        self.outgoing.send_reset(Reason::CANCEL);
        self.permit.take();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(data) = ready!(self.incoming.poll_data(context)) else { return Poll::Ready(None) };
        Poll::Ready(Some(data.map(|data| {
            let _ = self.incoming.flow_control().release_capacity(data.len());
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            Frame::data(data)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
