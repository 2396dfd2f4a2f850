//! The keys `proxy.tls.*`: the certificate by which the sidecar proves its name to callers.

use std::path::PathBuf;

use crate::address::Address;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// A file in PEM: the sidecar's own certificate first, then the certificates that lead to its issuer.
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// A file in PEM with the authorities of callers' certificates. `None` if the sidecar asks no caller for a
    /// certificate.
    pub client_ca_file: Option<PathBuf>,
}

/// `Some(None)` for plain HTTP.
pub(super) fn read(r: &mut Reader<'_>, listen: Option<&[Address]>) -> Option<Option<TlsSettings>> {
    let certificate_file = r.optional(CERTIFICATE, parse::path);
    let key_file = r.optional(KEY, parse::secret_file);
    let client_ca_file = r.optional(CLIENT_CA, parse::path);
    let (certificate_file, key_file, client_ca_file) = (certificate_file?, key_file?, client_ca_file?);

    let set =
        [(CERTIFICATE, certificate_file.is_some()), (KEY, key_file.is_some()), (CLIENT_CA, client_ca_file.is_some())];
    let Some((first, _)) = set.into_iter().find(|(_, is_set)| *is_set) else { return Some(None) };
    if let Some(listen) = listen
        && listen.iter().all(|address| address.tcp().is_none())
    {
        r.conflict(first, "proxy.listen has no TCP address, and Unix sockets have no TLS");
    }
    for (key, is_set) in set.into_iter().take(2) {
        if !is_set {
            r.missing(key, format!("required with {first}"));
        }
    }
    let (certificate_file, key_file) = (certificate_file?, key_file?);
    Some(Some(TlsSettings { certificate_file, key_file, client_ca_file }))
}

const CERTIFICATE: &str = "proxy.tls.certificate_file";
const KEY: &str = "proxy.tls.key_file";
const CLIENT_CA: &str = "proxy.tls.client_ca_file";
