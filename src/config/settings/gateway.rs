//! The section `gateway`: the way to Sezzle.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::bounds::{INSTANT, seconds};
use crate::config::parse;
use crate::config::reader::Reader;
use crate::secret::SecretSource;
use crate::telemetry::metrics::words;

#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// Which of Sezzle's gateways the keys belong to.
    pub environment: Environment,
    /// Scheme and authority of the gateway, without a trailing slash: the environment's own, or an override.
    pub url: String,
    /// A file with further trust anchors in PEM.
    pub ca_file: Option<PathBuf>,
    /// Bound on one TCP connection attempt.
    pub connect_timeout: Duration,
    pub http2: bool,
    pub egress_proxy: Option<EgressProxySettings>,
    pub resolver: ResolverSettings,
    /// Time until the head of an answer to a safe call.
    pub read_timeout: Duration,
    /// Time until the head of an answer to a write.
    pub write_timeout: Duration,
    /// Time until the head of a report.
    pub report_timeout: Duration,
}

/// The way to resolve the name of the gateway, or of the egress proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolverSettings {
    System,
    /// The sidecar asks these name servers, or those of the system if the list is empty.
    NameServers(Vec<SocketAddr>),
}

#[derive(Clone, Debug)]
pub struct EgressProxySettings {
    /// Scheme and authority, without a trailing slash.
    pub url: String,
    /// User and password, with a colon between them.
    pub credentials: Option<SecretSource>,
}

words! {
    pub enum Environment {
        /// US and Canada, test money.
        Sandbox = "sandbox",
        /// US and Canada.
        Production = "production",
        /// Europe, test money.
        SandboxEu = "sandbox-eu",
        /// Europe.
        ProductionEu = "production-eu",
    }
}

impl Environment {
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Sandbox | Self::Production => None,
            Self::SandboxEu | Self::ProductionEu => Some(
                "Sezzle no longer documents its European environments, and removed them from its own plugins in 2024; \
                 ask Sezzle whether this environment still serves you",
            ),
        }
    }

    /// Scheme and authority of this gateway.
    pub fn url(self) -> &'static str {
        match self {
            Self::Sandbox => "https://sandbox.gateway.sezzle.com",
            Self::Production => "https://gateway.sezzle.com",
            Self::SandboxEu => "https://sandbox.gateway.eu.sezzle.com",
            Self::ProductionEu => "https://gateway.eu.sezzle.com",
        }
    }
}

impl GatewaySettings {
    /// A remark if `hosts` has the name of the gateway, and the sidecar resolves that name as every program of this
    /// machine does. An egress proxy resolves the name elsewhere.
    pub fn resolver_warning(&self, hosts: &[String]) -> Option<String> {
        let url: Uri = self.url.parse().ok()?;
        let name = url.host().filter(|_| self.resolver == ResolverSettings::System && self.egress_proxy.is_none())?;
        let is_name = |host: &String| {
            host.split(':').next().is_some_and(|host| host.trim_end_matches('.').eq_ignore_ascii_case(name))
        };
        hosts.iter().any(is_name).then(|| {
            format!(
                "proxy.hosts has {name}, so clients take the sidecar for the gateway, and a line of /etc/hosts that leads \
                 that name here leads the sidecar to itself; set gateway.resolver = \"dns\""
            )
        })
    }

    /// A remark if `gateway.resolver` is `dns` beside an egress proxy, because the proxy resolves the gateway's name
    /// itself.
    pub fn egress_warning(&self) -> Option<String> {
        let asks_servers = matches!(self.resolver, ResolverSettings::NameServers(_));
        (asks_servers && self.egress_proxy.is_some()).then(|| {
            "the proxy of gateway.egress_proxy resolves the name of the gateway, so this key concerns the name of that \
             proxy alone; make sure that the proxy does not lead the gateway's name back to the sidecar"
                .to_owned()
        })
    }
}

