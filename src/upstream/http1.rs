//! HTTP/1.1 toward the gateway. A head that hyper refuses is read again leniently, so that the form of a response does
//! not turn a completed write into one with an unknown outcome.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, timeout, timeout_at};

use super::body;
use super::connector::GatewayConnection;
use super::error::{Sent, Unanswered, UpstreamError};
use crate::http_client;

/// Sends requests over a connection.
#[derive(Debug)]
pub struct Sender {
    pub requests: http1::SendRequest<Full<Bytes>>,
    /// Receives the rest of the connection if a response could not be read.
    rest: oneshot::Receiver<Rest>,
}

type Connection = http1::Connection<GatewayConnection, Full<Bytes>>;

/// A connection, and the bytes received from it that are not read yet.
#[derive(Debug)]
struct Rest {
    io: GatewayConnection,
    read: Bytes,
}

pub async fn open(io: GatewayConnection) -> Result<Sender, hyper::Error> {
    let (requests, connection) = http_client::http1().handshake(io).await?;
    let (rest, receiver) = oneshot::channel();
    tokio::spawn(drive(Box::new(connection), rest));
    Ok(Sender { requests, rest: receiver })
}

/// Runs a connection until it ends.
async fn drive(mut connection: Box<Connection>, rest: oneshot::Sender<Rest>) {
    let ended = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    if let Some(mut io) = taken_apart(*connection, ended.is_ok(), rest) {
        let _ = timeout(CLOSE_TIMEOUT, poll_fn(|context| Pin::new(&mut io).poll_shutdown(context))).await;
    }
}

/// Hands over the bytes that hyper could not read, or returns the connection to close. A separate function keeps this
/// code's room off the stack of every request.
#[inline(never)]
fn taken_apart(connection: Connection, read: bool, rest: oneshot::Sender<Rest>) -> Option<GatewayConnection> {
    let parts = connection.into_parts();
    // hyper leaves bytes that it cannot read in its buffer, and tells the call.
    if !read || parts.read_buf.is_empty() {
        return Some(parts.io);
    }
    rest.send(Rest { io: parts.io, read: parts.read_buf }).err().map(|unwanted| unwanted.io)
}

impl Sender {
    /// Sends a request, and waits for the head of the response. `None` if the alarm, set to the deadline, rings first.
    pub fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        mut alarm: Pin<&mut Sleep>,
        deadline: Instant,
    ) -> impl Future<Output = Option<Result<Response<body::Incoming>, Unanswered>>> {
        let method = request.method().clone();
        let answer = self.requests.try_send_request(request);
        async move {
            let mut answer = pin!(answer);
            let answer = poll_fn(|context| match answer.as_mut().poll(context) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
            });
            let error = match answer.await? {
                Ok(answer) => return Some(Ok(answer.map(body::Incoming::Http1))),
                Err(error) => error,
            };
            // Boxed, since hardly any call needs this future's room.
            Box::pin(self.without_response(method, error, deadline)).await
        }
    }

    /// The result of a call for which hyper has no response. If hyper could not read the head of the response, the head
    /// is read again. `None` if the deadline comes first.
    async fn without_response(
        &mut self,
        method: Method,
        mut error: TrySendError<Request<Full<Bytes>>>,
        deadline: Instant,
    ) -> Option<Result<Response<body::Incoming>, Unanswered>> {
        let untouched = error.take_message().is_some();
        let error = error.into_error();
        if error.is_parse() {
            let again = timeout_at(deadline, self.read_again(method, &error)).await.ok()?;
            let again = again.map(|answer| answer.map(body::Incoming::Http1));
            return Some(again.map_err(|error| Unanswered { error, untouched }));
        }
        let error = UpstreamError::from_exchange(&error);
        let error = if untouched { UpstreamError { sent: Sent::No, ..error } } else { error };
        Some(Err(Unanswered { error, untouched }))
    }

    /// Reads the head of a response that hyper refused with `error` again, leniently. If that fails too, the error has
    /// the response's status, if there was one.
    async fn read_again(&mut self, method: Method, error: &hyper::Error) -> Result<Response<Incoming>, UpstreamError> {
        let error = UpstreamError::from_exchange(error);
        let rest = timeout(HAND_OVER_TIMEOUT, &mut self.rest).await;
        let Ok(Ok(Rest { io, read })) = rest else { return Err(error) };
        let received = status(&read);
        let answer = again(io, read, method).await;
        answer.map_err(|cause| UpstreamError::unreadable(received, &cause))
    }
}

/// Starts a lenient client on the connection as if the request were sent just now. The client reads the bytes that have
/// arrived and those that follow.
async fn again(io: GatewayConnection, read: Bytes, method: Method) -> Result<Response<Incoming>, hyper::Error> {
    let replay = Replay { io, read, asked: false, reader: None };
    let (mut requests, connection) = http_client::lenient_http1().handshake(replay).await?;
    // This task ends with the response, because its sender is dropped with this function.
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    // The method decides whether the response has a body.
    *request.method_mut() = method;
    requests.send_request(request).await
}

/// The status of a response, from its first line.
fn status(read: &[u8]) -> Option<StatusCode> {
    let line = read.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    let ends = line.get(3).is_some_and(|after| !after.is_ascii_digit());
    StatusCode::from_bytes(line.get(..3)?).ok().filter(|_| ends)
}

/// A connection whose request was already sent: writes are discarded, and the bytes that were read are read again.
struct Replay {
    io: GatewayConnection,
    read: Bytes,
    /// Whether the request was written. hyper treats a response that comes before the request as an error.
    asked: bool,
    reader: Option<Waker>,
}

impl Read for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(self.read.get(..length).unwrap_or_default());
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl Write for Replay {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

// Closing waits for no response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
// The rest is handed over at the same moment in which the call is told.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_what_has_come() {
        for (read, code) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 599\n", Some(599)),
            ("HTTP/1.1 200", None),
            ("HTTP/1.1 2000 OK", None),
            ("HTTP/1.1200 OK", None),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 2OO OK", None),
            ("HTTP/2 200", None),
            ("", None),
        ] {
            assert_eq!(status(read.as_bytes()).map(|status| status.as_u16()), code, "{read:?}");
        }
    }
}
