//! Serves one connection under deadlines: HTTP/1.1, or HTTP/2 if the listener allows it and its preface comes first.

use std::convert::Infallible;
use std::error::Error;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::caller_certificate::Validity;
use super::cut::{Cut, Timeouts};
use super::handshake::{self, Accepted};
use super::listener::{Handler, Listener};
use super::phase::{Busy, DRAIN_TIMEOUT, PhaseClock};
use super::protocol::{self, MAX_HEADERS};
use super::pumped::{pumped, refusal_response};
use super::refusal::{CLOSING, HEAD_TOO_LARGE};
use super::socket::{Connection, Stream};
use super::wake_flag::WakeFlag;
use super::watch::{WatchedBody, WatchedIo};
use crate::caller::Caller;
use crate::method::is_safe;

/// Serves a connection to its end. The error says why the connection had to be cut. Other ends of a connection are not
/// reported: they are the caller's business.
pub async fn serve_connection<H: Handler>(
    stream: Stream,
    mut caller: Caller,
    handler: H,
    listener: &Listener,
) -> Result<(), Cut> {
    let (mut stream, http2, validity): (Connection, _, _) = match (&listener.tls, stream) {
        (Some(tls), Either::Left(stream)) => {
            // In a box, so that a connection without TLS does not reserve space for a handshake.
            let accepted = Box::pin(handshake::accept(tls, stream, listener)).await?;
            let Some(Accepted { stream, names, validity, http2 }) = accepted else { return Ok(()) };
            caller = Caller { tls: true, certificate: names, ..caller };
            (Either::Right(stream), http2, validity)
        }
        (_, stream) => (Either::Left(stream), None, None),
    };
    let mut ahead = BytesMut::new();
    if listener.http2 {
        match (read_preface(&mut stream, &mut ahead, validity.as_ref(), listener).await?, http2) {
            (Beginning::Nothing, _) => return Ok(()),
            // The bytes break the promise of ALPN.
            (Beginning::Http2, Some(false)) | (Beginning::Http1, Some(true)) => return Err(Cut::Malformed),
            (Beginning::Http2, _) => {
                return serve_http2(stream, ahead.freeze(), caller, validity, handler, listener).await;
            }
            (Beginning::Http1, _) => {}
        }
    }
    serve_http1(stream, ahead.freeze(), caller, validity, handler, listener).await
}

/// The protocol of a connection, by its first bytes.
enum Beginning {
    Http1,
    Http2,
    /// The connection was closed, or has to be closed, before its protocol was known.
    Nothing,
}

/// Reads until the bytes are HTTP/2's preface or can no longer become one.
async fn read_preface(
    stream: &mut Connection,
    ahead: &mut BytesMut,
    validity: Option<&Validity>,
    listener: &Listener,
) -> Result<Beginning, Cut> {
    let Timeouts { idle, head, .. } = listener.timeouts;
    let (mut until, mut cut) = (Instant::now() + idle, Cut::Idle);
    loop {
        let read = tokio::select! {
            // A caller that connected just before the listener closed is still served if its bytes are on their way.
            () = listener.stop.closing.cancelled(), if cut != Cut::Drain => {
                let limit = if ahead.is_empty() { FIRST_BYTE_TIMEOUT } else { DRAIN_TIMEOUT };
                (until, cut) = (until.min(Instant::now() + limit), Cut::Drain);
                continue;
            }
            () = certificate_ended(validity), if ahead.is_empty() => return Ok(Beginning::Nothing),
            read = timeout_at(until, stream.read_buf(ahead)) => read,
        };
        match read {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return Ok(Beginning::Nothing),
            Err(_) if cut == Cut::Drain && ahead.is_empty() => return Ok(Beginning::Nothing),
            Err(_) => return Err(cut),
        }
        if ahead.starts_with(PREFACE) {
            return Ok(Beginning::Http2);
        }
        if !PREFACE.starts_with(ahead) {
            return Ok(Beginning::Http1);
        }
        if cut == Cut::Idle {
            (until, cut) = (Instant::now() + head, Cut::Head);
        }
    }
}

/// Waits until the caller's certificate no longer counts: for ever without a certificate.
async fn certificate_ended(validity: Option<&Validity>) {
    match validity {
        Some(validity) => validity.ended().await,
        None => pending().await,
    }
}

// Time for the first byte of a connection that was made just before the listener closed, counted from the close.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_millis(100);

// The connection preface (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn serve_http1<H: Handler>(
    stream: Connection,
    ahead: Bytes,
    caller: Caller,
    validity: Option<Validity>,
    handler: H,
    listener: &Listener,
) -> Result<(), Cut> {
    let clock = PhaseClock::new(true);
    let io = WatchedIo::new(stream, ahead, Arc::clone(&clock));
    let service = service_fn(|request: Request<Incoming>| {
        let busy = Busy::begin(&clock, !request.body().is_end_stream());
        clock.answers(request.version() == Version::HTTP_10 && is_safe(request.method()));
        let answer = handler.handle(request, caller.clone());
        async move { Ok::<_, Infallible>(answer.await.map(|body| WatchedBody { body, _guard: busy })) }
    });
    let connection = pin!(protocol::http1(listener.max_head).serve_connection(io, service));
    let ends = ends(&listener.stop.closing, validity);
    drive(connection, http1::Connection::graceful_shutdown, &clock, listener.timeouts, ends).await
}

