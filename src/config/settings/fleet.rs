//! The section `fleet`: the server through which several sidecars keep each other's caches right.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::bounds::{INSTANT, seconds};
use crate::address::{HostPort, ServerAddress};
use crate::config::parse;
use crate::config::parse::redis::{self, RedisUrl};
use crate::config::reader::Reader;
use crate::secret::SecretSource;
use crate::units;

#[derive(Clone, Debug)]
pub struct FleetSettings {
    pub server: ServerAddress,
    /// `None` for a connection without TLS.
    pub tls: Option<FleetTls>,
    /// `None` for the server's default user. Never set without a password.
    pub username: Option<String>,
    pub password: Option<SecretSource>,
    /// Pods with the same name, merchant and environment are one fleet.
    pub name: String,
    /// The file with the keys that seal shared bodies. `None` if the fleet shares purges alone.
    pub key_file: Option<PathBuf>,
    pub times: FleetTimes,
}

#[derive(Clone, Debug)]
pub struct FleetTls {
    /// A file with further trust anchors in PEM.
    pub ca_file: Option<PathBuf>,
    pub client: Option<FleetClientCertificate>,
}

#[derive(Clone, Debug)]
pub struct FleetClientCertificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// The keys of the section that a reload applies.
#[derive(Clone, Copy, Debug)]
pub struct FleetTimes {
    /// Time from one poll of the log to the next.
    pub poll: Duration,
    /// How long memory counts as confirmed after a poll; at least two polls.
    pub lease: Duration,
    /// How long a sidecar may serve an entry that is not confirmed.
    pub alone_ttl: Duration,
    /// The longest time that a lookup waits for the server.
    pub timeout: Duration,
    /// The longest time that the answer to a write is held.
    pub write_wait: Duration,
    /// The longest time that a lookup waits for another pod's fetch.
    pub flight_wait: Duration,
}

/// `Some(None)` for a sidecar that is in no fleet.
pub(super) fn read(r: &mut Reader<'_>) -> Option<Option<FleetSettings>> {
    let url = r.optional("fleet.url", redis::url);
    let sentinels = r.list("fleet.sentinels", "[]", redis::sentinel);
    let primary = r.optional("fleet.primary", parse::word);
    let username = r.optional("fleet.username", parse::word);
    let password = r.optional_secret("fleet.password", "fleet.password_file");
    let ca_file = r.optional("fleet.ca_file", parse::path);
    let certificate_file = r.optional("fleet.client_certificate_file", parse::path);
    let key_of_certificate = r.optional("fleet.client_key_file", parse::secret_file);
    let insecure = r.value("fleet.insecure", "false", parse::boolean);
    let name = r.value("fleet.name", "default", parse::word);
    let key_file = r.optional("fleet.key_file", parse::secret_file);
    let times = times(r);

    if let (Some(None), Some([])) = (&url, sentinels.as_deref()) {
        let set = match &password {
            Some(Some(SecretSource::Variable { .. })) => Some("fleet.password"),
            _ => r.first_set("fleet"),
        };
        r.show_as_absent("fleet");
        if let Some(set) = set {
            r.missing("fleet.url", format!("required, because {set} is set; or set fleet.sentinels"));
        }
        return Some(None);
    }
    let server = Server { url: url?, sentinels: sentinels?, primary: primary? };
    let (is_tls, insecure) = (server.is_tls(insecure?), insecure?);
    server.check(r);
    let (username, password) = (username?, password?);
    if username.is_some() && password.is_none() {
        r.conflict("fleet.username", "fleet.password_file is not set, and a user has a password");
    }
    if let Some(url) = &server.url
        && url.is_readable_on_the_way()
        && password.is_some()
        && !insecure
    {
        r.conflict(
            "fleet.url",
            "everybody on the way could read the password; use rediss, or accept that by fleet.insecure = true",
        );
    }
    let tls_files = check_tls_files(r, is_tls, ca_file?, certificate_file?, key_of_certificate?);
    let tls = is_tls.then_some(tls_files);
    let (server, name, key_file) = (server.settings()?, name?, key_file?);
    Some(Some(FleetSettings { server, tls, username, password, name, key_file, times: times? }))
}

