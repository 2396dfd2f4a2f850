//! Reads the files of `proxy.tls`, and says every mistake in them.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, InconsistentKeys, RootCertStore};
use zeroize::Zeroizing;

use crate::clock::Wall;
use crate::config::settings::TlsSettings;
use crate::file::{self, Content, Pipes, ReadError};
use crate::server::tls::Offer;
use crate::sezzle::time::format_http_date;
use crate::upstream::ca_file;
use crate::upstream::certificate::{Certificate, is_authority};

/// The files of `proxy.tls`, which fit together, as the listener uses them.
#[derive(Debug)]
pub(super) struct UsableFiles {
    pub offer: Offer,
    pub fingerprint: Fingerprint,
    /// The certificate that callers are shown. Its end is the earliest end in its chain.
    pub certificate: Certificate,
    /// The bytes of the same certificate.
    pub leaf: Option<CertificateDer<'static>>,
    /// A line for each authority of callers that has ended. The listener does not use such an authority.
    pub ended: Vec<String>,
    /// Whether a file came through a pipe, which nobody can read again.
    pub from_pipe: bool,
}

/// Tells one content of the files from another, by SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Of the certificate and its key.
    pub pair: Vec<u8>,
    /// Of the authorities of callers; empty without such a file.
    pub callers: Vec<u8>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Names the key of the configuration and the file, and holds nothing of its content.
    pub text: String,
    /// Whether the file is that of the private key.
    pub of_key: bool,
    /// Whether the file is a pipe, so that the sidecar did not read it.
    pub of_pipe: bool,
}

impl Mistake {
    fn new(key: &str, path: &Path, text: impl std::fmt::Display) -> Self {
        Self { text: format!("{key}: {}: {text}", path.display()), of_key: key == KEY, of_pipe: false }
    }
}

const CERTIFICATE: &str = "proxy.tls.certificate_file";
const KEY: &str = "proxy.tls.key_file";
pub(super) const CLIENT_CA: &str = "proxy.tls.client_ca_file";

/// Reads the files, and blocks as long as the file system does.
pub(super) fn read(settings: &TlsSettings, pipes: Pipes, now: Wall) -> Result<UsableFiles, Vec<Mistake>> {
    Contents::read(settings, pipes).check(settings, now)
}

/// Reads the files as [`read`] does. `None` if their content is in use already, even if the certificate has expired
/// since.
pub(super) fn read_again(
    settings: &TlsSettings,
    in_use: &Fingerprint,
    now: Wall,
) -> Result<Option<UsableFiles>, Vec<Mistake>> {
    let contents = Contents::read(settings, Pipes::Refuse);
    // The mode of the key file may have changed without its content.
    let is_open = contents.key.as_ref().is_ok_and(others_may_write);
    if !is_open && contents.fingerprint().as_ref() == Some(in_use) {
        return Ok(None);
    }
    contents.check(settings, now).map(Some)
}

/// The bytes of the files, or why a file could not be read.
struct Contents {
    certificate: Result<Content, Mistake>,
    key: Result<Content, Mistake>,
    callers: Option<Result<Content, Mistake>>,
}

impl Contents {
    fn read(settings: &TlsSettings, pipes: Pipes) -> Self {
        let TlsSettings { certificate_file, key_file, client_ca_file } = settings;
        let content = |key, path: &Path| {
            file::read(path, LARGEST, pipes).map_err(|error| {
                let of_pipe = matches!(error, ReadError::Pipe);
                Mistake { of_pipe, ..Mistake::new(key, path, error) }
            })
        };
        let callers = client_ca_file.as_ref().map(|path| content(CLIENT_CA, path));
        Self { certificate: content(CERTIFICATE, certificate_file), key: content(KEY, key_file), callers }
    }

    /// The fingerprint of the files; `None` if one could not be read.
    fn fingerprint(&self) -> Option<Fingerprint> {
        let (Ok(certificate), Ok(key)) = (&self.certificate, &self.key) else { return None };
        let both = Zeroizing::new([certificate.bytes.as_slice(), key.bytes.as_slice()].concat());
        let callers = match &self.callers {
            None => Vec::new(),
            Some(Ok(content)) => digest(&SHA256, &content.bytes).as_ref().to_vec(),
            Some(Err(_)) => return None,
        };
        Some(Fingerprint { pair: digest(&SHA256, &both).as_ref().to_vec(), callers })
    }

    /// Makes an offer of the files, or says every mistake in them.
    fn check(self, settings: &TlsSettings, now: Wall) -> Result<UsableFiles, Vec<Mistake>> {
        let fingerprint = self.fingerprint();
        let Self { certificate, key: key_content, callers: callers_content } = self;
        let contents = [Some(&certificate), Some(&key_content), callers_content.as_ref()];
        let from_pipe = contents.into_iter().flatten().flatten().any(|content| content.from_pipe);
        let one = |mistake| vec![mistake];
        let chain = certificate.map_err(one).and_then(|found| chain(&settings.certificate_file, &found, now));
        let key = key_content.map_err(one).and_then(|found| key(&settings.key_file, &found));
        let callers = settings.client_ca_file.as_ref().zip(callers_content);
        let callers = callers.map(|(path, found)| found.map_err(one).and_then(|found| callers_of(path, &found, now)));
        let (chain, certificate, key, callers, fingerprint) = match (chain, key, callers.transpose(), fingerprint) {
            (Ok((chain, certificate)), Ok(key), Ok(callers), Some(fingerprint)) => {
                (chain, certificate, key, callers, fingerprint)
            }
            (chain, key, callers, _) => {
                return Err([chain.err(), key.err(), callers.err()].into_iter().flatten().flatten().collect());
            }
        };
        let leaf = chain.first().cloned();
        let (callers, ended) = callers.map_or((None, Vec::new()), |(authorities, ended)| (Some(authorities), ended));
        let offer = Offer::new(chain, key, callers);
        let offer = offer.map_err(|error| vec![Mistake::new(KEY, &settings.key_file, unfit(&error))])?;
        Ok(UsableFiles { offer, fingerprint, certificate, leaf, ended, from_pipe })
    }
}

