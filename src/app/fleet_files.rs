//! The files that a connection to the fleet's server needs: the password, trust anchors, and a certificate of our own.

use std::sync::Arc;

use super::error::StartError;
use crate::config::settings::{FleetSettings, FleetTls};
use crate::credentials::keys::{self, KeyError};
use crate::fleet::connect::{FromFiles, ServerFiles};
use crate::secret::{Secret, SecretSource};
use crate::upstream::tls::{Identity, TlsError, Trust, client_config_as};

/// The paths of the files, which each connection reads anew, and the first password.
#[derive(Clone, Debug)]
pub struct FleetFiles {
    password: Option<(SecretSource, Secret)>,
    tls: Option<FleetTls>,
}

impl FleetFiles {
    /// Reads the files for the first time, so that an unusable file ends the start. Blocks as long as the file system
    /// does.
    pub(super) fn read(fleet: &FleetSettings) -> Result<Self, StartError> {
        let password = fleet.password.as_ref().map(|source| Ok((source.clone(), keys::load_one(source)?)));
        let password = password.transpose().map_err(StartError::FleetPassword)?;
        fleet.tls.as_ref().map(tls).transpose().map_err(StartError::FleetTls)?;
        Ok(Self { password, tls: fleet.tls.clone() })
    }
}

impl ServerFiles for FleetFiles {
    fn read(&self) -> Result<FromFiles, String> {
        let password = self.password.as_ref().map(|(source, first)| read_again(source, first)).transpose();
        let password = password.map_err(|error| format!("fleet.password_file: {error}"))?;
        let tls = self.tls.as_ref().map(tls).transpose().map_err(|error| error.to_string())?;
        Ok(FromFiles { password, tls })
    }
}

/// Reads the password again. A password that came through a pipe at the start cannot be read again, and stays in use.
fn read_again(source: &SecretSource, first: &Secret) -> Result<Secret, KeyError> {
    match keys::load_again(source) {
        Err(error) if error.is_of_pipe() => Ok(first.clone()),
        read => read,
    }
}

fn tls(FleetTls { ca_file, client }: &FleetTls) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let trust = Trust::read(ca_file.as_deref())?;
    let identity = client.as_ref().map(|client| Identity::read(&client.certificate_file, &client.key_file));
    client_config_as(&trust, identity.transpose()?).map(Arc::new)
}
