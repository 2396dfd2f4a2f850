//! Settings that are allowed and probably a mistake.

use super::callers;
use super::materials::key_sources;
use crate::callers::secrets::Secrets;
use crate::config::Settings;
use crate::credentials::keys::{KeyPair, load_again};
use crate::secret::Secret;

/// A setting that is probably a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key of the configuration.
    pub key: &'static str,
    pub text: String,
}

/// Every setting that is probably a mistake. Reads the secrets, and leaves out those that cannot be read or come through
/// a pipe.
pub fn warnings(settings: &Settings) -> Vec<Warning> {
    let forward = settings.webhooks.forward.as_ref().and_then(|forward| forward.secret.as_ref());
    let forward = forward.and_then(|source| load_again(source).ok());
    let callers = callers::read(&settings.callers).unwrap_or_default();
    warnings_with(settings, key_sources(settings).reload().ok().as_ref(), forward.as_ref(), &callers)
}

/// Every setting that is probably a mistake, by the secrets that were read already.
pub(super) fn warnings_with(
    settings: &Settings,
    keys: Option<&KeyPair>,
    forward: Option<&Secret>,
    callers: &[Secrets],
) -> Vec<Warning> {
    let warning = |key| move |text: String| Warning { key, text };
    let environment = settings.gateway.environment.warning().map(str::to_owned);
    let keys = keys.map(|keys| key_sources(settings).doubts(keys)).unwrap_or_default();
    let links = settings.links.warning(&settings.proxy.listen);
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
        .chain(keys.into_iter().map(warning("credentials")))
        .chain(links.map(warning("links.base_url")))
        .chain(forward.map(warning("webhooks.forward_secret_file")))
        .chain(of_callers)
        .collect()
}

// Shorter secrets can be guessed by trying.
const SHORT_SECRET: usize = 16;
const SHORT: &str = "the secret has fewer than 16 bytes, and a short secret can be guessed; make a new one, for example \
                     with `openssl rand -hex 32`";
