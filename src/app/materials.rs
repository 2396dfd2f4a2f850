//! Reads the files that the settings name: keys, trust anchors, other secrets. Holds the threads for blocking calls.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::callers;
use super::error::StartError;
use super::fleet_files::FleetFiles;
use super::tls_files::{self, UsableFiles};
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
    /// Starts the first thread of each kind. These threads stay, so that later work needs no new thread.
    pub fn start() -> io::Result<Self> {
        Ok(Self { files: Threads::start("files", MOST_READERS)?, resolver: Resolver::start()? })
    }
}

// Each attempt on a hanging file system blocks one thread.
const MOST_READERS: usize = 4;

/// The content of the files that the settings name.
#[derive(Debug)]
pub struct Materials {
    pub(super) keys: KeyPair,
    pub(super) files: KeyFiles,
    pub(super) trust: Trust,
    pub(super) egress: Option<Secret>,
    pub(super) forward: Option<Secret>,
    /// One element for each caller of the configuration.
    pub(super) callers: Vec<Secrets>,
    /// The paths of `proxy.tls`, and the content of the files.
    pub(super) tls: Option<(TlsSettings, UsableFiles)>,
    /// The name servers to ask; empty for the system's resolver.
    pub(super) name_servers: Vec<SocketAddr>,
    pub(super) fleet: Option<FleetFiles>,
    /// The keys that seal shared bodies.
    pub(super) fleet_keys: Option<Keys>,
}

impl Materials {
    /// Reads every file. The error names every unusable file. Blocks as long as the file system does, and a limited
    /// time on pipes.
    pub fn read(settings: &Settings) -> Result<Self, StartError> {
        let mut errors = Vec::new();
        let sources = key_sources(settings);
        let keys = noted(sources.load().map_err(StartError::Key), &mut errors);
        let trust = Trust::read(settings.gateway.ca_file.as_deref());
        let trust = noted(trust.map_err(StartError::Tls), &mut errors);
        let egress = settings.gateway.egress_proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref());
        let egress = noted(optional(egress).map_err(StartError::EgressKey), &mut errors);
        let forward = settings.webhooks.forward.as_ref().and_then(|forward| forward.secret.as_ref());
        let forward = noted(optional(forward).map_err(StartError::WebhookKey), &mut errors);
        let tls = noted(proxy_tls(settings), &mut errors);
        let name_servers = noted(name_servers(&settings.gateway.resolver), &mut errors);
        let fleet = noted(settings.fleet.as_ref().map(FleetFiles::read).transpose(), &mut errors);
        let key_file = settings.fleet.as_ref().and_then(|fleet| fleet.key_file.as_ref());
        let fleet_keys = key_file.map(|file| Keys::read(file, Pipes::Wait)).transpose();
        let fleet_keys = noted(fleet_keys.map_err(StartError::FleetKeys), &mut errors);
        let callers = noted(callers::read(&settings.callers).map_err(StartError::Callers), &mut errors);

        let materials = || {
            let (keys, read_once) = keys?;
            let files = KeyFiles { sources, read_once };
            let (trust, egress, forward, callers, tls) = (trust?, egress?, forward?, callers?, tls?);
            let (name_servers, fleet, fleet_keys) = (name_servers?, fleet?, fleet_keys?);
            Some(Self { keys, files, trust, egress, forward, callers, tls, name_servers, fleet, fleet_keys })
        };
        let materials = materials().ok_or_else(|| StartError::several(errors))?;
        materials.files.sources.warn_of_readers();
        let tls_key = settings.proxy.tls.as_ref().map(|tls| &tls.key_file);
        for file in key_file.into_iter().chain(tls_key) {
            keys::warn_of_readers(&SecretSource::File(file.clone()));
        }
        callers::warn_of_readers(&settings.callers);
        Ok(materials)
    }
}

/// The value, or `None` after its error was added to `errors`.
fn noted<T>(result: Result<T, StartError>, errors: &mut Vec<StartError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

/// Opens and locks the audit file; `None` if no file is configured. Only a start calls this function: the online check
/// must leave the file to the sidecar that runs. Blocks as long as the file system does.
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

fn proxy_tls(settings: &Settings) -> Result<Option<(TlsSettings, UsableFiles)>, StartError> {
    let Some(files) = &settings.proxy.tls else { return Ok(None) };
    let found = tls_files::read(files, Pipes::Wait, Clock::system().now().wall);
    Ok(Some((files.clone(), found.map_err(StartError::ProxyTls)?)))
}

/// Checks the files of `proxy.tls`. The error has every mistake in them. A pipe is not checked, because it can be read
/// only once.
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
