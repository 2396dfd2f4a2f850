//! `certificate`: makes a certificate for some names, and a local authority that signs the certificate.
//!
//! Such a certificate is for tests, and for networks whose services trust what their operator gives them.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::failure::Failure;
use super::help;
use super::process::say;
use crate::clock::{Clock, Wall};
use crate::file::{self, Pipes};
use crate::sezzle::time::format_http_date;
use crate::telemetry::log::new_request_id;
use crate::upstream::ca_file;
use crate::upstream::certificate::Certificate;

#[derive(Args, Debug)]
#[command(after_long_help = help::CERTIFICATE)]
pub(super) struct MakeCertificate {
    /// The names: hosts, IP addresses, or URIs such as spiffe://example/shop.
    #[arg(value_name = "NAME", required = true, value_parser = parse_name)]
    names: Vec<SanType>,
    /// Write the files into this folder, which is made if it is missing.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
}

impl MakeCertificate {
    /// Writes the files, and prints the next steps. Neither a key nor a certificate is overwritten.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { names, out } = self;
        let now = Clock::system().now().wall;
        fs::create_dir_all(&out).map_err(|error| failed(&out, error))?;
        let stem = names.iter().map(file_stem).next().unwrap_or_default();
        let (certificate, key) = (out.join(format!("{stem}.pem")), out.join(format!("{stem}.key")));
        for path in [&certificate, &key] {
            if path.symlink_metadata().is_ok() {
                return Err(failed(path, "exists already; remove it, or name another folder by --out"));
            }
        }
        let (authority, is_new) = Authority::in_folder(&out, now)?;
        let until = now.plus(CERTIFICATE_LIFE).min(authority.until);
        let own = make(|| {
            let key = KeyPair::generate()?;
            let params = params_of(names.clone(), now, until);
            Ok((params.signed_by(&key, &authority.issuer)?.pem(), key.serialize_pem()))
        })?;
        write_pair((&key, &own.1), (&certificate, &own.0))?;
        say(&next_steps(&names, &out, &certificate, &key, is_new, until));
        Ok(())
    }
}

/// Parses a host, an address or a URI.
fn parse_name(text: &str) -> Result<SanType, &'static str> {
    let host = |c: char| c.is_ascii_alphanumeric() || "-._*".contains(c);
    let name = || match text.parse() {
        Ok(address) => Some(SanType::IpAddress(address)),
        Err(_) if text.contains("://") => Some(SanType::URI(text.try_into().ok()?)),
        Err(_) if text.chars().all(host) => Some(SanType::DnsName(text.to_ascii_lowercase().try_into().ok()?)),
        Err(_) => None,
    };
    let is_plain = !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(|c| c.is_ascii_graphic());
    name().filter(|_| is_plain).ok_or("expected a host without a port, an IP address, or a URI")
}

// The longest name of DNS.
const LONGEST_NAME: usize = 253;

/// The name of the files for a certificate, without the ending.
fn file_stem(name: &SanType) -> String {
    let text = shown(name);
    let text = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' };
    let stem: String = text.trim_start_matches(['*', '.']).chars().map(safe).collect();
    // The files of the authority have this name already.
    if stem == AUTHORITY || stem.is_empty() { format!("{stem}-certificate") } else { stem }
}

/// A name as text.
fn shown(name: &SanType) -> String {
    match name {
        SanType::DnsName(name) => name.as_str().to_owned(),
        SanType::URI(uri) => uri.as_str().to_owned(),
        SanType::IpAddress(address) => address.to_string(),
        _ => String::new(),
    }
}

const AUTHORITY: &str = "authority";

/// The authority of a folder, which signs all certificates there.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// When the authority ends.
    until: Wall,
}

