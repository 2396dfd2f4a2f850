//! Reads the files that the settings name: keys, trust anchors, other secrets. Holds the threads for blocking calls.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::callers;
use super::error::StartError;
use super::fleet_files::FleetFiles;
use super::tls_files::{self, Found};
use crate::audit::OpenFile;
use crate::callers::secrets::Secrets;
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::settings::{ResolverSettings, TlsSettings};
use crate::credentials::keys::{self, KeyFiles, KeyPair, KeySources};
use crate::file::{self, Pipes};
use crate::fleet::keys::Keys;
use crate::names::{self, Resolver};
use crate::secret::{Secret, SecretSource};
use crate::threads::Threads;
use crate::upstream::tls::Trust;

/// Threads for blocking calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blocking {
    pub files: Threads,
    pub resolver: Resolver,
}

impl Blocking {
    /// Starts the first thread for each purpose. These threads stay, so that later work needs no new thread.
    pub fn start() -> io::Result<Self> {
        Ok(Self { files: Threads::start("files", MOST_READERS)?, resolver: Resolver::start()? })
    }
}

// Each attempt on a hanging file system blocks one thread.
const MOST_READERS: usize = 4;

#[derive(Debug)]
pub struct Materials {
    pub(super) keys: KeyPair,
    pub(super) files: KeyFiles,
    pub(super) trust: Trust,
    pub(super) egress: Option<Secret>,
    pub(super) forward: Option<Secret>,
    /// One for each of the callers.
    pub(super) callers: Vec<Secrets>,
    /// The files of `proxy.tls`, and what they held.
    pub(super) tls: Option<(TlsSettings, Found)>,
    /// The name servers to ask; none for the system's resolver.
    pub(super) name_servers: Vec<SocketAddr>,
    pub(super) fleet: Option<FleetFiles>,
    /// The keys that seal shared bodies.
    pub(super) fleet_keys: Option<Keys>,
}

impl Materials {
    /// Reads every file. Blocks as long as the file system does, and a limited time on pipes. The error names every
    /// unusable file.
    pub fn read(settings: &Settings) -> Result<Self, StartError> {
        let sources = key_sources(settings);
        let keys = sources.load().map_err(StartError::Key);
        let trust = Trust::read(settings.gateway.ca_file.as_deref()).map_err(StartError::Tls);
        let egress = settings.gateway.egress_proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref());
        let egress = optional(egress).map_err(StartError::EgressKey);
        let forward = settings.webhooks.forward.as_ref().and_then(|forward| forward.secret.as_ref());
        let forward = optional(forward).map_err(StartError::WebhookKey);
        let fleet = settings.fleet.as_ref().map(FleetFiles::read).transpose();
        let key_file = settings.fleet.as_ref().and_then(|fleet| fleet.key_file.as_ref());
        let fleet_keys = key_file.map(|file| Keys::read(file, Pipes::Wait)).transpose().map_err(StartError::FleetKeys);
        let callers = callers::read(&settings.callers).map_err(StartError::Callers);
        let tls = proxy_tls(settings);
        let name_servers = name_servers(&settings.gateway.resolver);
        match (keys, trust, egress, forward, tls, name_servers, fleet, fleet_keys, callers) {
            (
                Ok((keys, read_once)),
                Ok(trust),
                Ok(egress),
                Ok(forward),
                Ok(tls),
                Ok(name_servers),
                Ok(fleet),
                Ok(fleet_keys),
                Ok(callers),
            ) => {
                sources.warn_of_readers();
                key_file.iter().for_each(|file| keys::warn_of_readers(&SecretSource::File(file.to_path_buf())));
                let tls_key = settings.proxy.tls.as_ref().map(|tls| SecretSource::File(tls.key_file.clone()));
                tls_key.iter().for_each(keys::warn_of_readers);
                callers::warn_of_readers(&settings.callers);
                let files = KeyFiles { sources, read_once };
                Ok(Self { keys, files, trust, egress, forward, callers, tls, name_servers, fleet, fleet_keys })
            }
            (keys, trust, egress, forward, tls, name_servers, fleet, fleet_keys, callers) => {
                let others = [tls.err(), name_servers.err(), fleet.err(), fleet_keys.err(), callers.err()];
                let all = [keys.err(), trust.err(), egress.err(), forward.err()].into_iter().chain(others);
                Err(StartError::several(all.flatten().collect()))
            }
        }
    }
}

/// Opens and locks the audit file, for a start alone: the online check must leave it to the sidecar that runs. Blocks as
/// long as the file system does.
pub fn open_audit(settings: &Settings) -> Result<Option<OpenFile>, StartError> {
    Ok(settings.audit.file.clone().map(OpenFile::open).transpose()?)
}

fn name_servers(resolver: &ResolverSettings) -> Result<Vec<SocketAddr>, StartError> {
    match resolver {
        ResolverSettings::System => Ok(Vec::new()),
        ResolverSettings::NameServers(servers) if !servers.is_empty() => Ok(servers.clone()),
        ResolverSettings::NameServers(_) => {
            let content = file::read(Path::new(RESOLV_CONF), LARGEST_RESOLV_CONF, Pipes::Refuse);
            let content = content.map_err(|error| StartError::NameServers(format!("{RESOLV_CONF} {error}")))?;
            let servers = names::parse_resolv_conf(&String::from_utf8_lossy(&content.bytes));
            let none = || StartError::NameServers(format!("{RESOLV_CONF} names no name server"));
            if servers.is_empty() { Err(none()) } else { Ok(servers) }
        }
    }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const LARGEST_RESOLV_CONF: usize = 64 * 1024;

fn proxy_tls(settings: &Settings) -> Result<Option<(TlsSettings, Found)>, StartError> {
    let Some(files) = &settings.proxy.tls else { return Ok(None) };
    let found = tls_files::read(files, Pipes::Wait, Clock::system().now().wall);
    Ok(Some((files.clone(), found.map_err(StartError::ProxyTls)?)))
}

/// Everything that is wrong with the files of `proxy.tls`. A file behind a pipe cannot be checked, because a pipe can be
/// read only once.
pub fn check_proxy_tls(settings: &Settings) -> Result<(), StartError> {
    let Some(files) = &settings.proxy.tls else { return Ok(()) };
    match tls_files::read(files, Pipes::Refuse, Clock::system().now().wall) {
        Err(mistakes) if !mistakes.iter().all(|mistake| mistake.of_pipe) => Err(StartError::ProxyTls(mistakes)),
        Ok(_) | Err(_) => Ok(()),
    }
}

pub(super) fn key_sources(settings: &Settings) -> KeySources {
    let credentials = &settings.credentials;
    KeySources { public: credentials.public_key.clone(), private: credentials.private_key.clone() }
}

fn optional(source: Option<&SecretSource>) -> Result<Option<Secret>, keys::KeyError> {
    source.map(keys::load_one).transpose()
}
