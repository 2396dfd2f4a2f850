//! Why a sidecar could not start.

use http::uri::InvalidUri;

use crate::credentials::keys::KeyError;
use crate::server::socket::BindError;
use crate::systemd::sockets::PassedError;
#[cfg(feature = "otlp")]
use crate::telemetry::spans::export::EndpointError;
use crate::upstream::AddressError;
use crate::upstream::egress::EgressProxyError;
use crate::upstream::tls::TlsError;

/// The sidecar could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key could not be loaded.
    #[error("credentials: {0}")]
    Key(#[from] KeyError),
    /// The egress proxy's credentials could not be loaded.
    #[error("gateway.egress_proxy_credentials: {0}")]
    EgressKey(#[source] KeyError),
    /// The egress proxy is not usable as configured.
    #[error("gateway.egress_proxy: {0}")]
    EgressProxy(#[from] EgressProxyError),
    /// The trust anchors could not be set up.
    #[error("gateway.ca_file: {0}")]
    Tls(#[from] TlsError),
    /// The gateway's address is unusable.
    #[error("gateway.url: {0}")]
    Address(#[from] AddressError),
    /// The secret that signs forwarded webhooks could not be loaded.
    #[error("webhooks.forward_secret: {0}")]
    WebhookKey(#[source] KeyError),
    /// The service's address is unusable.
    #[error("webhooks.forward_to: {0}")]
    ForwardTo(#[from] InvalidUri),
    /// A listener could not be opened.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// A passed socket does not fit the configuration.
    #[error("{0}")]
    Passed(#[from] PassedError),
    /// The spans' endpoint is unusable.
    #[cfg(feature = "otlp")]
    #[error("otlp.endpoint: {0}")]
    Otlp(#[from] EndpointError),
    /// A metric is invalid.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// An open socket does not know its address.
    #[error("listener: {0}")]
    Socket(#[from] std::io::Error),
    /// The system cannot start a thread.
    #[error("the sidecar cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Several of these errors.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<StartError>),
}

impl StartError {
    /// Combines errors, of which there is at least one.
    pub(super) fn several(mut all: Vec<Self>) -> Self {
        match all.pop() {
            Some(only) if all.is_empty() => only,
            last => Self::Several(all.into_iter().chain(last).collect()),
        }
    }
}