impl Authority {
    /// Reads the authority of a folder, or makes a new one. Also returns whether it is new.
    fn in_folder(folder: &Path, now: Wall) -> Result<(Self, bool), Failure> {
        let (certificate, key) = (folder.join(format!("{AUTHORITY}.pem")), folder.join(format!("{AUTHORITY}.key")));
        match (certificate.try_exists(), key.try_exists()) {
            (Ok(false), Ok(false)) => Ok((Self::create(&certificate, &key, now)?, true)),
            (Ok(true), Ok(true)) => Ok((Self::read(&certificate, &key, now)?, false)),
            (Ok(true), _) => Err(failed(&key, "is missing, and authority.pem is there; keep both files together")),
            (_, _) => Err(failed(&certificate, "is missing, and authority.key is there; keep both files together")),
        }
    }

    fn create(certificate: &Path, key: &Path, now: Wall) -> Result<Self, Failure> {
        // In a store of trusted certificates, a random word tells this authority from others of its kind.
        let word: String = new_request_id().to_string().chars().take(8).collect();
        let params = params_of_authority(&format!("sezzle-sidecar authority {word}"), now, now.plus(AUTHORITY_LIFE));
        let pair = make(KeyPair::generate)?;
        let own = make(|| params.self_signed(&pair))?;
        write_pair((key, &pair.serialize_pem()), (certificate, &own.pem()))?;
        Ok(Self { issuer: Issuer::new(params, pair), until: now.plus(AUTHORITY_LIFE) })
    }

    fn read(certificate: &Path, key: &Path, now: Wall) -> Result<Self, Failure> {
        let read = |path: &Path| file::read(path, LARGEST, Pipes::Refuse).map_err(|error| failed(path, error));
        let (content, key_content) = (read(certificate)?, read(key)?);
        let unusable = || failed(certificate, "is no authority that this command has made");
        let found = ca_file::certificates(&content.bytes).map_err(|error| failed(certificate, error))?;
        let der = found.first().map(|first| first.der.as_slice()).unwrap_or_default();
        let (_, read) = X509Certificate::from_der(der).map_err(|_| unusable())?;
        let Certificate { subject, not_after, .. } = Certificate::read(der).ok_or_else(unusable)?;
        let pair = str::from_utf8(&key_content.bytes).ok().and_then(|text| KeyPair::from_pem(text).ok());
        let pair = pair.ok_or_else(|| failed(key, "holds no private key in PEM"))?;
        if pair.subject_public_key_info() != read.public_key().raw {
            return Err(failed(key, "does not belong to authority.pem"));
        }
        if !read.is_ca() || not_after <= now {
            return Err(failed(certificate, "is no authority, or has ended; name another folder by --out"));
        }
        let issuer = Issuer::new(params_of_authority(&subject, now, not_after), pair);
        Ok(Self { issuer, until: not_after })
    }
}

fn params_of_authority(name: &str, now: Wall, until: Wall) -> CertificateParams {
    let mut params = params_of(Vec::new(), now, until);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = Vec::new();
    params.use_authority_key_identifier_extension = false;
    params
}

fn params_of(names: Vec<SanType>, now: Wall, until: Wall) -> CertificateParams {
    let at =
        |wall: Wall| OffsetDateTime::from_unix_timestamp(wall.0.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names.first().map(common_name).unwrap_or_default());
    params.subject_alt_names = names;
    // An hour ago, for clocks that are behind.
    params.not_before = at(Wall(now.0.saturating_sub(3_600_000)));
    params.not_after = at(until);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

/// A name cut to the 64 characters that a common name may have.
fn common_name(name: &SanType) -> String {
    shown(name).chars().take(64).collect()
}

/// A year, because some clients refuse a certificate that lasts longer than 398 days.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 86_400);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 86_400);
const LARGEST: usize = 64 * 1024;

/// Runs a step of rcgen, and makes its error ours.
fn make<T>(work: impl FnOnce() -> Result<T, rcgen::Error>) -> Result<T, Failure> {
    work().map_err(|error| Failure::NotWritten(format!("the certificate cannot be made: {error}")))
}

fn failed(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::NotWritten(format!("{}: {why}", path.display()))
}

/// Writes two new files, or neither: half of a pair would stop the next run.
fn write_pair(key: (&Path, &str), certificate: (&Path, &str)) -> Result<(), Failure> {
    write(key.0, key.1, 0o600)?;
    write(certificate.0, certificate.1, 0o644).inspect_err(|_| remove(key.0))
}

/// Writes a whole new file, or none. Fails if the file exists.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => failed(path, "exists already; remove it, or name another folder by --out"),
        _ => failed(path, error),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| {
        remove(path);
        failed(path, error)
    })
}

