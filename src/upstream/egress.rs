//! The egress proxy: a tunnel to the gateway, requested by CONNECT. TLS runs through the tunnel, so the proxy learns
//! only the gateway's name. The proxy's credentials go to the proxy alone.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::rt::{Read, Write};
use tokio::time::timeout;
use tower_service::Service;

use crate::http_client::lenient_http1;
use crate::secret::Secret;

/// An HTTP proxy through which connections to the gateway are made.
#[derive(Clone, Debug)]
pub struct EgressProxy {
    address: Uri,
    /// The value of `Proxy-Authorization`, marked sensitive.
    authorization: Option<HeaderValue>,
}

/// Why the settings of the proxy are unusable. The messages repeat no part of them.
#[derive(Debug, thiserror::Error)]
pub enum EgressProxyError {
    /// The address is not a scheme and an authority.
    #[error("this is not the address of a proxy")]
    Address,
    /// The credentials have no colon after the user's name, or no name before it.
    #[error("expected credentials of the form user:password")]
    Credentials,
}

impl EgressProxy {
    /// `address` is a scheme and an authority, `credentials` are a user and a password with a colon between them.
    pub fn new(address: &str, credentials: Option<&Secret>) -> Result<Self, EgressProxyError> {
        let address = address.parse().map_err(|_| EgressProxyError::Address)?;
        Ok(Self { address, authorization: credentials.map(authorization).transpose()? })
    }

    /// Requests a tunnel to the gateway. The returned connection is used as if it were made to the gateway directly.
    async fn tunnel<T>(&self, io: T, gateway: &Uri) -> Result<T, EgressError>
    where
        T: Read + Write + Unpin,
    {
        let request = self.request(gateway)?;
        let (mut sender, mut connection) = lenient_http1().handshake(io).await.map_err(EgressError::Broken)?;
        let mut answer = pin!(sender.send_request(request));
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer,
            // When the connection becomes a tunnel or fails, it has already delivered the response.
            _ = poll_fn(|context| connection.poll_without_shutdown(context)) => answer.await,
        };
        match answer.map_err(EgressError::Broken)?.status() {
            status if status.is_success() => {}
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(EgressError::Unauthorized),
            status => return Err(EgressError::Refused(status)),
        }
        let parts = connection.into_parts();
        // In TLS the client speaks first, so these bytes are not from the gateway.
        if parts.read_buf.is_empty() { Ok(parts.io) } else { Err(EgressError::Unasked) }
    }

    fn request(&self, gateway: &Uri) -> Result<Request<Empty<Bytes>>, EgressError> {
        let target = format!("{}:{}", gateway.host().unwrap_or_default(), gateway.port_u16().unwrap_or(443));
        let mut request =
            Request::builder().method(Method::CONNECT).uri(&target).header(HOST, target).body(Empty::new())?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
        }
        Ok(request)
    }
}

fn authorization(credentials: &Secret) -> Result<HeaderValue, EgressProxyError> {
    let credentials = credentials.expose();
    // An empty user name is a mistake; an empty password is allowed.
    if credentials.find(':').is_none_or(|colon| colon == 0) {
        return Err(EgressProxyError::Credentials);
    }
    let encoded = format!("Basic {}", BASE64_STANDARD.encode(credentials));
    let mut value = HeaderValue::try_from(encoded).map_err(|_| EgressProxyError::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why there is no tunnel. Nothing was sent to the gateway.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("the sidecar cannot reach the egress proxy")]
    Unreachable(#[source] BoxError),
    #[error("the egress proxy rejects the credentials, or requires some (407)")]
    Unauthorized,
    /// The proxy answered another status: 403 by one of its rules, 502 to 504 when it does not reach the gateway.
    #[error("the egress proxy made no tunnel to the gateway ({})", .0.as_str())]
    Refused(StatusCode),
    /// The proxy does not speak HTTP, or closed the connection.
    #[error("the egress proxy did not answer in HTTP")]
    Broken(#[source] hyper::Error),
    /// Bytes came through the tunnel before anything was sent.
    #[error("the egress proxy sent more than its answer")]
    Unasked,
    /// The gateway's address does not fit into a CONNECT request.
    #[error("the egress proxy cannot be asked for the gateway's address")]
    Address(#[from] http::Error),
    #[error("the egress proxy made no tunnel within {0:?}")]
    Timeout(Duration),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the connections below TLS: directly with `C`, or through the proxy to which `C` connects.
#[derive(Clone)]
pub(super) struct MaybeTunnel<C> {
    direct: C,
    proxy: Option<Arc<EgressProxy>>,
    limit: Duration,
}

impl<C> MaybeTunnel<C> {
    /// `limit` is the time for a connection, TLS included.
    pub(super) fn new(direct: C, proxy: Option<EgressProxy>, limit: Duration) -> Self {
        Self { direct, proxy: proxy.map(Arc::new), limit: limit.mul_f64(TUNNEL_SHARE) }
    }
}

// Less than the whole, so that a hanging proxy can be told from a hanging gateway.
const TUNNEL_SHARE: f64 = 0.8;

impl<C> Service<Uri> for MaybeTunnel<C>
where
    C: Service<Uri, Future: Send + 'static, Response: Read + Write + Unpin + Send, Error: Into<BoxError>>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, gateway: Uri) -> Self::Future {
        let Some(proxy) = self.proxy.clone() else {
            let connecting = self.direct.call(gateway);
            return Box::pin(async move { connecting.await.map_err(Into::into) });
        };
        let connecting = self.direct.call(proxy.address.clone());
        let limit = self.limit;
        Box::pin(async move {
            let tunnel = async move {
                let io = connecting.await.map_err(|error| EgressError::Unreachable(error.into()))?;
                proxy.tunnel(io, &gateway).await
            };
            Ok(timeout(limit, tunnel).await.map_err(|_| EgressError::Timeout(limit))??)
        })
    }
}
