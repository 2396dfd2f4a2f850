//! Reads the files of `proxy.tls`, and says everything that is wrong with them.

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

/// Files that fit together.
#[derive(Debug)]
pub(super) struct Found {
    pub offer: Offer,
    pub print: Print,
    /// The certificate that callers are shown. Its end is the first one of its chain.
    pub certificate: Certificate,
    /// The same certificate, whole.
    pub leaf: Option<CertificateDer<'static>>,
    /// A line for each authority of callers that has ended, and so is left out.
    pub ended: Vec<String>,
    /// Whether a file came through a pipe, which cannot be read again.
    pub from_pipe: bool,
}

/// Tells one content of the files from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Print {
    pub pair: Vec<u8>,
    pub callers: Vec<u8>,
}

/// A file that cannot be used. The text names the key of the configuration and the file, and none of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub text: String,
    /// Whether the file is that of the private key.
    pub of_key: bool,
    /// Whether nothing is known of the file but that it is a pipe.
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
pub(super) fn read(settings: &TlsSettings, pipes: Pipes, now: Wall) -> Result<Found, Vec<Mistake>> {
    Contents::read(settings, pipes).fit(settings, now)
}

/// Reads the files as [`read`] does; `None` if they hold what is in use. The certificate in use may have expired since.
pub(super) fn read_again(settings: &TlsSettings, in_use: &Print, now: Wall) -> Result<Option<Found>, Vec<Mistake>> {
    let contents = Contents::read(settings, Pipes::Refuse);
    // The rights to the key file may have changed alone.
    let is_open = contents.key.as_ref().is_ok_and(others_may_write);
    if !is_open && contents.print().as_ref() == Some(in_use) {
        return Ok(None);
    }
    contents.fit(settings, now).map(Some)
}

/// The files as they were read, before anything in them is looked at.
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

    /// `None` if a file was not read.
    fn print(&self) -> Option<Print> {
        let (Ok(certificate), Ok(key)) = (&self.certificate, &self.key) else { return None };
        let both = Zeroizing::new([certificate.bytes.as_slice(), key.bytes.as_slice()].concat());
        let callers = match &self.callers {
            None => Vec::new(),
            Some(Ok(content)) => digest(&SHA256, &content.bytes).as_ref().to_vec(),
            Some(Err(_)) => return None,
        };
        Some(Print { pair: digest(&SHA256, &both).as_ref().to_vec(), callers })
    }

    /// Makes an offer of the files, or says everything that is wrong with them.
    fn fit(self, settings: &TlsSettings, now: Wall) -> Result<Found, Vec<Mistake>> {
        let print = self.print();
        let Self { certificate, key: key_content, callers: callers_content } = self;
        let contents = [Some(&certificate), Some(&key_content), callers_content.as_ref()];
        let from_pipe = contents.into_iter().flatten().flatten().any(|content| content.from_pipe);
        let one = |mistake| vec![mistake];
        let chain = certificate.map_err(one).and_then(|found| chain(&settings.certificate_file, &found, now));
        let key = key_content.map_err(one).and_then(|found| key(&settings.key_file, &found));
        let callers = settings.client_ca_file.as_ref().zip(callers_content);
        let callers = callers.map(|(path, found)| found.map_err(one).and_then(|found| callers_of(path, &found, now)));
        let (chain, certificate, key, callers, print) = match (chain, key, callers.transpose(), print) {
            (Ok((chain, certificate)), Ok(key), Ok(callers), Some(print)) => (chain, certificate, key, callers, print),
            (chain, key, callers, _) => {
                return Err([chain.err(), key.err(), callers.err()].into_iter().flatten().flatten().collect());
            }
        };
        let leaf = chain.first().cloned();
        let (callers, ended) = callers.map_or((None, Vec::new()), |(authorities, ended)| (Some(authorities), ended));
        let offer = Offer::new(chain, key, callers);
        let offer = offer.map_err(|error| vec![Mistake::new(KEY, &settings.key_file, unfit(&error))])?;
        Ok(Found { offer, print, certificate, leaf, ended, from_pipe })
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
    let mistakes: Vec<Mistake> = facts.iter().filter_map(|one| untimely(one, now)).flat_map(mistake).collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let ends = facts.iter().map(|one| one.not_after).min();
    let Some(first) = facts.into_iter().next() else { return Err(mistake("the file has no certificate".to_owned())) };
    let certificate = Certificate { not_after: ends.unwrap_or(first.not_after), ..first };
    let chain = found.into_iter().map(|one| CertificateDer::from(one.der)).collect();
    Ok((chain, certificate))
}