/// Removes a file that this run has made. An error is ignored, because the caller reports the error that led here.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// The text that tells the operator the meaning of each file and the next steps.
fn next_steps(names: &[SanType], out: &Path, certificate: &Path, key: &Path, is_new: bool, until: Wall) -> String {
    let authority = out.join(format!("{AUTHORITY}.pem"));
    let state = if is_new { "new" } else { "as before" };
    let (authority, certificate, key) = (authority.display(), certificate.display(), key.display());
    let listed = names.iter().map(shown).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "{authority} is the authority ({state}).\n\
         {}.key is the authority's key. Everybody who has this file can make certificates of this authority.\n\
         {certificate} is the certificate for {listed}, until {}.\n\
         {key} is the certificate's key.\n\n",
        out.join(AUTHORITY).display(),
        format_http_date(until)
    );
    if names.iter().any(|name| !matches!(name, SanType::URI(_))) {
        let hosts: Vec<String> = names.iter().filter(|name| needs_host(name)).map(shown).collect();
        let hosts = if hosts.is_empty() { String::new() } else { format!("    hosts = {hosts:?}\n") };
        text.push_str(&format!(
            "If the sidecar shows this certificate, set in the configuration of the sidecar:\n\n    [proxy]\n{hosts}    \
             tls.certificate_file = \"{certificate}\"\n    tls.key_file = \"{key}\"\n\nCallers then trust the authority, \
             for example by\n\n    curl --cacert {authority} https://HOST:8080/v2/customer\n\n"
        ));
    }
    text.push_str(&format!(
        "If a caller shows this certificate, set in the configuration of the sidecar:\n\n    [proxy]\n    \
         tls.client_ca_file = \"{authority}\"\n\nThe caller then shows the certificate, for example by\n\n    curl --cacert \
         AUTHORITY_OF_THE_SIDECAR --cert {certificate} --key {key} https://HOST:8080/v2/customer\n"
    ));
    text
}

/// Whether `proxy.hosts` has to name this host. Loopback needs no entry, and no entry stands for several hosts.
fn needs_host(name: &SanType) -> bool {
    matches!(name, SanType::DnsName(name) if name.as_str() != "localhost" && !name.as_str().starts_with('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let absent = path("absent").join("certificate");
        assert!(write_pair((&path("key"), "a"), (&absent, "b")).is_err());
        assert!(!path("key").exists(), "the next run can write both");
        write_pair((&path("key"), "a"), (&path("certificate"), "b")).expect("written");
        assert!(write_pair((&path("key"), "c"), (&path("other"), "d")).is_err());
        assert_eq!(fs::read_to_string(path("key")).expect("kept"), "a", "a file from before stays");
        assert!(!path("other").exists());
    }

    #[test]
    fn names_and_their_files() {
        for (text, expected) in [
            ("gateway.sezzle.com", "gateway.sezzle.com"),
            ("LOCALHOST", "localhost"),
            ("*.Example.com", "example.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "--1"),
            ("spiffe://example/ns/shop/sa/web", "example-ns-shop-sa-web"),
            ("authority", "authority-certificate"),
        ] {
            assert_eq!(file_stem(&parse_name(text).expect(text)), expected, "{text}");
        }
        for wrong in ["", "a b", "host:8080", "/etc/passwd", "ü.example", "a\n", &"a".repeat(300)] {
            assert!(parse_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
