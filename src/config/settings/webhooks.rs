//! The section `webhooks`: a listener for Sezzle's webhooks, and the service to which the sidecar forwards them.

use super::listen::is_taken;
use crate::address::Address;
use crate::config::parse;
use crate::config::reader::Reader;
use crate::secret::SecretSource;

#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// The address of the webhook listener; `None` for no such listener.
    pub listen: Option<Address>,
    /// The only path at which the listener accepts webhooks.
    pub path: String,
    /// The service that gets the webhooks; `None` if the sidecar forwards none.
    pub forward: Option<ForwardSettings>,
    /// The URL at which Sezzle reaches the listener.
    pub public_url: Option<String>,
    pub subscription: Subscription,
}

/// The sidecar's part in Sezzle's subscription of `webhooks.public_url`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    Off,
    Watch,
    /// Register the subscription, and register it again after Sezzle has deleted it.
    Keep,
}

#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// A whole URL: https, or http to a loopback address.
    pub url: String,
    /// The secret that signs forwarded webhooks.
    pub secret: Option<SecretSource>,
}

/// `others` has the addresses of the other listeners, with their keys.
pub(super) fn read(r: &mut Reader<'_>, others: &[(&str, &[Address])]) -> Option<WebhookSettings> {
    let listen = r.optional("webhooks.listen", parse::address);
    let path = r.value("webhooks.path", "/webhooks/sezzle", parse::url_path);
    let forward_to = r.for_operators().optional("webhooks.forward_to", parse::forward_to);
    let secret = r.optional_secret("webhooks.forward_secret", "webhooks.forward_secret_file");

    if let Some(Some(address)) = &listen {
        for (key, addresses) in others {
            if is_taken(address, Some(addresses)) {
                r.conflict("webhooks.listen", &format!("{address} is taken by {key}"));
            }
        }
    }
    if let (Some(None), Some(Some(_))) = (&listen, &forward_to) {
        r.conflict("webhooks.forward_to", "webhooks.listen is not set, so no webhook arrives that could be forwarded");
    }
    let public_url = r.for_operators().optional("webhooks.public_url", parse::forward_to);
    let words = [("off", Subscription::Off), ("watch", Subscription::Watch), ("keep", Subscription::Keep)];
    let subscription = r.value("webhooks.subscription", "off", parse::choice(words));
    if subscription.is_some_and(|subscription| subscription != Subscription::Off) {
        if matches!(public_url, Some(None)) {
            r.conflict("webhooks.subscription", "webhooks.public_url is not set, so no URL is known to look for");
        }
        if matches!(listen, Some(None)) {
            r.conflict("webhooks.subscription", "webhooks.listen is not set, so no webhooks arrive");
        }
    }
    if let (Some(Some(listen)), Some(path), Some(Some(url))) = (&listen, &path, &forward_to)
        && *url == format!("http://{listen}{path}")
    {
        r.conflict("webhooks.forward_to", "this is the address of the webhook listener itself");
    }
    if let (Some(None), Some(Some(source))) = (&forward_to, &secret) {
        let key = match source {
            SecretSource::File(_) => "webhooks.forward_secret_file",
            SecretSource::Variable { .. } => "webhooks.forward_secret",
        };
        r.conflict(key, "webhooks.forward_to is not set, so there are no webhooks to sign");
    }
    let secret = secret?;
    let forward = forward_to?.map(|url| ForwardSettings { url, secret });
    let (public_url, subscription) = (public_url?, subscription?);
    Some(WebhookSettings { listen: listen?, path: path?, forward, public_url, subscription })
}