fn untimely(certificate: &Certificate, now: Wall) -> Option<String> {
    let Certificate { not_before, .. } = certificate;
    let early = || format!("the certificate {} is valid from {} on", shown(certificate), format_http_date(*not_before));
    ended(certificate, now).or_else(|| (*not_before > now).then(early))
}

fn ended(certificate: &Certificate, now: Wall) -> Option<String> {
    let Certificate { not_after, .. } = certificate;
    let late = || format!("the certificate {} ended on {}", shown(certificate), format_http_date(*not_after));
    (*not_after < now).then(late)
}

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

/// The authorities of callers' certificates, and a line for each that has ended. rustls does not ask whether an authority
/// has, so such a one is left out, and callers of the others still come in.
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

/// Why a pair cannot be used, though each of its files can be read.
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
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;
    use crate::sezzle::time::parse_rfc3339;

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().expect("a folder"));
            let (certificate, key) = pair();
            folder.write("certificate", &certificate);
            folder.write("key", &key);
            folder
        }

        fn write(&self, name: &str, content: impl AsRef<[u8]>) {
            let path = self.0.path().join(name);
            fs::write(&path, content).expect("written");
            fs::set_permissions(path, Permissions::from_mode(0o600)).expect("an own file");
        }

        fn read(&self, callers: bool) -> Result<Found, Vec<String>> {
            let now = parse_rfc3339("2026-06-01T00:00:00Z").expect("a time");
            let texts = |all: Vec<Mistake>| all.into_iter().map(|mistake| mistake.text).collect();
            read(&self.settings(callers), Pipes::Refuse, now).map_err(texts)
        }

        fn read_again(&self, in_use: &Print, now: &str) -> Result<Option<Found>, Vec<String>> {
            let now = parse_rfc3339(now).expect("a time");
            let texts = |all: Vec<Mistake>| all.into_iter().map(|mistake| mistake.text).collect();
            read_again(&self.settings(false), in_use, now).map_err(texts)
        }

        fn settings(&self, callers: bool) -> TlsSettings {
            let path = |name: &str| self.0.path().join(name);
            TlsSettings {
                certificate_file: path("certificate"),
                key_file: path("key"),
                client_ca_file: callers.then(|| path("callers")),
            }
        }

        fn mistakes(&self) -> Vec<String> {
            self.read(false).expect_err("mistakes")
        }
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::new(vec!["sidecar.internal".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        params
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        (params().self_signed(&key).expect("signs").pem(), key.serialize_pem())
    }

    fn authority() -> String {
        authority_until(2027)
    }

    /// The certificate of an authority that ends with the year before this one.
    fn authority_until(year: i32) -> String {
        let mut params = params();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        params.distinguished_name.push(DnType::CommonName, format!("root until {year}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signs").pem()
    }

    #[test]
    fn authorities_of_callers_may_sign() {
        let folder = Folder::new();
        folder.write("callers", authority() + &pair().0);
        let said = folder.read(true).expect_err("a mistake").concat();
        assert!(said.starts_with("proxy.tls.client_ca_file: ") && said.contains("may sign no others"), "{said}");
    }

    #[test]
    fn an_authority_that_has_ended_is_left_out() {
        let folder = Folder::new();
        let (old, new) = (authority_until(2026), authority());
        folder.write("callers", format!("{old}{new}"));
        let both = folder.read(true).expect("usable");
        let expected = "the certificate root until 2026 ended on Thu, 01 Jan 2026 00:00:00 GMT, so callers with a certificate \
                        that it signed are refused";
        assert_eq!(both.ended, [expected]);
        folder.write("callers", &new);
        let alone = folder.read(true).expect("usable");
        assert!(alone.ended.is_empty() && alone.print.callers != both.print.callers);
        folder.write("callers", format!("{old}{old}"));
        let said = folder.read(true).expect_err("a mistake").concat();
        assert!(
            said.starts_with("proxy.tls.client_ca_file: ") && said.ends_with("no other authority is left"),
            "{said}"
        );
    }

    #[test]
    fn files_that_fit_are_used() {
        let folder = Folder::new();
        let first = folder.read(false).expect("usable");
        assert_eq!(Some(first.certificate.not_after), parse_rfc3339("2027-01-01T00:00:00Z"));
        assert_eq!(folder.read(false).expect("usable").print, first.print);
        folder.write("callers", authority());
        let asking = folder.read(true).expect("usable");
        assert!(asking.print.pair == first.print.pair && asking.print.callers != first.print.callers);
        let (certificate, key) = pair();
        folder.write("certificate", certificate);
        folder.write("key", key);
        assert_ne!(folder.read(false).expect("usable").print, first.print);
    }

    #[test]
    fn files_that_hold_what_is_in_use_stay_usable_after_their_end() {
        let folder = Folder::new();
        let in_use = folder.read(false).expect("usable").print;
        let ended = "2028-01-01T00:00:00Z";
        assert!(folder.read_again(&in_use, ended).expect("unchanged").is_none());
        fs::set_permissions(folder.0.path().join("key"), Permissions::from_mode(0o666)).expect("an own file");
        assert!(folder.read_again(&in_use, ended).expect_err("open").concat().contains("mode 666"));
        let (certificate, key) = pair();
        folder.write("certificate", certificate);
        folder.write("key", key);
        assert!(folder.read_again(&in_use, ended).expect_err("changed").concat().contains("ended on"));
        let changed = folder.read_again(&in_use, "2026-06-01T00:00:00Z").expect("usable").expect("changed");
        assert_ne!(changed.print, in_use);
    }

    #[test]
    fn every_mistake_is_said_at_once_and_in_words() {
        let folder = Folder::new();
        folder.write("key", "");
        folder.write("certificate", "none");
        let all = folder.read(true).expect_err("three mistakes");
        assert_eq!(all.len(), 3, "{all:?}");
        for (said, expected) in all.iter().zip(["the file has no certificate", "holds no private key", "No such file"])
        {
            assert!(said.contains(expected) && said.starts_with("proxy.tls."), "{said}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_pair() {
        let folder = Folder::new();
        folder.write("key", pair().1);
        assert!(folder.mistakes()[0].ends_with(
            "the key does not belong to the first certificate of \
                                                proxy.tls.certificate_file"
        ));
        folder.write("key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----");
        assert!(folder.mistakes()[0].contains("the key is encrypted"));
        let (certificate, key) = pair();
        folder.write("key", &key);
        fs::set_permissions(folder.0.path().join("key"), Permissions::from_mode(0o620)).expect("an own file");
        assert!(folder.mistakes()[0].contains("may write this file (mode 620)"));
        folder.write("key", &key);
        folder.write("certificate", certificate.repeat(120));
        assert!(folder.mistakes()[0].contains("holds 120 certificates"));
        let signed = |change: fn(&mut CertificateParams)| {
            let (mut params, key) = (params(), KeyPair::generate().expect("a key"));
            change(&mut params);
            folder.write("certificate", params.self_signed(&key).expect("signs").pem());
            folder.write("key", key.serialize_pem());
            folder.mistakes()
        };
        assert!(signed(|params| params.not_after = date_time_ymd(2026, 5, 1))[0].contains("ended on Fri, 01 May 2026"));
        assert!(
            signed(|params| params.not_before = date_time_ymd(2026, 7, 1))[0].contains("is valid from Wed, 01 Jul")
        );
    }
}
