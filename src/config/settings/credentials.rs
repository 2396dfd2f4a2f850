//! The section `credentials`: the merchant's keys.

use crate::config::parse;
use crate::config::reader::Reader;
use crate::secret::SecretSource;

#[derive(Clone, Debug)]
pub struct CredentialSettings {
    pub public_key: SecretSource,
    pub private_key: SecretSource,
    /// The only merchant that the keys may belong to; `None` for any.
    pub merchant_uuid: Option<String>,
}

pub(super) fn read(r: &mut Reader<'_>) -> Option<CredentialSettings> {
    let public_key = r.on_reload().secret("credentials.public_key", "credentials.public_key_file");
    let private_key = r.on_reload().secret("credentials.private_key", "credentials.private_key_file");
    let merchant_uuid = r.for_operators().optional("credentials.merchant_uuid", parse::identifier);

    Some(CredentialSettings { public_key: public_key?, private_key: private_key?, merchant_uuid: merchant_uuid? })
}
