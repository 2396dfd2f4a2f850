//! The errors that end the start of a sidecar.

use http::uri::InvalidUri;

use super::tls_files::Mistake;
use crate::audit;
use crate::credentials::keys::KeyError;
use crate::fleet::keys::KeyFileError;
use crate::server::socket::BindError;
use crate::systemd::sockets::PassedError;
#[cfg(feature = "otlp")]
use crate::telemetry::spans::export::EndpointError;
use crate::upstream::AddressError;
use crate::upstream::egress::EgressProxyError;
use crate::upstream::tls::TlsError;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("credentials: {0}")]
    Key(#[from] KeyError),
    /// A line for each mistake.
    #[error("{}", .0.iter().map(|mistake| format!("callers: {mistake}")).collect::<Vec<_>>().join("\n"))]
    Callers(Vec<String>),
    #[error("gateway.egress_proxy_credentials: {0}")]
    EgressKey(#[source] KeyError),
    #[error("gateway.egress_proxy: {0}")]
    EgressProxy(#[from] EgressProxyError),
    #[error("gateway.ca_file: {0}")]
    Tls(#[from] TlsError),
    #[error("{}", .0.iter().map(|mistake| mistake.text.as_str()).collect::<Vec<_>>().join("\n"))]
    ProxyTls(Vec<Mistake>),
    /// rustls refused the settings, or there were no random bytes for the keys of tickets.
    #[error("proxy.tls: {0}")]
    Tickets(#[from] rustls::Error),
    #[error("gateway.nameservers: {0}; set this key")]
    NameServers(String),
    #[error("gateway.resolver: {0}")]
    Resolver(String),
    #[error("gateway.url: {0}")]
    Address(#[from] AddressError),
    #[error("webhooks.forward_secret: {0}")]
    WebhookKey(#[source] KeyError),
    #[error("fleet.key_file: {0}")]
    FleetKeys(#[from] KeyFileError),
    #[error("fleet.password_file: {0}")]
    FleetPassword(#[source] KeyError),
    #[error("fleet: {0}")]
    FleetTls(#[source] TlsError),
    #[error("webhooks.forward_to: {0}")]
    ForwardTo(#[from] InvalidUri),
    #[error("audit.file: {0}")]
    Audit(#[from] audit::OpenError),
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Passed(#[from] PassedError),
    #[cfg(feature = "otlp")]
    #[error("otlp.endpoint: {0}")]
    Otlp(#[from] EndpointError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// An open socket does not know its address.
    #[error("listener: {0}")]
    Socket(#[from] std::io::Error),
    #[error("the sidecar cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<StartError>),
}

impl StartError {
    /// Combines errors. `all` must not be empty.
    pub(super) fn several(mut all: Vec<Self>) -> Self {
        match all.pop() {
            Some(only) if all.is_empty() => only,
            last => Self::Several(all.into_iter().chain(last).collect()),
        }
    }
}
