//! Responses over HTTP/2. A task of its own reads each body.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cut::Cut;
use super::listener::Listener;
use super::phase::Busy;
use super::refusal::Refusal;
use super::watch::WatchedBody;

/// Moves the reading of a response's body into a task of its own. In HTTP/2 a caller can withhold the flow-control
/// credit for one response while the connection goes on. Then nobody would poll the body, and nothing would end the
/// wait.
///
/// A response that is given up cancels `closing`.
pub(super) fn pumped<B>(
    answer: Response<B>,
    busy: Busy,
    listener: &Listener,
    closing: CancellationToken,
) -> Response<Pumped<B>>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + Unpin + 'static,
{
    if answer.body().is_end_stream() {
        return answer.map(Either::Left);
    }
    let (mut head, body) = answer.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    let (sender, channel) = Channel::new(1);
    let taken = CancellationToken::new();
    let guard = taken.clone().drop_guard();
    let limit = listener.timeouts.write;
    let cut = listener.metrics.connections_refused.with_label_values(&[listener.name, Cut::Write.as_str()]);
    listener.connections.spawn(async move {
        let _busy = busy;
        if pump(body, sender, limit).await.is_err() {
            cut.inc();
            closing.cancel();
        } else {
            // The last piece waits for credit too, but no later send would notice its delay.
            let _ = timeout(limit, taken.cancelled()).await;
        }
    });
    Response::from_parts(head, Either::Right(WatchedBody { body: channel, _guard: guard }))
}

/// A response of the listener's own, without a task for its body.
pub(super) fn refusal_response<B: Body<Data = Bytes>>(refusal: &Refusal) -> Response<Pumped<B>> {
    refusal.response().map(|body| {
        let (mut sender, channel) = Channel::new(1);
        // The channel is empty and takes one piece.
        let _ = sender.try_send(Frame::data(body));
        Either::Right(WatchedBody { body: channel, _guard: CancellationToken::new().drop_guard() })
    })
}

/// A body that is already at its end, or that another task reads.
pub(super) type Pumped<B> = Either<B, WatchedBody<Channel<Bytes, Unsent<<B as Body>::Error>>, DropGuard>>;

/// Forwards a body in pieces until it ends, breaks off, or the caller cancels the request. Fails when the caller does
/// not accept the next piece in time.
async fn pump<B>(mut body: B, mut sender: Sender<Bytes, Unsent<B::Error>>, limit: Duration) -> Result<(), Elapsed>
where
    B: Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        // No response has trailers.
        let mut data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => {
                sender.abort(Unsent::Body(error));
                return Ok(());
            }
        };
        let shares = data.len() > PIECE;
        while !data.is_empty() {
            let mut piece = data.split_to(data.len().min(PIECE));
            // hyper keeps one piece of a response that is given up. As a copy, that piece does not keep the whole body
            // in memory.
            if shares {
                piece = Bytes::copy_from_slice(&piece);
            }
            match timeout(limit, sender.send_data(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(late) => {
                    sender.abort(Unsent::Late);
                    return Err(late);
                }
            }
        }
    }
    Ok(())
}

// hyper takes a piece as soon as there is credit for one byte of it. From then on its progress cannot be observed.
const PIECE: usize = 16 * 1024;

/// Why a response was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent<E> {
    #[error(transparent)]
    Body(E),
    #[error("the caller did not read its answer")]
    Late,
}