async fn serve_http2<H: Handler>(
    stream: Connection,
    ahead: Bytes,
    caller: Caller,
    validity: Option<Validity>,
    handler: H,
    listener: &Listener,
) -> Result<(), Cut> {
    let clock = PhaseClock::new(false);
    let io = WatchedIo::new(stream, ahead, Arc::clone(&clock));
    // When a response is given up, its connection closes too: hyper keeps the stream until the connection ends.
    let closing = listener.stop.closing.child_token();
    let service = service_fn(|request: Request<Incoming>| {
        // A late request does not make the connection busy: the connection ends when the earlier requests have ended.
        let busy = (!clock.is_late()).then(|| Busy::begin(&clock, false));
        let (handler, listener, closing) = (handler.clone(), listener.clone(), closing.clone());
        let caller = caller.clone();
        async move {
            let Some(busy) = busy else { return Ok(refusal_response(&CLOSING)) };
            // hyper limits the bytes of a head in HTTP/2, but not the number of its lines.
            if request.headers().len() > MAX_HEADERS {
                listener.count_refused(Cut::Malformed);
                return Ok(refusal_response(&HEAD_TOO_LARGE));
            }
            Ok::<_, Infallible>(pumped(handler.handle(request, caller).await, busy, &listener, closing))
        }
    });
    let server = protocol::http2(listener.max_head, TokioExecutor::new());
    let connection = pin!(server.serve_connection(io, service));
    let ends = ends(&closing, validity);
    match drive(connection, http2::Connection::graceful_shutdown, &clock, listener.timeouts, ends).await {
        // The response that was given up has been counted already. The end of a certificate is no failure.
        Err(Cut::Drain) if !listener.stop.closing.is_cancelled() => Ok(()),
        ended => ended,
    }
}

/// Waits until a connection must take no further requests, because the listener closes or the caller's certificate no
/// longer counts.
fn ends(closing: &CancellationToken, validity: Option<Validity>) -> Ends<'_> {
    let Some(validity) = validity else { return Either::Left(closing.cancelled()) };
    // In a box, so that a connection without a certificate does not reserve space for both.
    Either::Right(Box::pin(async move {
        tokio::select! {
            () = closing.cancelled() => {}
            () = validity.ended() => {}
        }
    }))
}

type Ends<'a> = Either<WaitForCancellationFuture<'a>, Pin<Box<dyn Future<Output = ()> + Send + 'a>>>;

/// Runs a connection until it ends or a deadline cuts it. The connection takes no further requests after `ends`.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    graceful_shutdown: impl Fn(Pin<&mut C>),
    clock: &PhaseClock,
    timeouts: Timeouts,
    ends: Ends<'_>,
) -> Result<(), Cut> {
    let mut ends = pin!(ends);
    let (mut closing, mut was_idle) = (false, false);
    let mut alarm = pin!(sleep_until(clock.deadline(timeouts, Instant::now()).0));
    let mut wake_flag = WakeFlag::default();
    poll_fn(|context| {
        let mut woken = wake_flag.take(context);
        let waker = wake_flag.waker();
        let mut flagged = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                if ended.as_ref().is_err_and(hyper::Error::is_user) {
                    clock.broke_off();
                }
                return Poll::Ready(match ended {
                    Err(error) if is_malformed(&error) => Err(Cut::Malformed),
                    Ok(()) | Err(_) if was_idle => Err(Cut::Idle),
                    Ok(()) | Err(_) => Ok(()),
                });
            }
            // The connection is polled first: hyper closes a connection that has seen no byte yet, together with the
            // bytes that were already received.
            if !closing && (was_idle || (woken && ends.as_mut().poll(&mut flagged).is_ready())) {
                closing = true;
                clock.closes();
                graceful_shutdown(connection.as_mut());
                continue;
            }
            let now = Instant::now();
            let (deadline, cut) = clock.deadline(timeouts, now);
            // An alarm that is too early is reset only after it has rung: most requests never touch the alarm.
            if deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
                woken = true;
            }
            if !woken || alarm.as_mut().poll(&mut flagged).is_pending() {
                return Poll::Pending;
            }
            if deadline > now {
                alarm.as_mut().reset(deadline);
            } else if cut == Cut::Idle && !was_idle {
                // After a graceful shutdown, a caller over HTTP/2 knows that a request sent now was not taken.
                was_idle = true;
            } else {
                return Poll::Ready(Err(if was_idle { Cut::Idle } else { cut }));
            }
        }
    })
    .await
}

/// Whether the caller violated the protocol, rather than just went away.
fn is_malformed(error: &hyper::Error) -> bool {
    // A response of ours that broke off is not the caller's fault.
    if error.is_user() {
        return false;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<io::Error>() {
            return false;
        }
        cause = error.source();
    }
    error.is_parse()
        || !(error.is_timeout() || error.is_closed() || error.is_canceled() || error.is_incomplete_message())
}