/// Also returns the write timeout by itself, so that the drain is checked against it even if another key of the section
/// is wrong.
pub(super) fn read(r: &mut Reader<'_>) -> (Option<GatewaySettings>, Option<Duration>) {
    let environment = r.required(
        "gateway.environment",
        parse::choice(Environment::ALL.map(|environment| (environment.as_str(), environment))),
    );
    let url = r.optional("gateway.url", parse::gateway_url);
    if let (Some(environment), Some(None)) = (environment, &url) {
        r.show_derived("gateway.url", environment.url());
        r.note_value("gateway.url", &environment.url());
    }
    let ca_file = r.optional("gateway.ca_file", parse::path);
    // A connection that is not made in this time fails soon enough for another attempt before the caller's own timeout.
    let connect_timeout = r.value("gateway.connect_timeout", "2s", parse::duration(INSTANT..=seconds(5)));
    let read_timeout = r.on_reload().value("gateway.read_timeout", "10s", parse::duration(TIMEOUT));
    // Longer than for a read, because a write that the sidecar gives up has an unknown outcome.
    let write_timeout = r.on_reload().value("gateway.write_timeout", "30s", parse::duration(TIMEOUT));
    // Sezzle computes a report while the caller waits.
    let report_timeout = r.on_reload().value("gateway.report_timeout", "60s", parse::duration(TIMEOUT));
    // With HTTP/2 all calls share one connection, which a network may silently drop. Several connections are safer.
    let http2 = r.value("gateway.http2", "false", parse::boolean);
    if http2 == Some(true) && plain_http(&url) {
        r.conflict("gateway.http2", "HTTP/2 needs TLS, and gateway.url is http");
    }
    let egress_proxy = egress_proxy(r, plain_http(&url));
    let resolver = resolver(r);

    let settings = || {
        let environment = environment?;
        Some(GatewaySettings {
            environment,
            url: url?.unwrap_or_else(|| environment.url().to_owned()),
            ca_file: ca_file?,
            connect_timeout: connect_timeout?,
            http2: http2?,
            egress_proxy: egress_proxy?,
            resolver: resolver?,
            read_timeout: read_timeout?,
            write_timeout: write_timeout?,
            report_timeout: report_timeout?,
        })
    };
    (settings(), write_timeout)
}

fn resolver(r: &mut Reader<'_>) -> Option<ResolverSettings> {
    let asks = r.value("gateway.resolver", "system", parse::choice([("system", false), ("dns", true)]));
    let servers = r.list("gateway.nameservers", "[]", parse::name_server);
    if asks == Some(false) && servers.as_ref().is_some_and(|servers| !servers.is_empty()) {
        r.conflict("gateway.nameservers", "gateway.resolver is \"system\", so nobody asks these name servers");
    }
    Some(if asks? { ResolverSettings::NameServers(servers?) } else { ResolverSettings::System })
}

/// Whether `gateway.url` is set to an http address. The URL of each environment is https.
fn plain_http(url: &Option<Option<String>>) -> bool {
    matches!(url, Some(Some(url)) if url.starts_with("http:"))
}

fn egress_proxy(r: &mut Reader<'_>, plain_http: bool) -> Option<Option<EgressProxySettings>> {
    let url = r.optional("gateway.egress_proxy", parse::egress_proxy);
    let credentials = r.optional_secret("gateway.egress_proxy_credentials", "gateway.egress_proxy_credentials_file");

    if let Some(Some(_)) = url
        && plain_http
    {
        r.conflict("gateway.egress_proxy", "the sidecar uses a proxy for https only, and gateway.url is http");
    }
    if let (Some(None), Some(Some(source))) = (&url, &credentials) {
        let key = match source {
            SecretSource::File(_) => "gateway.egress_proxy_credentials_file",
            SecretSource::Variable { .. } => "gateway.egress_proxy_credentials",
        };
        r.conflict(key, "gateway.egress_proxy is not set, so no proxy needs these credentials");
    }
    let credentials = credentials?;
    Some(url?.map(|url| EgressProxySettings { url, credentials }))
}

/// The bounds of the timeouts for the head of an answer.
const TIMEOUT: RangeInclusive<Duration> = INSTANT..=seconds(600);
