//! Builds the fleet's parts: first the pod, then the parts for the session cache, which tells the pod of changes, then
//! the link.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fleet_files::FleetFiles;
use super::materials::Blocking;
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::settings::FleetSettings;
use crate::credentials::TokenManager;
use crate::fleet::connect::{Connector, Options};
use crate::fleet::key_ring::KeyRing;
use crate::fleet::keys::Keys;
use crate::fleet::link::{self, Link, Parts};
use crate::fleet::names::{Names, space};
use crate::fleet::pod::{Pod, Times};
use crate::fleet::slots::Slots;
use crate::proxy;
use crate::proxy::error::ProxyError;
use crate::session::announce::InFleet;
use crate::session::invalidation::tag_id::TagIds;
use crate::supervisor::Supervisor;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::fleet::FleetSeries;

pub(super) fn pod(settings: &Settings, clock: &Clock, metrics: &Metrics) -> Option<Arc<Pod>> {
    let fleet = settings.fleet.as_ref()?;
    Some(Arc::new(Pod::new(times(settings, fleet), clock.clone(), FleetSeries::new(metrics))))
}

/// The parts of the fleet for the session cache.
pub(super) fn in_fleet(settings: &Settings, pod: &Arc<Pod>) -> Option<InFleet> {
    let fleet = settings.fleet.as_ref()?;
    // The merchant may not be known yet, and is not needed: no two merchants have the same identifier of Sezzle's.
    let ids = TagIds::new(&space(settings.gateway.environment.as_str(), "", &fleet.name));
    Some(InFleet { ids, announce: Arc::<Pod>::clone(pod), horizon: pod.horizon() })
}

pub(super) fn times(settings: &Settings, fleet: &FleetSettings) -> Times {
    Times {
        poll: fleet.times.poll,
        lease: fleet.times.lease,
        alone_ttl: fleet.times.alone_ttl,
        timeout: fleet.times.timeout,
        flight_wait: fleet.times.flight_wait,
        write_wait: fleet.times.write_wait,
        max_ttl: settings.cache.max_ttl,
        longest_write: settings.gateway.write_timeout.saturating_add(proxy::READ_BODY),
    }
}

/// Makes connections to the server that the settings name; `None` without a fleet.
pub(super) fn connector(settings: &Settings, files: Option<FleetFiles>, blocking: &Blocking) -> Option<Connector> {
    let fleet = settings.fleet.as_ref()?;
    let (server, username) = (fleet.server.clone(), fleet.username.clone());
    let options = Options { server, username, files: Arc::new(files?) };
    Some(Connector::new(options, blocking.resolver.clone(), blocking.files.clone()))
}

/// The places of shared sessions in the server; `None` without keys that seal sessions. `links` is the URL to which the
/// sidecar points links.
pub(super) fn slots(
    settings: &Settings,
    keys: Option<Keys>,
    pod: &Arc<Pod>,
    links: Option<String>,
    blocking: &Blocking,
    tasks: &TaskTracker,
    clock: &Clock,
) -> Option<Slots> {
    let file = settings.fleet.as_ref()?.key_file.clone()?;
    let keys = Arc::new(KeyRing::new(file, keys?, blocking.files.clone(), clock.clone()));
    Some(Slots::new(Arc::clone(pod), keys, links.unwrap_or_default(), tasks.clone(), clock.clone()))
}

/// Starts the task that keeps the link. The task waits until the merchant is known, because the names of the keys in
/// the server contain the merchant.
pub(super) fn keep_link(
    supervisor: &Supervisor,
    stop: &CancellationToken,
    settings: &Settings,
    tokens: &Arc<TokenManager>,
    parts: Parts<ProxyError>,
) {
    let Some(fleet) = &settings.fleet else { return };
    let (environment, name) = (settings.gateway.environment.as_str(), fleet.name.clone());
    let (tokens, stop, parts) = (Arc::clone(tokens), stop.clone(), Arc::new(parts));
    supervisor.keep("fleet_link", Some(link::HANG_TIMEOUT), move |heartbeat| {
        let (parts, tokens, stop, name) = (Arc::clone(&parts), Arc::clone(&tokens), stop.clone(), name.clone());
        async move {
            while timeout(SIGN_OF_LIFE, stop.run_until_cancelled(tokens.first_token())).await.is_err() {
                heartbeat.beat();
            }
            let merchant = tokens.merchant().unwrap_or_default();
            let names = Names::new(space(environment, &merchant, &name));
            Link::new(parts, names, stop, heartbeat).run().await;
        }
    });
}

// The task gives a sign of life while it waits for the merchant, because a task without one counts as hanging.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
