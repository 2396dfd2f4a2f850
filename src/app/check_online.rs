//! Builds the online check from the settings, from the same parts as a sidecar.

use std::sync::Arc;

use http::Uri;

use super::error::StartError;
use super::fleet;
use super::from_settings::{connect_options, forward, ignored_trust, policy};
use super::materials::{Blocking, Materials};
use super::warnings::warnings_of;
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::settings::Environment;
use crate::online_check::OnlineCheck;
use crate::online_check::fleet::FleetCheck;
use crate::telemetry::metrics::Metrics;
use crate::upstream::connector::Connector;
use crate::upstream::{AddressError, Upstream, probe};

/// Reads the files of the settings and builds the online check. `is_set` tells whether an environment variable is set.
/// Blocks as long as the file system does.
pub fn online_check(
    settings: &Settings,
    clock: Clock,
    is_set: impl Fn(&str) -> bool,
) -> Result<OnlineCheck, StartError> {
    let metrics = Arc::new(Metrics::with_clock(clock.clone())?);
    let gateway = &settings.gateway;
    let blocking = Blocking::start().map_err(StartError::Thread)?;
    let mut materials = Materials::read(settings)?;
    let (tls, peer_certificate) = probe::client_config(&materials.trust)?;
    forward(settings, &materials, &blocking)?;
    let connect = connect_options(gateway, tls, &materials, &blocking)?;
    let connector = Connector::new(connect, clock.clone(), Arc::clone(&metrics));
    let fleet = fleet::connector(settings, materials.fleet.take(), &blocking).zip(settings.fleet.as_ref());
    let unusable = |_| StartError::Address(AddressError(gateway.url.clone()));
    let warnings = warnings_of(settings, &materials);
    let through_proxy = gateway.egress_proxy.is_some();
    let of_url = Environment::ALL.into_iter().find(|environment| environment.url() == gateway.url);
    Ok(OnlineCheck {
        gateway: gateway.url.parse::<Uri>().map_err(unusable)?,
        environment: gateway.environment.as_str(),
        warnings: warnings.into_iter().map(|warning| format!("{}: {}", warning.key, warning.text)).collect(),
        other_environment: of_url.filter(|other| *other != gateway.environment).map(Environment::as_str),
        key_names: materials.files.sources.name(),
        keys: materials.keys,
        merchant: settings.credentials.merchant_uuid.clone(),
        through_proxy,
        ignored_proxy: PROXIES.into_iter().find(|variable| !through_proxy && is_set(variable)),
        ignored_trust: ignored_trust(is_set),
        issuers: materials.trust.issuers.to_vec(),
        upstream: Upstream::new(&gateway.url, connector.clone(), 0, 1, clock.clone(), metrics)?,
        connector,
        peer_certificate,
        policy: policy(settings),
        lookup_timeout: gateway.read_timeout,
        fleet: fleet.map(|(connector, fleet)| FleetCheck {
            connector,
            environment: gateway.environment.as_str(),
            name: fleet.name.clone(),
            poll: fleet.times.poll,
        }),
        clock,
    })
}

// The variables by which other programs find a proxy for https.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