/// The certificates, and the facts about the first of them.
type Chain = (Vec<CertificateDer<'static>>, Certificate);

fn chain(path: &Path, content: &Content, now: Wall) -> Result<Chain, Vec<Mistake>> {
    let mistake = |text: String| vec![Mistake::new(CERTIFICATE, path, text)];
    let found = ca_file::certificates(&content.bytes).map_err(|error| mistake(error.to_string()))?;
    let mut facts = Vec::with_capacity(found.len());
    for one in &found {
        let read = Certificate::read(&one.der);
        facts.push(read.ok_or_else(|| mistake(format!("line {}: this is not an X.509 certificate", one.line)))?);
    }
    if found.iter().map(|one| one.der.len()).sum::<usize>() > LONGEST_CHAIN {
        return Err(mistake(format!(
            "holds {} certificates of more than {LONGEST_CHAIN} bytes together, which callers refuse; leave only those \
             that lead to the issuer",
            found.len()
        )));
    }
    let mistakes: Vec<Mistake> = facts.iter().filter_map(|one| time_mistake(one, now)).flat_map(mistake).collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let ends = facts.iter().map(|one| one.not_after).min();
    let Some(first) = facts.into_iter().next() else { return Err(mistake("the file has no certificate".to_owned())) };
    let certificate = Certificate { not_after: ends.unwrap_or(first.not_after), ..first };
    let chain = found.into_iter().map(|one| CertificateDer::from(one.der)).collect();
    Ok((chain, certificate))
}

/// Says that a certificate is not valid yet, or not any more.
fn time_mistake(certificate: &Certificate, now: Wall) -> Option<String> {
    let Certificate { not_before, .. } = certificate;
    let early = || format!("the certificate {} is valid from {} on", shown(certificate), format_http_date(*not_before));
    ended(certificate, now).or_else(|| (*not_before > now).then(early))
}

fn ended(certificate: &Certificate, now: Wall) -> Option<String> {
    let Certificate { not_after, .. } = certificate;
    let late = || format!("the certificate {} ended on {}", shown(certificate), format_http_date(*not_after));
    (*not_after < now).then(late)
}

/// The name of a certificate, for messages.
fn shown(Certificate { subject, .. }: &Certificate) -> &str {
    if subject.is_empty() { "without a name" } else { subject }
}

fn key(path: &Path, content: &Content) -> Result<PrivateKeyDer<'static>, Vec<Mistake>> {
    let mistake = |text: &str| vec![Mistake::new(KEY, path, text)];
    if others_may_write(content) {
        let mode = content.mode;
        return Err(mistake(&format!(
            "users other than the owner may write this file (mode {mode:03o}); take that right away"
        )));
    }
    let is_encrypted = content.bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
    match PrivateKeyDer::from_pem_slice(&content.bytes) {
        Ok(key) => Ok(key),
        Err(_) if is_encrypted => {
            Err(mistake("the key is encrypted; write it without a passphrase, for example with `openssl pkey`"))
        }
        Err(_) => Err(mistake("holds no private key in PEM")),
    }
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn others_may_write(content: &Content) -> bool {
    content.mode & 0o022 != 0 && !content.bytes.is_empty()
}

/// The authorities of callers' certificates, and a line for each authority that has ended. rustls does not check the
/// end of an authority, so this function leaves an ended one out. Callers with certificates of the others still come
/// in.
fn callers_of(path: &Path, content: &Content, now: Wall) -> Result<(RootCertStore, Vec<String>), Vec<Mistake>> {
    let mistake = |text: String| vec![Mistake::new(CLIENT_CA, path, text)];
    let found = ca_file::certificates(&content.bytes).map_err(|error| mistake(error.to_string()))?;
    let (mut authorities, mut left_out) = (RootCertStore::empty(), Vec::new());
    for one in found {
        let (line, authority) = (one.line, is_authority(&one.der));
        if let Some(text) = Certificate::read(&one.der).filter(|_| authority).and_then(|facts| ended(&facts, now)) {
            left_out.push(text);
            continue;
        }
        let added = authorities.add(CertificateDer::from(one.der));
        added.map_err(|_| mistake(format!("line {line}: this is not an X.509 certificate")))?;
        if !authority {
            return Err(mistake(format!(
                "line {line}: this certificate may sign no others; name the file of the authority that signs those of \
                 callers"
            )));
        }
    }
    if authorities.is_empty() {
        return Err(mistake(format!("{}, and no other authority is left", left_out.join("; "))));
    }
    Ok((authorities, left_out.into_iter().map(|text| text + LEFT_OUT).collect()))
}

const LEFT_OUT: &str = ", so callers with a certificate that it signed are refused";

/// Why rustls refuses a pair, though each of its files can be read.
fn unfit(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("the key does not belong to the first certificate of {CERTIFICATE}")
        }
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
            format!("the first certificate of {CERTIFICATE} is not one that TLS uses")
        }
        other => format!("TLS cannot use this key: {other}"),
    }
}

// Four times the size of the operating systems' bundles.
const LARGEST: usize = 1024 * 1024;
// A message of the handshake has at most 64 KiB, and many clients take less.
const LONGEST_CHAIN: usize = 32 * 1024;

#[cfg(test)]
mod tests;
