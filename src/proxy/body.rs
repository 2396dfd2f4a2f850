//! The body of a request: received whole before a call is sent, or read and dropped.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use tokio::time::{sleep, timeout};

use super::Proxy;
use super::error::ProxyError;
use super::record::Record;
use super::route::Class;
use crate::peer_body::PeerBody;

impl Proxy {
    /// Receives the whole body of a request. Nothing is sent to Sezzle before.
    pub(super) async fn receive(&self, body: PeerBody, class: Class, record: &mut Record) -> Result<Bytes, ProxyError> {
        if body.size_hint().lower() > self.options.limits.body as u64 {
            return Err(ProxyError::BodyTooLarge);
        }
        let _permit = self.pressure.receive(class)?;
        let unstated = body.has_unstated_end();
        let received = timeout(BODY_TIMEOUT, Limited::new(body, self.options.limits.body).collect());
        let received = self.writes.unless_cut(received).await.ok_or(ProxyError::Stopping)?;
        match received.map_err(|_| ProxyError::BodyTimeout)? {
            Ok(body) => {
                record.has_read_body = true;
                if unstated {
                    // Some callers that give up half a body end it before they reset its stream: Node's `close()` does.
                    // hyper drops this future as soon as the reset has come.
                    sleep(RESET_GRACE).await;
                }
                Ok(body.to_bytes())
            }
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ProxyError::BodyTooLarge),
            Err(_) => Err(ProxyError::BodyBroken),
        }
    }

    /// Reads the body of a request that should have none, and drops it. An empty body counts as none. The connection
    /// then continues with the next request, and Sezzle gets this one without any framing of the caller's.
    pub(super) async fn drop_body(
        &self,
        body: &mut PeerBody,
        method: &Method,
        class: Class,
        record: &mut Record,
    ) -> Result<(), ProxyError> {
        let limit = self.options.limits.body as u64;
        if body.size_hint().lower() > limit {
            return Err(ProxyError::BodyTooLarge);
        }
        let _permit = self.pressure.receive(class)?;
        let read = async {
            let mut length = 0_u64;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| ProxyError::BodyBroken)?;
                length = length.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
                if length > limit {
                    return Err(ProxyError::BodyTooLarge);
                }
            }
            Ok(length)
        };
        let read = self.writes.unless_cut(timeout(BODY_TIMEOUT, read)).await.ok_or(ProxyError::Stopping)?;
        let length = read.map_err(|_| ProxyError::BodyTimeout)??;
        record.has_read_body = true;
        if length > 0 && *method == Method::OPTIONS {
            return Err(ProxyError::Malformed("the sidecar accepts no body with OPTIONS"));
        }
        self.metrics.request_bodies_dropped.inc_by(u64::from(length > 0));
        Ok(())
    }
}

// For the reset of an HTTP/2 request whose length was not stated and whose body came: the two are sent one right after
// the other, and need not arrive at once.
const RESET_GRACE: Duration = Duration::from_millis(10);
// Time for a caller to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
