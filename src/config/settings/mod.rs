//! The validated configuration, one file per section: its settings, and each key with its default, its bounds and
//! whether a reload applies it. `config/reference.toml` says the same to the author of a file, and a test holds the two
//! equal. Every value has its final type, and no value here needs checking again.

mod audit;
mod bounds;
mod cache;
mod callers;
mod control;
mod credentials;
mod drain;
mod fleet;
mod gateway;
mod limits;
mod links;
mod listen;
mod log;
mod ops;
mod otlp;
mod proxy;
mod proxy_tls;
mod webhooks;

use std::collections::BTreeMap;

pub use self::audit::AuditSettings;
pub use self::cache::{CacheSettings, OriginCacheControl};
pub use self::callers::{CallerSettings, MOST_CALLERS, PairSettings};
pub use self::control::ControlSettings;
pub(super) use self::control::control_listen;
pub use self::credentials::CredentialSettings;
pub use self::drain::DrainSettings;
pub use self::fleet::{FleetClientCertificate, FleetSettings, FleetTimes, FleetTls};
pub use self::gateway::{EgressProxySettings, Environment, GatewaySettings, ResolverSettings};
pub use self::limits::LimitSettings;
pub use self::links::LinkSettings;
pub use self::log::LogSettings;
pub use self::ops::OpsSettings;
pub(super) use self::ops::ops_listen;
pub use self::otlp::OtlpSettings;
pub use self::proxy::{Passage, ProxySettings};
pub use self::proxy_tls::TlsSettings;
pub use self::webhooks::{ForwardSettings, Subscription, WebhookSettings};
use super::key::{Effective, ParsedValue};
use super::reader::Reader;
use crate::address::Address;

/// Every setting, with its default if no source sets it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub gateway: GatewaySettings,
    pub credentials: CredentialSettings,
    pub proxy: ProxySettings,
    /// Empty if everybody who reaches the proxy listener may do everything.
    pub callers: Vec<CallerSettings>,
    pub drain: DrainSettings,
    pub limits: LimitSettings,
    pub control: ControlSettings,
    pub ops: OpsSettings,
    pub cache: CacheSettings,
    pub audit: AuditSettings,
    pub links: LinkSettings,
    pub webhooks: WebhookSettings,
    /// `None` for a sidecar that is in no fleet.
    pub fleet: Option<FleetSettings>,
    pub log: LogSettings,
    pub otlp: OtlpSettings,
    /// The value of each key, for a comparison with another configuration.
    pub(super) values: BTreeMap<&'static str, ParsedValue>,
    /// The keys with their values, for operators to read.
    pub(super) effective: Vec<Effective>,
}

/// Reads all sections. `cores` is the number of the machine's processor cores.
pub(super) fn read(r: &mut Reader<'_>, cores: usize) -> Option<Settings> {
    let (gateway, write_timeout) = gateway::read(r);
    let credentials = credentials::read(r);
    let (proxy, listen) = proxy::read(r, cores);
    let callers = callers::read(r, proxy.as_ref());
    let drain = drain::read(r, write_timeout);
    let limits = limits::read(r);
    let control = control::read(r, listen.as_deref());
    let ops = ops::read(r, listen.as_deref(), control.as_ref());
    let cache = cache::read(r);
    let links = links::read(r, listen.as_deref(), proxy.as_ref().is_some_and(|proxy| proxy.tls.is_some()));
    let ops_listen = ops.as_ref().map(|ops| Address::Tcp(ops.listen));
    let others = [
        ("proxy.listen", listen.as_deref().unwrap_or_default()),
        ("control.listen", control.as_ref().map(|control| control.listen.as_slice()).unwrap_or_default()),
        ("ops.listen", ops_listen.as_slice()),
    ];
    let webhooks = webhooks::read(r, &others);
    let audit = audit::read(r);
    let fleet = fleet::read(r);
    let log = log::read(r);
    let otlp = otlp::read(r);
    Some(Settings {
        gateway: gateway?,
        credentials: credentials?,
        proxy: proxy?,
        callers: callers?,
        drain: drain?,
        limits: limits?,
        control: control?,
        ops: ops?,
        cache: cache?,
        audit: audit?,
        links: links?,
        webhooks: webhooks?,
        fleet: fleet?,
        log: log?,
        otlp: otlp?,
        values: r.take_values(),
        effective: r.take_effective(),
    })
}
