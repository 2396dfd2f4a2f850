//! The body of a request: received whole before a call is sent, or read and dropped.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};

use super::error::ProxyError;
use super::record::Record;
use super::route::Class;
use super::{Proxy, SMALL};
use crate::peer_body::PeerBody;

impl Proxy {
    /// Receives the whole body of a request. Nothing is sent to Sezzle before.
    pub(super) async fn receive(&self, body: PeerBody, class: Class, record: &mut Record) -> Result<Bytes, ProxyError> {
        let Allowance { limit, named, time, free } = allowance(class, self.options.limits.body);
        if body.size_hint().lower() > limit as u64 {
            return Err(ProxyError::BodyTooLarge(named));
        }
        let unstated = body.has_unstated_end();
        let free = free.filter(|_| body.size_hint().upper().is_some_and(|length| length <= SMALL));
        let mut whole = pin!(whole(body, limit));
        let received = async {
            if let Some(free) = free
                && let Ok(whole) = timeout(free, &mut whole).await
            {
                return Ok(whole);
            }
            let _permit = self.pressure.receive(class)?;
            timeout(time, whole).await.map_err(|_| ProxyError::BodyTimeout)
        };
        let received = self.writes.unless_cut(pin!(received)).await.ok_or(ProxyError::Stopping)??;
        let body = received.map_err(|error| match error {
            Unreceived::TooLarge => ProxyError::BodyTooLarge(named),
            Unreceived::Broken => ProxyError::BodyBroken,
        })?;
        record.connection_can_persist = true;
        if unstated {
            // Some callers that give up in the middle of a body end the body before they reset its stream, as Node's
            // `close()` does. hyper drops this future as soon as the reset has come.
            sleep(RESET_GRACE).await;
        }
        Ok(body)
    }

    /// Reads the body of a request that should have none, and drops it. An empty body counts as none. The connection
    /// then continues with the next request, and Sezzle gets this request without the caller's framing.
    pub(super) async fn drop_body(
        &self,
        body: &mut PeerBody,
        method: &Method,
        class: Class,
        record: &mut Record,
    ) -> Result<(), ProxyError> {
        let limit = self.options.limits.body as u64;
        if body.size_hint().lower() > limit {
            return Err(ProxyError::BodyTooLarge(LIMITS_BODY));
        }
        let _permit = self.pressure.receive(class)?;
        let read = async {
            let mut length = 0_u64;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| ProxyError::BodyBroken)?;
                length = length.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
                if length > limit {
                    return Err(ProxyError::BodyTooLarge(LIMITS_BODY));
                }
            }
            Ok(length)
        };
        let read = timeout(BODY_TIMEOUT, read);
        let read = self.writes.unless_cut(pin!(read)).await.ok_or(ProxyError::Stopping)?;
        let length = read.map_err(|_| ProxyError::BodyTimeout)??;
        record.connection_can_persist = true;
        if length > 0 && *method == Method::OPTIONS {
            return Err(ProxyError::Malformed("the sidecar accepts no body with OPTIONS"));
        }
        self.metrics.request_bodies_dropped.inc_by(u64::from(length > 0));
        Ok(())
    }
}

/// Why a body was not received.
#[derive(Debug, PartialEq)]
enum Unreceived {
    TooLarge,
    Broken,
}

/// A whole body of `limit` bytes at most. Nearly every body comes in one piece, which needs no copy.
async fn whole(mut body: impl Body<Data = Bytes> + Unpin, limit: usize) -> Result<Bytes, Unreceived> {
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame.map_err(|_| Unreceived::Broken)?.into_data() else { continue };
        if data.len() > limit.saturating_sub(first.len().max(whole.len())) {
            return Err(Unreceived::TooLarge);
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// How large a body may be, and how long it may take.
struct Allowance {
    /// Bytes.
    limit: usize,
    /// The limit's name in the error message.
    named: &'static str,
    /// Time for a caller to send the body, once it has a permit.
    time: Duration,
    /// Time in which a small body needs no permit yet.
    free: Option<Duration>,
}

/// The allowance of a class. `limits_body` is the setting of this name.
fn allowance(class: Class, limits_body: usize) -> Allowance {
    match class {
        // A stranger may send keys. Even if strangers keep all permits of this class, a caller whose keys come with the
        // head gets its token.
        Class::Credentials => {
            let (limit, named) =
                if KEYS_LIMIT < limits_body { (KEYS_LIMIT, KEYS_NAMED) } else { (limits_body, LIMITS_BODY) };
            Allowance { limit, named, time: KEYS_TIMEOUT, free: Some(KEYS_FREE) }
        }
        Class::Session | Class::Read | Class::Report | Class::Money | Class::Webhooks => {
            Allowance { limit: limits_body, named: LIMITS_BODY, time: BODY_TIMEOUT, free: None }
        }
    }
}

const LIMITS_BODY: &str = "limits.body";
// Room for the longest private key, 4096 bytes, with each byte escaped, and for the address of a shop.
const KEYS_LIMIT: usize = 16 * 1024;
const KEYS_NAMED: &str = "16 KiB, the most that an exchange of keys may have";
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);
const KEYS_FREE: Duration = Duration::from_millis(100);
// Time for a reset that follows the body of an HTTP/2 request without a stated length: the caller sends one right after
// the other, but they may arrive apart.
const RESET_GRACE: Duration = Duration::from_millis(10);
// Time for a caller to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use futures_util::stream::iter;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    type Piece = Result<Frame<Bytes>, &'static str>;

    fn data(text: &'static str) -> Piece {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn a_body_is_received_in_any_pieces_up_to_the_limit() {
        let trailers = || Ok(Frame::trailers(HeaderMap::new()));
        let rows: [(Vec<Piece>, Result<&str, Unreceived>); 10] = [
            (vec![], Ok("")),
            (vec![data("")], Ok("")),
            (vec![data("abcdef")], Ok("abcdef")),
            (vec![data(""), data("abc"), data(""), data("def"), trailers()], Ok("abcdef")),
            (vec![data("a"), data("b"), data("cdef")], Ok("abcdef")),
            (vec![data("abcdefg")], Err(Unreceived::TooLarge)),
            (vec![data("abcdef"), data("g")], Err(Unreceived::TooLarge)),
            (vec![data("abc"), data("def"), data("g")], Err(Unreceived::TooLarge)),
            (vec![Err("reset")], Err(Unreceived::Broken)),
            (vec![data("abc"), data("def"), Err("reset")], Err(Unreceived::Broken)),
        ];
        for (pieces, expected) in rows {
            let what = format!("{pieces:?}");
            let received = whole(StreamBody::new(iter(pieces)), 6).await;
            assert_eq!(received, expected.map(|text| Bytes::from_static(text.as_bytes())), "{what}");
        }
    }
}