/// Checks that the connection has TLS if there are files for it, and that a client certificate comes with its key.
fn check_tls_files(
    r: &mut Reader<'_>,
    is_tls: bool,
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_of_certificate: Option<PathBuf>,
) -> FleetTls {
    for (key, is_set) in [
        ("fleet.ca_file", ca_file.is_some()),
        ("fleet.client_certificate_file", certificate_file.is_some()),
        ("fleet.client_key_file", key_of_certificate.is_some()),
    ] {
        if is_set && !is_tls {
            let message =
                "the connection has no TLS; use rediss in fleet.url, or fleet.sentinels without fleet.insecure";
            r.conflict(key, message);
        }
    }
    let client = match (certificate_file, key_of_certificate) {
        (Some(certificate_file), Some(key_file)) => Some(FleetClientCertificate { certificate_file, key_file }),
        (None, None) => None,
        (Some(_), None) => {
            r.missing("fleet.client_key_file", "required with fleet.client_certificate_file".to_owned());
            None
        }
        (None, Some(_)) => {
            r.missing("fleet.client_certificate_file", "required with fleet.client_key_file".to_owned());
            None
        }
    };
    FleetTls { ca_file, client }
}

/// The keys that say where the server is.
struct Server {
    url: Option<RedisUrl>,
    sentinels: Vec<HostPort>,
    primary: Option<String>,
}

impl Server {
    /// Whether connections have TLS. The address of a Sentinel has no scheme, so only `fleet.insecure` can say that
    /// there is no TLS.
    fn is_tls(&self, insecure: bool) -> bool {
        self.url.as_ref().map_or(!insecure, RedisUrl::is_tls)
    }

    fn check(&self, r: &mut Reader<'_>) {
        if self.url.is_some() && !self.sentinels.is_empty() {
            r.conflict("fleet.sentinels", "fleet.url is set too; keep one of them");
        }
        match (self.sentinels.is_empty(), &self.primary) {
            (true, Some(_)) => r.conflict("fleet.primary", "fleet.sentinels is not set, so nobody knows this name"),
            (false, None) => r.missing("fleet.primary", "required with fleet.sentinels".to_owned()),
            (true, None) | (false, Some(_)) => {}
        }
    }

    fn settings(self) -> Option<ServerAddress> {
        Some(match (self.url, self.primary) {
            (Some(RedisUrl::Tcp { at, database, tls: _ }), _) => ServerAddress::Tcp { at, database },
            (Some(RedisUrl::Unix(path)), _) => ServerAddress::Unix(path),
            (None, primary) => ServerAddress::Sentinels { sentinels: self.sentinels, primary: primary? },
        })
    }
}

fn times(r: &mut Reader<'_>) -> Option<FleetTimes> {
    // With ten polls a second from each of 1000 pods, the server takes a fifth of a core.
    let poll = r.on_reload().value("fleet.poll", "100ms", parse::duration(POLL));
    // Two polls may be late before memory is unconfirmed. The upper bound is the longest time for which a purge may
    // hold the answer to a webhook.
    let lease = r.on_reload().value("fleet.lease", "300ms", parse::duration(INSTANT..=seconds(5)));
    // As long as a sidecar without a fleet keeps an entry.
    let alone_ttl = r.on_reload().value("fleet.alone_ttl", "60s", parse::duration(Duration::ZERO..=seconds(86_400)));
    // No lookup takes more than 50 ms longer because of the server.
    let timeout = r.on_reload().value("fleet.timeout", "25ms", parse::duration(INSTANT..=WAIT));
    // Nearly always other pods know of a write before Sezzle has answered, so the wait is usually over at once.
    let write_wait = r.on_reload().value("fleet.write_wait", "50ms", parse::duration(Duration::ZERO..=seconds(1)));
    // Off by default, because a pod that waits for the fetch of another pod depends on that pod. The other pod's mark
    // in the server ends after a second.
    let flight_wait = r.on_reload().value("fleet.flight_wait", "0s", parse::duration(Duration::ZERO..=seconds(1)));

    if let (Some(poll), Some(lease)) = (poll, lease)
        && lease < poll.saturating_mul(2)
    {
        let (lease, poll) = (units::shown(lease), units::shown(poll));
        r.conflict("fleet.lease", &format!("{lease} is less than twice fleet.poll ({poll})"));
    }
    Some(FleetTimes {
        poll: poll?,
        lease: lease?,
        alone_ttl: alone_ttl?,
        timeout: timeout?,
        write_wait: write_wait?,
        flight_wait: flight_wait?,
    })
}

const POLL: RangeInclusive<Duration> = Duration::from_millis(20)..=seconds(1);
const WAIT: Duration = Duration::from_millis(50);
