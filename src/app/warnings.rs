//! Settings that are allowed and probably a mistake.

use http::Uri;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::from_settings::links_lead_to;
use super::materials::{Materials, key_sources};
use super::tls_files::{CLIENT_CA, UsableFiles};
use super::{callers, tls_files};
use crate::callers::secrets::Secrets;
use crate::clock::Clock;
use crate::config::Settings;
use crate::credentials::keys::{KeyPair, load_again};
use crate::file::Pipes;
use crate::secret::Secret;

/// A setting that is probably a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key of the configuration.
    pub key: &'static str,
    pub text: String,
}

/// Every setting that is probably a mistake. Reads the secrets, and leaves out those that cannot be read or come
/// through a pipe.
pub fn warnings(settings: &Settings) -> Vec<Warning> {
    let forward = settings.webhooks.forward.as_ref().and_then(|forward| forward.secret.as_ref());
    let forward = forward.and_then(|source| load_again(source).ok());
    let callers = callers::read(&settings.callers).unwrap_or_default();
    let tls = settings.proxy.tls.as_ref();
    let tls = tls.and_then(|files| tls_files::read(files, Pipes::Refuse, Clock::system().now().wall).ok());
    let keys = key_sources(settings).reload().ok();
    warnings_with(settings, keys.as_ref(), forward.as_ref(), &callers, tls.as_ref())
}

/// As [`warnings`], without reading the files again.
pub(super) fn warnings_of(settings: &Settings, materials: &Materials) -> Vec<Warning> {
    let Materials { keys, forward, callers, tls, .. } = materials;
    let found = tls.as_ref().map(|(_, found)| found);
    warnings_with(settings, Some(keys), forward.as_ref(), callers, found)
}

/// Logs every setting that is probably a mistake.
pub(super) fn log_warnings(settings: &Settings, materials: &Materials) {
    for Warning { key, text } in warnings_of(settings, materials) {
        tracing::warn!(key, "{text}");
    }
}

/// `tls` has the content of the files of `proxy.tls`.
fn warnings_with(
    settings: &Settings,
    keys: Option<&KeyPair>,
    forward: Option<&Secret>,
    callers: &[Secrets],
    tls: Option<&UsableFiles>,
) -> Vec<Warning> {
    let warning = |key| move |text: String| Warning { key, text };
    let environment = settings.gateway.environment.warning().map(str::to_owned);
    let keys = keys.map(|keys| key_sources(settings).doubts(keys)).unwrap_or_default();
    let links = settings.links.warning(&settings.proxy.listen);
    let shown = tls.and_then(|found| found.leaf.as_ref());
    let named = shown.and_then(|shown| uncovered(&links_lead_to(settings, &settings.proxy.listen)?, shown));
    let resolver = settings.gateway.resolver_warning(&settings.proxy.hosts);
    let ended = tls.into_iter().flat_map(|found| found.ended.clone());
    let elsewhere = settings.gateway.egress_warning();
    let is_short = |secret: &Secret| secret.expose().len() < SHORT_SECRET;
    let forward = forward.filter(|secret| is_short(secret)).map(|_| SHORT.to_owned());
    let of_callers = settings.callers.iter().zip(callers).flat_map(|(caller, Secrets { token, pair })| {
        let token = token.as_ref().map(|token| ("callers.token_file", token));
        let private = pair.as_ref().map(|(_, private)| ("callers.private_key_file", private));
        let short = token.into_iter().chain(private).filter(|(_, secret)| is_short(secret));
        short.map(|(key, _)| Warning { key, text: format!("caller {:?}: {SHORT}", caller.name) }).collect::<Vec<_>>()
    });
    environment
        .map(warning("gateway.environment"))
        .into_iter()
        .chain(resolver.into_iter().chain(elsewhere).map(warning("gateway.resolver")))
        .chain(keys.into_iter().map(warning("credentials")))
        .chain(links.into_iter().chain(named).map(warning("links.base_url")))
        .chain(forward.map(warning("webhooks.forward_secret_file")))
        .chain(ended.map(warning(CLIENT_CA)))
        .chain(of_callers)
        .collect()
}

/// A remark on links to a host that the certificate of the proxy listener does not name.
fn uncovered(base_url: &str, shown: &CertificateDer<'_>) -> Option<String> {
    let url: Uri = base_url.parse().ok()?;
    let host = url.host().filter(|_| url.scheme_str() == Some("https"))?;
    let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']')).ok()?;
    let certificate = ParsedCertificate::try_from(shown).ok()?;
    verify_server_name(&certificate, &name).is_err().then(|| {
        format!(
            "links in answers lead to {host}, which is no name of the certificate in proxy.tls.certificate_file, so \
             clients that follow a link refuse the sidecar, unless another server speaks TLS there"
        )
    })
}

// A stranger can guess a shorter secret by trying.
const SHORT_SECRET: usize = 16;
const SHORT: &str = "the secret has fewer than 16 bytes, and a short secret can be guessed; make a new one, for example \
                     with `openssl rand -hex 32`";
