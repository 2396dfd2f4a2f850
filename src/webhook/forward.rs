//! Forwards the unchanged body of a webhook to the one configured service, under one deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::signature::{self, Signer};
use crate::caller::SEC_FETCH_MODE;
use crate::hop_by_hop::remove_hop_by_hop;
use crate::http_client::lenient;
use crate::names::Resolver;
use crate::secret::Secret;
use crate::upstream::error::UpstreamError;

#[derive(Debug)]
pub struct Forward {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    url: Uri,
    signer: Option<Signer>,
    permits: Arc<Semaphore>,
}

/// Why a webhook was not forwarded. The text is for logs.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The service's response was not 2xx.
    #[error("the service answered {0}")]
    Refused(StatusCode),
    #[error("{0}")]
    Failed(UpstreamError),
    #[error("no answer within {ANSWER_TIMEOUT:?}")]
    Timeout,
    #[error("the sidecar is already forwarding {MAX_AT_ONCE} webhooks")]
    Busy,
}

impl Forward {
    /// Forwards to `url`, signed with `secret`. `tls` holds the trust anchors.
    pub fn new(url: &str, secret: Option<&Secret>, tls: ClientConfig, resolver: Resolver) -> Result<Self, InvalidUri> {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        // Each webhook gets a connection of its own: webhooks are rare, and the service could close a kept connection
        // at the moment of its reuse.
        let mut client = Client::builder(TokioExecutor::new());
        let client = lenient(&mut client).pool_max_idle_per_host(0).build(connector.wrap_connector(tcp));
        let permits = Arc::new(Semaphore::new(MAX_AT_ONCE));
        Ok(Self { client, url: url.parse()?, signer: secret.map(Signer::new), permits })
    }

    /// Forwards one webhook, once.
    pub async fn send(&self, headers: &HeaderMap, body: Bytes) -> Result<(), ForwardError> {
        let _permit = self.permits.try_acquire().map_err(|_| ForwardError::Busy)?;
        let mut outgoing = forwarded_headers(headers);
        if let Some(signature) = self.signer.as_ref().and_then(|signer| signer.sign(&body)) {
            outgoing.insert(signature::OWN, signature);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = outgoing;
        let answer = timeout(ANSWER_TIMEOUT, self.client.request(request)).await.map_err(|_| ForwardError::Timeout)?;
        let (head, body) =
            answer.map_err(|error| ForwardError::Failed(UpstreamError::from_client(&error)))?.into_parts();
        // The body is read to its end, so that the service does not see its response cut off.
        let _ = timeout(BODY_TIMEOUT, Limited::new(body, MAX_ANSWER).collect()).await;
        if head.status.is_success() { Ok(()) } else { Err(ForwardError::Refused(head.status)) }
    }
}

// Sezzle's own timeout is unknown; most senders of webhooks wait ten seconds or more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_millis(500);
const MAX_ANSWER: usize = 64 * 1024;
// Each one holds a body in memory.
const MAX_AT_ONCE: usize = 32;

/// The headers for the service: without those that belong to this connection, and without those by which a caller could
/// pass for somebody else, since only the body is signed.
fn forwarded_headers(headers: &HeaderMap) -> HeaderMap {
    let mut outgoing = headers.clone();
    remove_hop_by_hop(&mut outgoing, stays_here);
    outgoing
}

fn stays_here(name: &HeaderName) -> bool {
    matches!(*name, HOST | CONTENT_LENGTH | EXPECT | AUTHORIZATION | COOKIE)
        || *name == signature::OWN
        || *name == SEC_FETCH_MODE
        // Some servers treat `a_b` as `a-b`.
        || name.as_str().contains('_')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_goes_on_to_the_service() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "hooks.example"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("expect", "100-continue"),
            ("authorization", "Basic theirs"),
            ("cookie", "a=b"),
            ("sec-fetch-mode", "cors"),
            ("sezzle-sidecar-signature", "forged"),
            ("sezzle_sidecar_signature", "forged"),
            ("content-type", "application/json"),
            ("sezzle-signature", "abc"),
            ("user-agent", "Sezzle/1"),
            ("x-custom", "1"),
            ("x-custom", "2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut lines: Vec<String> = forwarded_headers(&headers)
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        lines.sort();
        let expected = [
            "content-type: application/json",
            "sezzle-signature: abc",
            "user-agent: Sezzle/1",
            "x-custom: 1",
            "x-custom: 2",
        ];
        assert_eq!(lines, expected);
    }
}
